package restore

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup"
	"etcd-steward/backup/changes/changestest"
	liverecord "etcd-steward/backup/changes/record"
	"etcd-steward/backup/changes/record/recordtest"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// recorded is a live cluster whose repository has snapshots and a change log.
type recorded struct {
	version string
	etcd    *lab.Cluster
	cli     *clientv3.Client
	repo    *repo.Repo
	id      *age.X25519Identity
	rec     *recordtest.Recorder
}

func newRecorded(t *testing.T, version string, cfg store.Config) *recorded {
	t.Helper()
	w := &recorded{version: version, etcd: lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true}), repo: openRepo(t, cfg)}
	w.cli = w.etcd.Client(t)
	var err error
	if w.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	w.rec, err = recordtest.Start(liverecord.Options{
		Repo: w.repo, Cluster: snapshot.Cluster{Endpoints: w.etcd.Endpoints()}, Recipients: []age.Recipient{w.id.Recipient()},
		SpoolDir: filepath.Join(t.TempDir(), "spool"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.rec.Stop() })
	w.through(t, 1)
	return w
}

func (w *recorded) through(t *testing.T, rev int64) {
	t.Helper()
	if err := w.rec.Wait(t.Context(), repo.Revision(rev)); err != nil {
		t.Fatal(err)
	}
}

