package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// storm is a cluster that works, and everything around it that dies and comes back.
type storm struct {
	*rig
	rng     *rand.Rand
	daemons []*stewardd
	away    bool // the store
	down    int  // the member that is down; -1 for none

	mu    sync.Mutex
	rev   int64
	notes []note
	err   error
}

// note is what a member said of itself.
type note struct {
	rev, compact int64
	hash         uint32
}

// TestStorm: while a cluster is written to at random and compacted, three daemons record it. They are killed, stopped and restarted at random, the S3
// server dies and comes back, members die and restart. In the end every revision from the first full snapshot on can be restored, without a gap, and
// those at which a member gave its HashKV have that hash. STEWARD_SEED repeats the choices, STEWARD_SOAK says for how long.
func TestStorm(t *testing.T) {
	r := newRigOf(t, lab.S3Options{}, lab.EtcdOptions{Members: 3})
	s := &storm{rig: r, rng: rand.New(rand.NewPCG(lab.Seed(t), 0x5708)), down: -1}
	for i := range 3 {
		s.daemons = append(s.daemons, r.start(settings{name: fmt.Sprint("master", i), schedule: "@every 10s", changes: "flush: 1s, segment: 256KiB"}))
	}
	recording(t, 30*time.Second, s.daemons...)
	lab.Eventually(t, 30*time.Second, "the first full snapshot", func() error {
		if len(r.catalog("").Backups()) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	first := int64(r.catalog("").Backups()[0].Revision)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	w := &changestest.Workload{Client: s.cli, Seed: s.rng.Uint64(), Leases: true, TTL: 2, Wide: 150, WideKeys: 500}
	wg.Go(func() { s.work(ctx, w) })
	for until := time.Now().Add(changestest.Soak(t, 20*time.Second)); time.Now().Before(until); {
		s.strike()
		pause := time.Duration(100+s.rng.IntN(900)) * time.Millisecond
		<-time.After(pause) // the storm's own pace, not a wait for anything
		s.note()
	}
	cancel()
	wg.Wait()
	last := s.calm(first)
	s.judge(first, last)
}

// work writes until ctx ends.
func (s *storm) work(ctx context.Context, w *changestest.Workload) {
	for ctx.Err() == nil {
		rev, err := w.Run(ctx, 5)
		s.mu.Lock()
		s.rev = max(s.rev, rev)
		if ctx.Err() == nil {
			s.err = errors.Join(s.err, err)
		}
		s.mu.Unlock()
		select {
		case <-time.After(20 * time.Millisecond): // a pace
		case <-ctx.Done():
		}
	}
}

// compact takes away history that is in the log already: what etcd compacts before it was recorded is a gap, and rightly so. A full snapshot may
// be far ahead of a log whose daemons were all killed.
func (s *storm) compact() {
	if s.away {
		return
	}
	c := s.catalog("")
	at := int64(cover.Windows(cover.Snapshots(c), c.Segments)[0].To) - int64(s.rng.IntN(300))
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.cli.Compact(ctx, max(at, 1)); err != nil {
		s.t.Logf("compact at %d: %v", at, err)
	}
}

// strike does one bad thing, or mends one.
func (s *storm) strike() {
	s.t.Helper()
	switch d := s.daemons[s.rng.IntN(len(s.daemons))]; s.rng.IntN(7) {
	case 0, 1:
		d.Kill()
		d.spawn()
	case 2:
		d.Stop()
		d.spawn()
	case 3:
		if s.away = !s.away; s.away {
			s.s3.Kill()
		} else {
			s.s3.Restart()
		}
	case 4:
		s.compact()
	default:
		if s.down >= 0 {
			s.etcd.Restart(s.t, s.down)
			s.etcd.WaitHealthy(s.t, s.down)
			s.down = -1
			return
		}
		s.down = s.rng.IntN(3)
		if s.rng.IntN(2) == 0 {
			s.etcd.Kill(s.down)
		} else {
			s.etcd.Stop(s.down)
		}
	}
}

// note asks a member that runs for its hash at a revision that it has had for a moment.
func (s *storm) note() {
	s.mu.Lock()
	rev := s.rev - int64(s.rng.IntN(200))
	s.mu.Unlock()
	if rev <= 0 {
		return
	}
	member := (s.down + 1 + s.rng.IntN(2)) % 3
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	resp, err := s.cli.HashKV(ctx, s.etcd.Endpoint(member), rev)
	if err != nil {
		return // without a leader, or behind, or compacted: another moment
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, note{rev, max(0, resp.CompactRevision), resp.Hash})
}

// calm brings everything back and waits until all is stored: a full snapshot of the last revision is not enough, and lets a log that is behind look like
// one with a hole.
func (s *storm) calm(first int64) int64 {
	s.t.Helper()
	if s.away {
		s.s3.Restart()
	}
	if s.down >= 0 {
		s.etcd.Restart(s.t, s.down)
	}
	s.etcd.WaitHealthy(s.t)
	last := s.put(1)
	lab.Eventually(s.t, 90*time.Second, "everything is stored", func() error {
		if w := s.held(""); int64(w.To) < last || int64(w.From) > first {
			return fmt.Errorf("revisions %d to %d can be restored, want %d to %d", w.From, w.To, first, last)
		}
		return nil
	})
	for _, d := range s.daemons {
		d.Stop()
	}
	return last
}

// judge restores.
func (s *storm) judge(first, last int64) {
	s.t.Helper()
	if s.err != nil {
		s.t.Errorf("the workload failed: %v", s.err)
	}
	c := s.catalog("")
	if w := s.held(""); int64(w.From) > first || int64(w.To) < last {
		s.t.Fatalf("revisions %d to %d can be restored, want %d to %d", w.From, w.To, first, last)
	}
	mark, ok, err := s.repo("").LatestRecorded(s.t.Context())
	if err != nil || !ok || len(mark.Gaps) > 0 || int64(mark.Highest) < last {
		s.t.Errorf("the mark says %+v (%t, %v), want no gaps and at least revision %d", mark, ok, err, last)
	}
	compared := 0
	for _, n := range append(s.notes, note{rev: first}, note{rev: last}) {
		if n.rev >= first && s.restored(n) {
			compared++
		}
	}
	s.verified()
	s.t.Logf("revisions %d to %d in %d segments and %d full snapshots; %d of %d hashes compared", first, last, len(c.Segments), len(c.Backups()), compared, len(s.notes))
	if compared < min(3, len(s.notes)/2) {
		s.t.Errorf("%d of %d noted hashes could be compared: too few to prove anything", compared, len(s.notes))
	}
}

// verified finds nothing wrong with what the storm left: no hole, overlaps that agree, and a log that leads from the first full snapshot to the hashes
// of all later ones.
func (s *storm) verified() {
	s.t.Helper()
	rep, err := backup.Verify(s.t.Context(), backup.VerifyOptions{
		Repo: s.repo(""), All: true, Identities: []age.Identity{s.identity}, Scratch: s.t.TempDir(), Host: "test",
		Boot: func(context.Context, string, *repo.Manifest) (float64, error) { return 1, nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if !rep.OK || len(rep.Changes) != 1 || rep.Changes[0].Proofs == 0 {
		s.t.Errorf("verify: ok %t, changes %+v, documents %+v", rep.OK, rep.Changes, rep.DamagedDocuments)
		return
	}
	s.t.Logf("verify: %d segments, %d hashes equal, notes %q", rep.Changes[0].Segments, rep.Changes[0].Proofs, rep.Changes[0].Notes)
}

// restored restores a revision, and compares its hash with the member's; false when that is not possible, since the snapshot that it was restored from is
// compacted further than the member was.
func (s *storm) restored(n note) bool {
	s.t.Helper()
	at, err := backup.Locate(s.t.Context(), s.repo(""), backup.Point{Revision: repo.Revision(n.rev)}, backup.LocateOptions{})
	if err != nil {
		s.t.Errorf("revision %d: %v", n.rev, err)
		return false
	}
	path := filepath.Join(s.t.TempDir(), "db")
	if _, err := at.Materialise(s.t.Context(), s.repo(""), backup.MaterialiseOptions{Path: path, Identities: []age.Identity{s.identity}}); err != nil {
		s.t.Errorf("restore revision %d: %v", n.rev, err)
		return false
	}
	if n.hash == 0 || int64(at.Snapshot.Database.CompactRevision) > n.compact {
		return false
	}
	db, err := dbfile.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	hash, err := db.HashKV(s.t.Context(), repo.Revision(n.rev), repo.Revision(n.compact))
	if err != nil || hash != n.hash {
		s.t.Errorf("revision %d restored has hash %08x (%v), the member said %08x, compacted at %d", n.rev, hash, err, n.hash, n.compact)
	}
	return true
}
