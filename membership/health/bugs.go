package health

import "github.com/coreos/go-semver/semver"

// bug is a known one of released servers.
type bug struct {
	severity Severity
	text     string // what it does
	source   string // where etcd says so
	// fixed is the first good patch by minor version. One that is not named never had the bug.
	fixed map[int64]int64
}

// bugs are those that an operator should know of before the next change, a restore, or an upgrade (etcd's changelogs and issues).
var bugs = []bug{
	{severity: Critical, text: "a crash under load can leave members with different data", source: "etcd issue 13766", fixed: map[int64]int64{5: 3}},
	{severity: Warning, text: "defragmentation while a snapshot arrives can corrupt the database", source: "etcd pull 20650, 20653", fixed: map[int64]int64{5: 23, 6: 5}},
	{severity: Warning, text: "a watch can go back in time, or repeat events", source: "etcd issues 15695, 15515, 15274", fixed: map[int64]int64{5: 8}},
	{severity: Warning, text: "a watch can lose events after a compaction", source: "etcd issues 17612, 17566", fixed: map[int64]int64{5: 13}},
	{severity: Warning, text: "a watch that begins at the compaction's revision can lose a deletion", source: "etcd issue 19249", fixed: map[int64]int64{5: 18}},
	{severity: Warning, text: "a watch on a future revision returns old events", source: "etcd issues 20290, 20286", fixed: map[int64]int64{5: 22, 6: 2}},
	{severity: Warning, text: "a watch can show keys that its user may not read", source: "GHSA-xg4h-6gfc-h4m8", fixed: map[int64]int64{5: 33, 6: 14, 7: 1}},
	{severity: Info, text: "an update of a learner's peer URL makes it a voter", source: "etcd issue 21694", fixed: map[int64]int64{5: 31, 6: 12}},
	{severity: Info, text: "with authentication, a promotion that a follower is asked for fails", source: "CHANGELOG-3.5.28, 3.6.6", fixed: map[int64]int64{5: 28, 6: 6}},
	{severity: Info, text: "--force-new-cluster can leave members behind that come back", source: "etcd pulls 20071, 20896", fixed: map[int64]int64{5: 22, 6: 6}},
	{severity: Info, text: "a learner that was promoted can be a learner again after an upgrade to 3.6: first go to 3.5.26", source: "etcd issue 19557", fixed: map[int64]int64{5: 24}},
	{severity: Info, text: "members that were removed can come back with an upgrade to 3.6: first go to 3.5.26", source: "etcd issue 20967", fixed: map[int64]int64{5: 26}},
}

// hits says whether a server of version v has the bug, and which release of its minor version has it no more.
func (b bug) hits(v semver.Version) (fixedIn semver.Version, hit bool) {
	patch, ok := b.fixed[v.Minor]
	if v.Major != 3 || !ok || v.Patch >= patch {
		return semver.Version{}, false
	}
	return semver.Version{Major: 3, Minor: v.Minor, Patch: patch}, true
}