func (w *recorded) snapshot(t *testing.T) *repo.Manifest {
	t.Helper()
	m, err := backup.Create(t.Context(), backup.CreateOptions{
		Repo: w.repo, Cluster: snapshot.Cluster{Endpoints: w.etcd.Endpoints()}, Host: "h", Program: "test",
		Spool: snapshot.SpoolOptions{Dir: filepath.Join(t.TempDir(), "spool"), Recipients: []age.Recipient{w.id.Recipient()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *recorded) put(t *testing.T, key string) int64 {
	t.Helper()
	resp, err := w.cli.Put(t.Context(), key, "v")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// TestStoreDiesMeanwhile: when the store goes away while the change log is read, the restore fails as unreachable, leaves nothing, and works again afterwards.
func TestStoreDiesMeanwhile(t *testing.T) {
	_, dir := folderRepo(t)
	w := newRecorded(t, "3.6", store.Config{URL: "file://" + dir})
	w.snapshot(t)
	var rev int64
	for range 4 {
		rev = w.put(t, "key")
		w.through(t, rev)
	}
	want := w.note(t, rev)
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	r, err := repo.Open(t.Context(), faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
		if away.Load() && strings.Contains(key, ".chg.") {
			return faults.Dead(op, key)
		}
		return nil
	}}), "main")
	if err != nil {
		t.Fatal(err)
	}
	o := w.options(t, backup.Point{})
	o.Repo, o.step = r, at("rebuild", func() { away.Store(true) })
	_, err = DataDir(t.Context(), o)
	if !errors.Is(err, store.Unreachable) || fail.ExitCode(err) != fail.Failed {
		t.Errorf("exit code %d, %v; want the store to be unreachable", fail.ExitCode(err), err)
	}
	wantNothing(t, filepath.Dir(o.DataDir), []string{""})
	away.Store(false)
	o.step = nil
	if res, err := DataDir(t.Context(), o); err != nil || res.HashKV != want.hash || int64(res.Revision) != rev {
		t.Errorf("again: %+v, %v; want revision %d with HashKV %08x", res, err, rev, want.hash)
	}
}

// TestUsersOfANewerSnapshot: going back from a snapshot brings the users of that snapshot, which the plan says.
func TestUsersOfANewerSnapshot(t *testing.T) {
	l := &backup.Located{Revision: 5, Snapshot: &repo.Manifest{ID: "X", Database: repo.Database{Revision: 9, AuthEnabled: true}}}
	var p Plan
	p.notePoint(l)
	if got := strings.Join(p.Notes, "\n"); !strings.Contains(got, "snapshot X is 4 revisions newer") || !strings.Contains(got, "--to-revision 5") {
		t.Errorf("the notes are %q", got)
	}
	l.Snapshot.Database.Revision, p.Notes = 3, nil
	if p.notePoint(l); len(p.Notes) > 0 {
		t.Errorf("from an older snapshot: %q", p.Notes)
	}
}

// noted is a revision and the hash that the member gave for it while it could.
type noted struct {
	rev, compact int64
	hash         uint32
}

func (w *recorded) note(t *testing.T, rev int64) noted {
	t.Helper()
	h := w.etcd.HashKV(t, 0, rev)
	return noted{rev, max(h.CompactRevision, 0), h.Hash}
}

// options are those of a single member that is restored to a point, with the exact history.
func (w *recorded) options(t *testing.T, p backup.Point) Options {
	t.Helper()
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo, o.Identities, o.Point, o.BumpRevision = w.repo, []age.Identity{w.id}, p, zero()
	return o
}

// wantServed restores to a point, starts etcd of the same version on the result and compares what it says of itself.
func (w *recorded) wantServed(t *testing.T, p backup.Point, want noted) Result {
	t.Helper()
	res, err := DataDir(t.Context(), w.options(t, p))
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	if int64(res.Revision) != want.rev || res.Source.Point == nil || int64(res.Source.Point.Revision) != want.rev {
		t.Errorf("%+v: restored to revision %d of %v, want %d", p, res.Revision, res.Source.Point, want.rev)
	}
	c := start(t, w.version, res)
	got := c.HashKV(t, 0, want.rev)
	if got.Header.Revision != want.rev || got.Hash != want.hash || max(got.CompactRevision, 0) != want.compact {
		t.Errorf("%+v: etcd serves revision %d compacted at %d with HashKV %08x, want %d compacted at %d with %08x",
			p, got.Header.Revision, got.CompactRevision, got.Hash, want.rev, want.compact, want.hash)
	}
	c.Stop(0)
	return res
}

// TestAnyMoment: any revision, any time and the newest point come back from S3 with the HashKV that the cluster had there, and a stock etcd serves them.
func TestAnyMoment(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			cfg := s3.StoreConfig()
			cfg.URL += "/" + version
			w := newRecorded(t, version, cfg)
			seed := lab.Seed(t)
			rng := rand.New(rand.NewPCG(seed, 0))
			load := changestest.Workload{Client: w.cli, Seed: seed, Leases: true, TTL: 900, Keys: 500, ValueMax: 300, Wide: 100, WideKeys: 500}
			run := func() int64 {
				rev, err := load.Run(t.Context(), 200)
				if err != nil {
					t.Fatal(err)
				}
				return rev
			}
			first := w.snapshot(t)
			run()
			second := w.snapshot(t)
			run()
			good := w.put(t, "before the accident")
			w.through(t, good)
			moment := time.Now()
			time.Sleep(time.Until(moment.Add(5 * time.Millisecond))) // the two writes are apart, by whatever clock
			last := w.put(t, "the accident")
			w.through(t, last)
			from, to := int64(first.Database.Revision)+1, int64(second.Database.Revision)
			for _, rev := range []int64{from, from + rng.Int64N(to-from), to + 1 + rng.Int64N(good-to)} {
				w.wantServed(t, backup.Point{Revision: repo.Revision(rev)}, w.note(t, rev))
			}
			res := w.wantServed(t, backup.Point{Time: moment}, w.note(t, good))
			if res.Source.Point.Moment == nil || res.Source.Point.At.After(moment) {
				t.Errorf("the time %s came to %+v", moment, res.Source.Point)
			}
			res = w.wantServed(t, backup.Point{}, w.note(t, last))
			if res.Source.ID != second.ID || res.Source.Point.Segments == 0 || !res.Recorded {
				t.Errorf("the newest point is %v, recorded %v; want it behind %s", res.Source.Point, res.Recorded, second.ID)
			}
			res = w.wantServed(t, backup.Point{ID: first.ID}, noted{int64(first.Database.Revision), int64(first.Database.CompactRevision), first.Database.HashKV})
			if res.Rebuilt != nil || res.Source.Point.Segments != 0 {
				t.Errorf("a snapshot alone: %+v", res)
			}
		})
	}
}

