package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/changes/cover"
	liverecord "etcd-steward/backup/changes/record"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	livesnapshot "etcd-steward/backup/snapshot"
	"etcd-steward/integration/lab"
)

// TestRecorded: what the real recorder put into a real repository is found in the listing, chosen, and rebuilds what the cluster has;
// its own proof agrees, and the leases are known.
func TestRecorded(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	cli := c.Client(t)
	s := newShelf(t)
	r, err := repo.Open(t.Context(), s.repo.Store(), "recorded")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := liverecord.New(liverecord.Options{
		Repo: r, Cluster: livesnapshot.Cluster{Endpoints: c.Endpoints()}, Recipients: []age.Recipient{s.id.Recipient()},
		SpoolDir: filepath.Join(t.TempDir(), "spool"), Host: "test", Flush: 200 * time.Millisecond, Progress: 200 * time.Millisecond,
		LeasesEvery: 200 * time.Millisecond, ProofEvery: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rec.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	through := func(rev int64) {
		t.Helper()
		lab.Eventually(t, 2*time.Minute, fmt.Sprintf("revision %d is stored", rev), func() error {
			if st := rec.Status(); int64(st.Through) < rev {
				return fmt.Errorf("%s at %d: %s", st.State, st.Through, st.Problem)
			}
			return nil
		})
	}
	through(1)
	snap := snapshot(t, cli)
	f := open(t, snap)
	base, _, err := f.Revisions()
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	w := changestest.Workload{Client: cli, Seed: newRand(t).Uint64(), Leases: true, TTL: 600, Wide: 200}
	rev, err := w.Run(t.Context(), 1500)
	if err != nil {
		t.Fatal(err)
	}
	through(rev)
	rec.Prove()
	lab.Eventually(t, time.Minute, "a proof", func() error {
		if rec.Status().Proof == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	last := putKey(t, cli, "last", "1") // a proof travels with the next segment
	through(last)

	cat, err := r.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	line := rec.Status().Timeline
	for _, target := range []int64{int64(base) + 1, (int64(base) + rev) / 2, last} {
		plan, err := cover.Cover([]cover.Snapshot{{Entry: repo.Entry{Timeline: line, Revision: base}}}, cat.Segments, line, repo.Revision(target))
		if err != nil {
			t.Fatal(err)
		}
		path := clone(t, snap)
		for _, x := range cat.Segments { // those behind the target tell of leases
			if x.First > repo.Revision(target) {
				plan.Segments = append(plan.Segments, x)
			}
		}
		segs := rebuild.FromRepo(r, plan.Segments, []age.Identity{s.id})
		res, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: repo.Revision(target), Segments: segs, Timeline: line})
		if err != nil {
			t.Fatal(err)
		}
		want := c.HashKV(t, 0, target)
		if got := hashKV(t, path, target, max(want.CompactRevision, 0)); got != want.Hash {
			t.Errorf("HashKV(%d): got %08x, the member gives %08x", target, got, want.Hash)
		}
		if target == last && res.Proof == nil {
			t.Error("no proof is in the log")
		}
		if target > int64(base)+1 && res.When.By.IsZero() {
			t.Errorf("nothing is known of the time of revision %d", target)
		}
		t.Logf("revision %d: %d leases, %d of them assumed, seen %v", target, res.Leases, len(res.Assumed), res.When)
	}
}
