package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// logged is a repository with what a real recorder and real snapshots of a real etcd left there.
type logged struct {
	*rig
	timeline      repo.Timeline
	first, second *repo.Manifest
	last          repo.Revision
}

// loggedRig records three bouts of changes, each with a proof at its end: a snapshot comes before the first, a compaction lies in the second, and
// another snapshot follows that one.
func loggedRig(t *testing.T, version string) *logged {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
	cli := etcd.Client(t)
	dir, st := folder(t)
	co := createOptions(t, st, etcd)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	co.Spool.Recipients = []age.Recipient{id.Recipient()}
	rec, err := record.New(record.Options{
		Repo: co.Repo, Cluster: snapshot.Cluster{Endpoints: etcd.Endpoints()}, Recipients: co.Spool.Recipients,
		SpoolDir: filepath.Join(t.TempDir(), "spool"), Host: "test", Flush: 200 * time.Millisecond, Progress: 200 * time.Millisecond,
		SegmentSize: 64 << 10, MarkEvery: 200 * time.Millisecond, ProofEvery: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rec.Run(ctx) }()
	stop := func() { cancel(); <-done }
	through := func(rev int64) {
		t.Helper()
		lab.Eventually(t, time.Minute, fmt.Sprintf("revision %d is stored", rev), func() error {
			if s := rec.Status(); int64(s.Through) < rev {
				return fmt.Errorf("%s at %d: %s", s.State, s.Through, s.Problem)
			}
			return nil
		})
	}
	through(1)
	create := func() *repo.Manifest {
		t.Helper()
		m, err := Create(t.Context(), co)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r := &logged{rig: &rig{dir: dir, st: st, repo: co.Repo, id: id}}
	r.first = create()
	seed := lab.Seed(t)
	w := changestest.Workload{Client: cli, Seed: seed, Keys: 150, ValueMax: 400, Wide: 100, WideKeys: 50}
	var rev int64
	for bout := range 3 {
		if rev, err = w.Run(t.Context(), 250); err != nil {
			t.Fatal(err)
		}
		if bout == 1 {
			if _, err := cli.Compact(t.Context(), rev-60, clientv3.WithCompactPhysical()); err != nil {
				t.Fatal(err)
			}
		}
		through(rev)
		before := rec.Status().Proof
		rec.Prove()
		lab.Eventually(t, time.Minute, "a proof", func() error {
			if rec.Status().Proof == before {
				return errors.New("none yet")
			}
			return nil
		})
		if bout == 1 { // above the proof, so that its hash is another one
			if _, err := cli.Put(t.Context(), "before", "1"); err != nil {
				t.Fatal(err)
			}
			r.second = create()
		}
	}
	put, err := cli.Put(t.Context(), "last", "1") // a proof travels with the next segment
	if err != nil {
		t.Fatal(err)
	}
	through(put.Header.Revision)
	r.last, r.timeline = repo.Revision(put.Header.Revision), rec.Status().Timeline
	stop()
	return r
}

// copy is a repository of its own with the same objects.
func (r *logged) copy(t *testing.T) *logged {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	twin := *r
	twin.rig = &rig{dir: dir, st: st, id: r.id}
	twin.repo = twin.open(t)
	return &twin
}

func (r *logged) segments(t *testing.T) []repo.Segment {
	t.Helper()
	c, err := r.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Segments
}

// holding is the segment that holds a revision.
func (r *logged) holding(t *testing.T, rev repo.Revision) repo.Segment {
	t.Helper()
	for _, s := range r.segments(t) {
		if s.First <= rev && rev <= s.Last {
			return s
		}
	}
	t.Fatalf("no segment holds revision %d", rev)
	return repo.Segment{}
}

// events are the events of a segment, and its other records are dropped but for proofs.
func (r *logged) events(t *testing.T, s repo.Segment) (h changes.Header, events []changes.Event, proofs []changes.Proof) {
	t.Helper()
	seg, err := changes.OpenSegment(t.Context(), r.repo, s, []age.Identity{r.id})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = seg.Close() }()
	for {
		rec, err := seg.Next()
		if errors.Is(err, io.EOF) {
			return seg.Header(), events, proofs
		}
		if err != nil {
			t.Fatal(err)
		}
		switch rec.Kind {
		case changes.KindEvent:
			ev := rec.Event
			ev.Value = bytes.Clone(ev.Value)
			events = append(events, ev)
		case changes.KindProof:
			proofs = append(proofs, rec.Proof)
		}
	}
}

// put stores a segment as a recorder would, with all its checksums right.
func (r *logged) put(t *testing.T, h changes.Header, events []changes.Event, proofs []changes.Proof) repo.Segment {
	t.Helper()
	return r.addSegment(t, h, events, proofs, true, time.Now())
}

// addSegment stores a segment that was closed at a time.
func (r *rig) addSegment(t *testing.T, h changes.Header, events []changes.Event, proofs []changes.Proof, encrypted bool, at time.Time) repo.Segment {
	t.Helper()
	var to []age.Recipient
	if encrypted {
		to = append(to, r.id.Recipient())
	}
	h.Events = int64(len(events))
	var object bytes.Buffer
	w, err := changes.NewSealWriter(&object, to)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := changes.NewEncoder(w, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if err := enc.Event(&events[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range proofs {
		if err := enc.Proof(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(enc.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	s := repo.Segment{Timeline: h.Timeline, First: h.First, Last: h.Last, ID: repo.NewSnapshotID(at), Encrypted: encrypted}
	s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, encrypted)
	src := store.Source{Reader: bytes.NewReader(object.Bytes()), Size: int64(object.Len()), SHA256: sha256.Sum256(object.Bytes())}
	if err := r.repo.PutSegment(t.Context(), s, src); err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *logged) remove(t *testing.T, s repo.Segment) {
	t.Helper()
	if err := os.Remove(r.file(s.Key)); err != nil {
		t.Fatal(err)
	}
}