// TestMembersOfOneMoment: the members of a cluster that is restored between two snapshots come together, with the commands that the first one prints; the bump
// is beyond what the recorder's ledger has seen, and another revision gives another cluster.
func TestMembersOfOneMoment(t *testing.T) {
	_, dir := folderRepo(t)
	w := newRecorded(t, "3.6", store.Config{URL: "file://" + dir})
	base := w.snapshot(t)
	var rev int64
	for range 20 {
		rev = w.put(t, "key")
	}
	w.through(t, rev)
	line := w.rec.Status().Timeline
	if err := w.rec.Stop(); err != nil {
		t.Fatal(err)
	}
	const seen = 3_700_000_000
	if err := w.repo.PutRecorded(t.Context(), repo.Recorded{Timeline: line, Highest: seen, Host: "h"}); err != nil {
		t.Fatal(err)
	}
	want := w.note(t, rev-3)
	all := memberOptions(t, t.TempDir(), 3)
	var results []Result
	for _, o := range all {
		o.Repo, o.Identities, o.Point = w.repo, []age.Identity{w.id}, backup.Point{Revision: repo.Revision(rev - 3)}
		res, err := DataDir(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, res)
		if res.ClusterID != results[0].ClusterID || res.NewRevision <= seen {
			t.Errorf("%s: cluster %s at revision %d, want %s beyond %d", o.Name, res.ClusterID, res.NewRevision, results[0].ClusterID, int64(seen))
		}
		for _, c := range res.Others {
			args := strings.Join(c.Args, " ")
			if !strings.Contains(args, "--id "+string(base.ID)+" --to-revision ") {
				t.Errorf("the command for %s is %q: want the snapshot and the revision", c.Member, args)
			}
		}
	}
	c := start(t, "3.6", results...)
	for i := range c.Members {
		if h := c.HashKV(t, i, 0); repo.Revision(h.Header.Revision) != results[0].NewRevision {
			t.Errorf("member %d is at revision %d, want %d", i, h.Header.Revision, results[0].NewRevision)
		}
	}
	if results[0].HashKV != want.hash {
		t.Errorf("HashKV %08x, want %08x", results[0].HashKV, want.hash)
	}
	o := memberOptions(t, t.TempDir(), 3)[0]
	dir = filepath.Dir(o.DataDir)
	o.InitialCluster, o.InitialAdvertisePeerURLs = all[0].InitialCluster, all[0].InitialAdvertisePeerURLs
	o.Repo, o.Identities, o.Point = w.repo, []age.Identity{w.id}, backup.Point{Revision: repo.Revision(rev - 2)}
	p, err := Prepare(t.Context(), o)
	if err != nil || slices.ContainsFunc(results, func(r Result) bool { return r.ClusterID == p.ClusterID }) {
		t.Errorf("another revision: cluster %v, %v", p.ClusterID, err)
	}
	o.Point = backup.Point{ID: base.ID}
	alone, err := Prepare(t.Context(), o)
	if err != nil || p.DiskNeed-alone.DiskNeed < p.Source.Stored-alone.Source.Stored || p.Source.Stored <= alone.Source.Stored {
		t.Errorf("%d bytes of disk for a revision, %d for the snapshot alone, %v: want the log to count", p.DiskNeed, alone.DiskNeed, err)
	}
	o.Point = backup.Point{}
	newest, err := Prepare(t.Context(), o)
	if err != nil || !strings.Contains(strings.Join(newest.Notes, "\n"), "revision 3700000000 had been seen") {
		t.Errorf("the notes are %q, %v: want what was seen and is lost", newest.Notes, err)
	}
	for _, step := range []string{"rebuild", "edit"} {
		ctx, cancel := context.WithCancel(t.Context())
		o.step = at(step, cancel)
		if _, err := DataDir(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before %s: %v", step, err)
		}
		wantNothing(t, dir, []string{""})
	}
}
