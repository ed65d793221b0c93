package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coreos/go-semver/semver"

	"etcd-steward/membership/probe"
)

// oldestKept is the oldest minor version that etcd still mends.
var oldestKept = semver.Version{Major: 3, Minor: 5}

// versions judges what members run: whether they differ, and what is known of it.
func (j *judge) versions() {
	byVersion := map[semver.Version][]*probe.Answer{}
	for _, a := range j.ours() {
		v, err := semver.NewVersion(a.Version)
		if err != nil {
			continue // some build of nobody's
		}
		plain := semver.Version{Major: v.Major, Minor: v.Minor, Patch: v.Patch}
		byVersion[plain] = append(byVersion[plain], a)
		if a.Downgrade != "" {
			j.add(Info, Downgrade, a.MemberID, Finding{Text: "the cluster is being downgraded", Evidence: "to " + a.Downgrade, Next: "etcdctl downgrade cancel, when that was not meant"})
		}
	}
	all := slices.SortedFunc(maps.Keys(byVersion), func(a, b semver.Version) int { return a.Compare(b) })
	if len(all) == 0 {
		return
	}
	j.skew(all, byVersion)
	j.known(all, byVersion)
}

// skew judges versions that differ; all is sorted.
func (j *judge) skew(all []semver.Version, by map[semver.Version][]*probe.Answer) {
	oldest, newest := all[0], all[len(all)-1]
	if len(all) > 1 {
		var who []string
		for _, v := range all {
			who = append(who, fmt.Sprintf("%s: %s", v, j.names(by[v])))
		}
		f := Finding{Text: "members run different patch versions", Evidence: strings.Join(who, "; "), Next: "finish the upgrade: one member at a time, the leader last"}
		severity := Info
		switch {
		case newest.Major != oldest.Major || newest.Minor-oldest.Minor > 1:
			severity, f.Text = Critical, "members run versions that do not work together"
			f.Next = "bring all to one minor version, or two that follow each other"
		case newest.Minor != oldest.Minor:
			severity, f.Text = Warning, "members run different minor versions: the cluster is in mid-upgrade, and speaks the older one"
		}
		j.add(severity, VersionSkew, 0, f)
	}
	if oldest.LessThan(oldestKept) {
		j.add(Warning, VersionOld, 0, Finding{
			Text: "this version gets no fixes any more", Evidence: fmt.Sprintf("%s: %s", oldest, j.names(by[oldest])), Next: "upgrade, one minor version at a time",
		})
	}
}

// known judges versions by the bugs that they are known to have.
func (j *judge) known(all []semver.Version, by map[semver.Version][]*probe.Answer) {
	for _, b := range bugs {
		var who, fixes []string
		for _, v := range all {
			if fixed, hit := b.hits(v); hit {
				who = append(who, fmt.Sprintf("%s (%s)", j.names(by[v]), v))
				fixes = append(fixes, fixed.String())
			}
		}
		if len(who) > 0 {
			j.add(b.severity, VersionBug, 0, Finding{
				Text: "this version has a known bug: " + b.text, Evidence: strings.Join(who, ", ") + "; " + b.source, Next: "upgrade to " + strings.Join(slices.Compact(fixes), " or ") + " or newer",
			})
		}
	}
}
