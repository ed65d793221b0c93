package backup

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/changes/record/recordtest"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// recorded is a repository of a real cluster with snapshots and a change log.
type recorded struct {
	dir  string // the repository's folder
	st   store.Store
	etcd *lab.Cluster
	cli  *clientv3.Client
	repo *repo.Repo
	id   *age.X25519Identity
	rec  *recordtest.Recorder
}

func newRecorded(t *testing.T) *recorded {
	t.Helper()
	return newRecordedOn(t, "")
}

// newRecordedOn is newRecorded with another version of etcd.
func newRecordedOn(t *testing.T, version string) *recorded {
	t.Helper()
	dir, st := folder(t)
	w := &recorded{dir: filepath.Join(dir, "main"), st: st, etcd: lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})}
	w.cli = w.etcd.Client(t)
	var err error
	if w.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if w.repo, err = repo.Open(t.Context(), st, "main"); err != nil {
		t.Fatal(err)
	}
	w.record(t)
	return w
}

// record starts the recorder, and waits until it records.
func (w *recorded) record(t *testing.T) {
	t.Helper()
	var err error
	w.rec, err = recordtest.Start(record.Options{
		Repo: w.repo, Cluster: snapshot.Cluster{Endpoints: w.etcd.Endpoints()}, Recipients: []age.Recipient{w.id.Recipient()},
		SpoolDir: filepath.Join(t.TempDir(), "spool"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.rec.Stop() })
	w.through(t, 1)
}

func (w *recorded) through(t *testing.T, rev repo.Revision) {
	t.Helper()
	if err := w.rec.Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
}

func (w *recorded) snapshot(t *testing.T) *repo.Manifest {
	t.Helper()
	m, err := Create(t.Context(), CreateOptions{
		Repo: w.repo, Cluster: snapshot.Cluster{Endpoints: w.etcd.Endpoints()}, Host: "h", Program: "test",
		Spool: snapshot.SpoolOptions{Dir: filepath.Join(t.TempDir(), "spool"), Recipients: []age.Recipient{w.id.Recipient()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *recorded) put(t *testing.T, key, value string) repo.Revision {
	t.Helper()
	resp, err := w.cli.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return repo.Revision(resp.Header.Revision)
}

// change makes n random changes, and returns the revision when they are stored.
func (w *recorded) change(t *testing.T, seed uint64, n int) repo.Revision {
	t.Helper()
	load := changestest.Workload{Client: w.cli, Seed: seed, Leases: true, TTL: 600, Keys: 300, ValueMax: 300}
	rev, err := load.Run(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	w.through(t, repo.Revision(rev))
	return repo.Revision(rev)
}

func (w *recorded) locate(t *testing.T, p Point) *Located {
	t.Helper()
	l, err := Locate(t.Context(), w.repo, p, LocateOptions{Identities: []age.Identity{w.id}})
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	return l
}

// wantExact materialises a point and compares its HashKV with the member's.
func (w *recorded) wantExact(t *testing.T, l *Located, rev repo.Revision) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	res, err := l.Materialise(t.Context(), w.repo, MaterialiseOptions{Path: path, Identities: []age.Identity{w.id}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Revision != rev || res.Revision != rev {
		t.Errorf("%s: got revision %d, want %d", l.Resolved(), res.Revision, rev)
	}
	want := w.etcd.HashKV(t, 0, int64(rev))
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := f.HashKV(t.Context(), rev, repo.Revision(max(want.CompactRevision, 0)))
	if err != nil || got != want.Hash {
		t.Errorf("%s: HashKV %08x, %v; the member gives %08x", l.Resolved(), got, err, want.Hash)
	}
}

// TestPoints: from the newest point down to any revision and any time, what is written has the hash that the cluster has there.
func TestPoints(t *testing.T) {
	w := newRecorded(t)
	first := w.snapshot(t)
	middle := w.change(t, 1, 200)
	second := w.snapshot(t)
	w.change(t, 2, 100)
	before := w.put(t, "accident", "not yet")
	w.through(t, before)
	at := time.Now()
	last := w.put(t, "accident", "happened")
	w.through(t, last)

	newest := w.locate(t, Point{})
	if newest.Snapshot.ID != second.ID || len(newest.Segments) == 0 || newest.Top != last {
		t.Errorf("the newest point is %s, top %d; want one behind snapshot %s up to %d", newest.Resolved(), newest.Top, second.ID, last)
	}
	w.wantExact(t, newest, last)
	for _, rev := range []repo.Revision{first.Database.Revision + 1, middle - 1, middle, middle + 3, before} {
		w.wantExact(t, w.locate(t, Point{Revision: rev}), rev)
	}
	for _, m := range []*repo.Manifest{first, second} {
		alone := w.locate(t, Point{ID: m.ID})
		if alone.Rebuilt() || alone.At.IsZero() {
			t.Errorf("%s: want the snapshot alone, with its time", alone.Resolved())
		}
		w.wantExact(t, alone, m.Database.Revision)
	}
	based := w.locate(t, Point{ID: first.ID, Revision: before})
	if based.Snapshot.ID != first.ID {
		t.Errorf("%s: want it from snapshot %s", based.Resolved(), first.ID)
	}
	w.wantExact(t, based, before)
	timed := w.locate(t, Point{Time: at})
	if timed.Moment == nil || timed.At.After(at) {
		t.Errorf("%+v: want a moment before %s", timed, at)
	}
	w.wantExact(t, timed, before)
}

// TestPointNeedsIdentity: without an identity nothing is made.
func TestPointNeedsIdentity(t *testing.T) {
	w := newRecorded(t)
	w.snapshot(t)
	last := w.change(t, 3, 20)
	l := w.locate(t, Point{Revision: last})
	path := filepath.Join(t.TempDir(), "db")
	_, err := l.Materialise(t.Context(), w.repo, MaterialiseOptions{Path: path})
	if fail.ExitCode(err) != fail.Usage || fail.HintOf(err) == "" {
		t.Errorf("%v, exit code %d", err, fail.ExitCode(err))
	}
	_, err = Locate(t.Context(), w.repo, Point{Time: time.Now().Add(-time.Millisecond)}, LocateOptions{})
	if fail.ExitCode(err) != fail.Usage && fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("a time without an identity: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Materialise(ctx, w.repo, MaterialiseOptions{Path: path, Identities: []age.Identity{w.id}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}
