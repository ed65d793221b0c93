package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// quick is the block of a daemon that records, fast enough for a test.
const quick = "flush: 1s"

// put makes n revisions and returns the last one. A member that dies, or a change of leader, may cost some tries.
func (r *rig) put(n int) (rev int64) {
	r.t.Helper()
	for i := range n {
		lab.Eventually(r.t, 30*time.Second, "etcd takes a write", func() error {
			ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
			defer cancel()
			resp, err := r.cli.Put(ctx, fmt.Sprintf("/put/%03d", i), time.Now().String())
			if err == nil {
				rev = resp.Header.Revision
			}
			return err
		})
	}
	return rev
}

// awaitRecorded waits until a daemon says that a revision is in the store.
func (d *stewardd) awaitRecorded(within time.Duration, rev int64) {
	d.t.Helper()
	d.awaitMetric(within, "steward_changes_recorded_revision", func(v float64) bool { return v >= float64(rev) })
}

// held is the window of any-moment recovery that ends the newest timeline.
func (r *rig) held(prefix string) (w cover.Window) {
	r.t.Helper()
	c := r.catalog(prefix)
	ws := cover.Windows(cover.Snapshots(c), c.Segments)
	if len(ws) == 0 {
		r.t.Fatalf("nothing can be restored; %d snapshots, %d segments", len(c.Backups()), len(c.Segments))
	}
	return ws[len(ws)-1]
}

// rebuilt restores a revision from the repository alone and gives its HashKV.
func (r *rig) rebuilt(prefix string, rev, compact repo.Revision) uint32 {
	r.t.Helper()
	rp := r.repo(prefix)
	at, err := backup.Locate(r.t.Context(), rp, backup.Point{Revision: rev}, backup.LocateOptions{})
	if err != nil {
		r.t.Fatalf("revision %d: %v", rev, err)
	}
	path := filepath.Join(r.t.TempDir(), "db")
	if _, err := at.Materialise(r.t.Context(), rp, backup.MaterialiseOptions{Path: path, Identities: []age.Identity{r.identity}}); err != nil {
		r.t.Fatalf("revision %d: %v", rev, err)
	}
	db, err := dbfile.Open(path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	hash, err := db.HashKV(r.t.Context(), rev, compact)
	if err != nil {
		r.t.Fatal(err)
	}
	return hash
}

// mustEqual: a revision restored from the repository is what the living cluster says of it.
func (r *rig) mustEqual(member int, prefix string, rev int64) {
	r.t.Helper()
	r.mustHash(prefix, rev, r.etcd.HashKV(r.t, member, rev))
}

func (r *rig) mustHash(prefix string, rev int64, live *clientv3.HashKVResponse) {
	r.t.Helper()
	if got := r.rebuilt(prefix, repo.Revision(rev), repo.Revision(max(0, live.CompactRevision))); got != live.Hash {
		r.t.Errorf("revision %d restored has hash %08x, the member says %08x (compacted at %d)", rev, got, live.Hash, live.CompactRevision)
	}
}

// mustHold: every revision from first to last can be restored, and a few of them are as the living cluster has them.
func (r *rig) mustHold(prefix string, first, last int64) {
	r.t.Helper()
	r.mustHoldOn(0, prefix, first, last)
}

// mustHoldOn is mustHold, when not every member runs.
func (r *rig) mustHoldOn(member int, prefix string, first, last int64) {
	r.t.Helper()
	if w := r.held(prefix); int64(w.From) > first || int64(w.To) < last {
		r.t.Fatalf("revisions %d to %d can be restored, want %d to %d", w.From, w.To, first, last)
	}
	for _, rev := range []int64{first, (first + last) / 2, last} {
		r.mustEqual(member, prefix, rev)
	}
}

// TestChanges: by default a daemon records every change into S3, takes the one full snapshot that this needs, says how far it is also while nothing
// happens, and stores what it has when it is told to stop.
func TestChanges(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *", changes: quick})
	d.awaitLog(30*time.Second, `msg="recording changes".*flush=1s.*state-a/changes/main`)
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(1))
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	first := r.put(1)
	d.awaitRecorded(30*time.Second, r.put(200))
	d.awaitMetric(10*time.Second, "steward_changes_state", is(1), "state=recording")
	if v, _ := d.metric("steward_changes_snapshots_demanded_total", "reason=first"); v != 1 {
		t.Errorf("%v full snapshots were demanded at first", v)
	}
	if v, _ := d.metric("steward_repository_backups"); v != 1 {
		t.Errorf("%v full snapshots, want the one that the schedule and the change log share", v)
	}
	if v, _ := d.metric("steward_changes_events_total"); v < 200 {
		t.Errorf("%v events were recorded", v)
	}
	// Idle: nothing is written, and the moment moves on.
	segments, _ := d.metric("steward_changes_segments_total")
	idle := float64(time.Now().Add(2 * time.Second).Unix())
	d.awaitMetric(30*time.Second, "steward_changes_recorded_timestamp_seconds", func(v float64) bool { return v > idle })
	if v, _ := d.metric("steward_changes_segments_total"); v != segments {
		t.Errorf("%v segments after idling, %v before", v, segments)
	}
	last := r.put(20)
	d.awaitMetric(10*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(last) })
	d.term(15 * time.Second)
	r.mustHold("", first, last)
	r.noSecrets("the log", d.log())
}
