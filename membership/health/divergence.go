package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"etcd-steward/membership/probe"
)

// divergeNext: which history is the right one, no machine can say; most members may have the wrong one.
const divergeNext = "steward backup create; find out whose data is right (docs/HEALTH.md, divergence); then each of the others: steward member replace NAME --force REASON"

// divergence judges whether members that are one cluster have one history. etcd itself notices nothing of it: all are healthy and no alarm is raised.
func (j *judge) divergence() {
	j.hashes()
	j.revisions()
}

// hashes compares HashKV at one revision. Where it differs, the smaller group is named.
func (j *judge) hashes() {
	if !j.View.Hashed || len(j.ours()) < 2 {
		return
	}
	type place struct{ revision, compact int64 }
	groups := map[place]map[uint32][]*probe.Answer{}
	var unknown []string
	for _, a := range j.ours() {
		switch {
		case a.Hash != nil:
			p := place{a.Hash.Revision, a.Hash.Compact}
			if groups[p] == nil {
				groups[p] = map[uint32][]*probe.Answer{}
			}
			groups[p][a.Hash.Sum] = append(groups[p][a.Hash.Sum], a)
		case !a.Learner && a.HashErr != nil:
			unknown = append(unknown, fmt.Sprintf("%s: %v", j.name(a.MemberID), a.HashErr))
		}
	}
	for p, sums := range groups {
		if len(sums) > 1 {
			j.add(Critical, Divergence, 0, Finding{
				Text: "members hold different data at one revision", Evidence: fmt.Sprintf("at revision %d, compacted at %d: %s", p.revision, p.compact, j.sums(sums)), Next: divergeNext,
			})
		}
	}
	if len(groups) > 1 {
		unknown = append(unknown, "members are compacted at different revisions")
	}
	if len(unknown) > 0 {
		j.add(Info, HashUnknown, 0, Finding{Text: "not all members' data could be compared", Evidence: strings.Join(unknown, "; "), Next: "give it more time: steward health --timeout 1m", Confidence: Certain})
	}
}

// sums names who has which hash, the majority first.
func (j *judge) sums(sums map[uint32][]*probe.Answer) string {
	keys := slices.SortedFunc(maps.Keys(sums), func(a, b uint32) int { return cmp.Or(len(sums[b])-len(sums[a]), cmp.Compare(a, b)) })
	var all []string
	for _, k := range keys {
		all = append(all, fmt.Sprintf("%s %08x", j.names(sums[k]), k))
	}
	return strings.Join(all, ", ")
}

// revisions finds members that have applied no more than another, and are at a higher revision: the same entries would have led to the same revision. This
// shows a split also while the smaller revision's data is still the same on both.
func (j *judge) revisions() {
	told := map[[2]uint64]bool{}
	for _, a := range j.ours() {
		for _, b := range j.ours() {
			pair := [2]uint64{min(a.MemberID, b.MemberID), max(a.MemberID, b.MemberID)}
			sure, odd := ahead(a, b)
			if !odd || told[pair] {
				continue
			}
			told[pair] = true
			j.add(Critical, Divergence, 0, Finding{
				Text:     "members that have applied the same are at different revisions",
				Evidence: fmt.Sprintf("%s at revision %d after entry %d, %s at %d after %d", j.name(a.MemberID), a.Revision, a.Applied, j.name(b.MemberID), b.After.Revision, b.Applied),
				Next:     divergeNext, Confidence: sure,
			})
		}
	}
	// Whoever leads, with a quorum, has every entry that anybody may apply; it was asked again after all others had answered.
	leader := j.leading()
	if leader == nil || !j.agreed.Quorum || leader.After.Leader != leader.MemberID {
		return
	}
	for _, a := range j.ours() {
		if a.Leader != leader.MemberID && a.Leader != 0 && a.Term > leader.After.Term {
			continue // another was elected meanwhile, and the old leader has not heard of it
		}
		if a.Applied > leader.After.Index {
			j.add(Critical, Divergence, a.MemberID, Finding{
				Text: "it has applied entries that the leader does not have: its data is another history's", Evidence: fmt.Sprintf("applied entry %d; the leader, %s, has %d", a.Applied, j.name(leader.MemberID), leader.After.Index),
				Next: "steward backup create; then steward member replace " + j.argument(a.MemberID) + " --force REASON, which renames its data directory",
			})
		}
	}
}

// ahead says whether a is at a revision that it cannot have, as b shows, and how sure that is. b's revision was read again after its applied entries were
// counted, so it holds all of them; and an entry makes at most one revision, of which one may have been applied and not been counted.
func ahead(a, b *probe.Answer) (Confidence, bool) {
	switch {
	case b.After.Revision == 0 || a.Applied == 0 || a.Applied > b.Applied || a.Revision <= b.After.Revision:
		return "", false
	case a.Revision > b.After.Revision+1 && (a.Leader == 0 || b.Leader == 0):
		return Likely, true // after a power cut, until there is a leader again, a database may hold more than its log says is committed
	case a.Revision > b.After.Revision+1:
		return Certain, true
	}
	// One revision: only when both stand still.
	return Likely, a.Applied == b.Applied && still(a) && still(b)
}

func still(a *probe.Answer) bool {
	return a.Applied == a.After.Applied && a.Revision == a.After.Revision
}

// past judges what only a look back shows.
func (j *judge) past() {
	for _, e := range j.History.events(j.View, j.agreed, j.Now) {
		switch e.kind {
		case ClusterChanged:
			j.add(Critical, ClusterChanged, 0, Finding{
				Text: "the cluster is another one than before", Evidence: e.text, Next: "when it was restored on purpose, all is well; else check --endpoints: steward member list", Confidence: Certain,
			})
		default:
			j.add(Critical, WentBack, e.member, Finding{
				Text: "its revision went back: it has lost what it had told", Evidence: e.text, Confidence: Certain,
				Next: "when it was restored on purpose with the same cluster ID, restart everything that watches etcd; else: steward backup create, and steward doctor -u etcd on its host",
			})
		}
	}
}

// eventAge is how long something that happened once is told.
const eventAge = time.Hour
