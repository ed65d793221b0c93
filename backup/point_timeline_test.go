package backup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// twoHistories is a repository of a cluster that was restored to the revision of its only snapshot, and wrote on; both histories go on for ten revisions from
// there, but in the restored one's log a hole is left from the fourth to the sixth.
type twoHistories struct {
	*rig
	was, is repo.Timeline
	base    repo.Revision
	gap     time.Time // in the hole
}

func newTwoHistories(t *testing.T, bump int64) *twoHistories {
	t.Helper()
	content, info := snapshotFile(t, 20)
	h := &twoHistories{rig: newRig(t), was: repo.Timeline{Cluster: testCluster, Cut: 1}, is: repo.Timeline{Cluster: 0xc2, Cut: 1}, base: info.Revision}
	now := time.Now()
	old := h.add(t, content, info, now.Add(-time.Hour), false)
	err := h.repo.AddSuccessor(t.Context(), repo.Successor{
		ClusterID: h.is.Cluster, From: old.ID, Timeline: h.was, Revision: h.base, NewRevision: h.base + repo.Revision(bump), Restored: now.Add(-30 * time.Minute), Host: "h",
	})
	if err != nil {
		t.Fatal(err)
	}
	h.segment(t, h.was, h.was, h.base+1, h.base+10, "old", h.base+10)
	started := info
	if started.Revision += repo.Revision(bump); bump > 0 {
		started.CompactRevision = started.Revision
	}
	h.snapshotOn(t, content, started, now.Add(-20*time.Minute))
	from := started.Revision
	h.segment(t, h.is, h.is, from+1, from+3, "new", from+3)
	h.gap = time.Now()
	h.segment(t, h.is, h.is, from+7, from+10, "new", from+10)
	return h
}

// snapshotOn adds a backup of the restored cluster.
func (h *twoHistories) snapshotOn(t *testing.T, content []byte, info dbfile.Info, at time.Time) {
	t.Helper()
	m, object := h.sealed(t, content, info, at, false)
	m.Timeline = h.is
	m.Object.Key = repo.DataKey(m.Timeline, info.Revision, m.ID, false)
	h.put(t, m, object)
}

// TestGapOfCurrentTimeline: a revision in a gap of the current timeline is refused even though an older timeline reaches it: that is another history. Named, each
// gives its own, and says so of the one that is not current.
func TestGapOfCurrentTimeline(t *testing.T) {
	h := newTwoHistories(t, 0)
	ids := []age.Identity{h.id}
	hole := h.base + 5
	wantRefused(t, h.st, ids, Point{Revision: hole}, fail.Unsafe, "of timeline "+h.is.String()+", "+fmt.Sprint(h.base+3),
		fmt.Sprintf("--timeline %s --to-revision %d", h.was, hole), fmt.Sprintf("--timeline %s --to-revision %d", h.is, h.base+3))
	wantRefused(t, h.st, ids, Point{Revision: hole, Timeline: h.is}, fail.Unsafe, "is after the last restore point", fmt.Sprintf("--to-revision %d", h.base+3))
	wantRefused(t, h.st, ids, Point{Revision: h.base + 8}, fail.Unsafe, "of another history", "--timeline "+h.was.String()) // behind the gap: an orphan knows of it
	l, err := Locate(t.Context(), h.repo, Point{Revision: hole, Timeline: h.was}, LocateOptions{Identities: ids})
	if err != nil || l.Timeline != h.was || l.Current != h.is || !strings.Contains(l.Resolved().String(), "not of the current "+h.is.String()) {
		t.Errorf("the old timeline, named: %+v, %v; want a note of the current one", l, err)
	}
	if l, err = Locate(t.Context(), h.repo, Point{Revision: h.base + 3, Timeline: h.is}, LocateOptions{Identities: ids}); err != nil || l.Current != (repo.Timeline{}) {
		t.Errorf("the current timeline: %+v, %v; want no note", l, err)
	}
	// A time in the gap.
	if _, err := Locate(t.Context(), h.repo, Point{Time: h.gap}, LocateOptions{Identities: ids}); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("a time in the gap: exit code %d, %v", fail.ExitCode(err), err)
	}
}

// TestLedgerOfCurrentTimeline: a revision that only the recorder of the current timeline has seen is none of the older timeline's; one that nobody has seen there is
// the older's, with a note.
func TestLedgerOfCurrentTimeline(t *testing.T) {
	h := newTwoHistories(t, 0)
	far := h.segment(t, h.was, h.was, h.base+11, h.base+40, "old", h.base+40)
	ids := []age.Identity{h.id}
	if err := h.repo.PutRecorded(t.Context(), repo.Recorded{Timeline: h.is, Highest: h.base + 20, Host: "h"}); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, h.st, ids, Point{Revision: h.base + 20}, fail.Unsafe, "of another history", "--timeline "+h.was.String())
	l, err := Locate(t.Context(), h.repo, Point{Revision: far.Last}, LocateOptions{Identities: ids})
	if err != nil || l.Timeline != h.was || l.Current != h.is {
		t.Errorf("a revision that the current timeline never had: %+v, %v; want the old one's, with a note", l, err)
	}
}

// TestBumpKeepsTimelinesApart: after a restore with a bump, the old cluster's revisions name its history alone: there is nothing to choose between.
func TestBumpKeepsTimelinesApart(t *testing.T) {
	h := newTwoHistories(t, 1000)
	l, err := Locate(t.Context(), h.repo, Point{Revision: h.base + 5}, LocateOptions{Identities: []age.Identity{h.id}})
	if err != nil || l.Timeline != h.was || l.Current != h.is {
		t.Errorf("%+v, %v; want the old timeline, with a note", l, err)
	}
	wantRefused(t, h.st, []age.Identity{h.id}, Point{Revision: h.base + 1005}, fail.Unsafe, "is after the last restore point")
}
