package rebuild_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// number reads a number from the environment.
func number(name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// TestExact is the promise: whatever is done to a cluster, a rebuild of any revision has the hash that a member gave for it. The history of
// three members is long also here; STEWARD_REVISIONS=100000 makes all three so (`make soak`), STEWARD_SEED repeats the choices.
func TestExact(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd: minutes")
	}
	for _, v := range []struct {
		version   string
		members   int
		revisions int64
	}{{"3.5", 1, 10_000}, {"3.6", 3, 100_000}, {"3.7", 1, 10_000}} {
		t.Run(v.version, func(t *testing.T) {
			if lab.Racing {
				v.revisions = min(v.revisions, 10_000)
				t.Logf("%d revisions under the race detector: make test runs 100,000 of 3.6 without it", v.revisions)
			}
			exact(t, number("STEWARD_REVISIONS", v.revisions), lab.EtcdOptions{
				Version: v.version, Members: v.members, UnsafeNoFsync: true,
				ExtraArgs: []string{"--max-txn-ops", fmt.Sprint(maxTxnOps), "--snapshot-count", "10000"},
			})
		})
	}
}

func exact(t *testing.T, revisions int64, o lab.EtcdOptions) {
	rng := newRand(t)
	cluster := lab.StartEtcd(t, o)
	cli := cluster.Client(t)
	rec := record(t, cli, 2, 500)
	w := &workload{t: t, cluster: cluster, cli: cli, rec: rec, keys: 2000 + int(revisions/20), burst: int(revisions)}
	w.rev.Store(1)
	const rounds = 4
	snaps := []string{snapshot(t, cli)}
	for i := range int64(rounds) {
		w.run(rng, revisions*(i+1)/rounds, 50)
		snaps = append(snaps, snapshot(t, cli))
		if t.Failed() {
			t.FailNow()
		}
	}
	last := w.rev.Load()
	segs := rec.until(t, last)
	t.Logf("%d revisions, %d segments, %d notes, compacted at %d, the widest deletion %d keys", last, len(segs), len(w.notes), w.compact.Load(), w.widest.Load())
	if w.widest.Load() < int64(w.burst)/2 {
		t.Errorf("no deletion was of more than %d keys", w.widest.Load())
	}
	everyNote(t, snaps[0], segs, w.notes)
	otherCovers(t, rng, snaps, segs, w.notes)
}

// everyNote rebuilds one note after the other out of the snapshot of the empty cluster: each continues the file of the one before.
func everyNote(t *testing.T, snap string, segs []rebuild.Segment, notes []note) {
	t.Helper()
	slices.SortFunc(notes, func(a, b note) int { return int(a.rev - b.rev) })
	path := clone(t, snap)
	for _, n := range notes {
		f := open(t, path)
		have, _, err := f.Revisions()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		rest := slices.DeleteFunc(slices.Clone(segs), func(s rebuild.Segment) bool { return s.Last <= have })
		if _, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: revision.Revision(n.rev), Segments: rest, Timeline: timeline}); err != nil {
			t.Fatal(err)
		}
		if got := hashKV(t, path, n.rev, n.compact); got != n.hash {
			t.Fatalf("HashKV(%d) with compaction at %d: got %08x, the member gave %08x", n.rev, n.compact, got, n.hash)
		}
	}
}

// otherCovers rebuilds some notes from any snapshot that allows it, before them or beyond.
func otherCovers(t *testing.T, rng *rand.Rand, snaps []string, segs []rebuild.Segment, notes []note) {
	t.Helper()
	done := 0
	for range 100 {
		n, snap := notes[rng.IntN(len(notes))], snaps[rng.IntN(len(snaps))]
		f := open(t, snap)
		have, compact, err := f.Revisions()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if int64(compact) > min(n.rev, n.compact) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(segs), func(s rebuild.Segment) bool { return s.Last <= min(have, revision.Revision(n.rev))-300 })
		path := clone(t, snap)
		if _, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: revision.Revision(n.rev), Segments: rest, Timeline: timeline}); err != nil {
			t.Fatal(err)
		}
		if got := hashKV(t, path, n.rev, n.compact); got != n.hash {
			t.Fatalf("snapshot at %d compacted at %d: HashKV(%d) with compaction at %d: got %08x, the member gave %08x", have, compact, n.rev, n.compact, got, n.hash)
		}
		if done++; done == 12 {
			return
		}
	}
	if done == 0 {
		t.Error("no other cover was tried")
	}
}
