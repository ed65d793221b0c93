package rebuild_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// check holds a rebuilt file against the model: every record, and the hash for compactions that the file allows.
func check(t *testing.T, h *history, path string, target, compact int64) {
	t.Helper()
	want := h.until(target, compact)
	if target < compact {
		t.Fatalf("test is wrong: target %d below compaction %d", target, compact)
	}
	same := func(a, b change) bool {
		return a.rev == b.rev && a.sub == b.sub && a.tombstone == b.tombstone && bytes.Equal(a.value, b.value)
	}
	if got := records(t, path); !slices.EqualFunc(want, got, same) { // cmp takes long for so much
		t.Fatalf("records at %d differ (-want +got):\n%s", target, cmp.Diff(want, got, cmp.AllowUnexported(change{})))
	}
	for _, c := range []int64{compact, (compact + target) / 2, target} {
		if got, want := hashKV(t, path, target, c), h.hash(target, c); got != want {
			t.Fatalf("HashKV(%d, %d): got %08x, want %08x", target, c, got, want)
		}
	}
	f := open(t, path)
	defer f.Close()
	if err := f.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// randomCover cuts the log from somewhere at or before base+1 up to last into segments that overlap now and then.
func randomCover(t *testing.T, rng *rand.Rand, h *history, base, last int64) (segs []rebuild.Segment) {
	t.Helper()
	for first := 2 + rng.Int64N(max(base, 1)); ; {
		end := min(first+rng.Int64N(30), last)
		segs = append(segs, h.segment(t, first, end))
		if end == last {
			return segs
		}
		next := max(end+1-rng.Int64N(10)*rng.Int64N(2), 2)
		first = max(next, first)
	}
}

// TestAnyCover: whatever snapshot and whatever segments make a cover of a revision, the rebuilt file is the same, record by record.
func TestAnyCover(t *testing.T) {
	rng := newRand(t)
	h := newHistory()
	h.random(rng, 300)
	for i := range 20 {
		compact := rng.Int64N(250)
		base := max(compact, 1) + rng.Int64N(h.rev-max(compact, 1))
		target := max(compact, 1) + rng.Int64N(h.rev-max(compact, 1)+1)
		var segs []rebuild.Segment
		if target > base || rng.IntN(2) == 0 {
			segs = randomCover(t, rng, h, base, h.rev)
		}
		path := h.file(t, base, compact)
		opts := rebuild.Options{Path: path, Target: revision.Revision(target), Segments: segs, Timeline: timeline, ReadAhead: 1 + rng.IntN(4)}
		opts.Edit.BatchBytes = 1 << (8 + rng.IntN(10))
		res, err := rebuild.To(t.Context(), opts)
		if err != nil {
			t.Fatalf("%d: snapshot %d compacted at %d, target %d, %d segments: %v", i, base, compact, target, len(segs), err)
		}
		check(t, h, path, target, compact)
		if want := len(h.until(target, compact)) - len(h.until(base, compact)); res.Applied-res.Removed != int64(want) {
			t.Fatalf("applied %d, removed %d: want %d more", res.Applied, res.Removed, want)
		}
		// Once more changes nothing.
		opts.Segments = slices.Clone(segs)
		if res, err = rebuild.To(t.Context(), opts); err != nil || res.Applied+res.Removed != 0 {
			t.Fatalf("again: %+v, %v", res, err)
		}
	}
}

// TestMissing: a cover with a hole is refused before anything is opened, and the error names the hole.
func TestMissing(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 100)
	segs := []rebuild.Segment{h.segment(t, 11, 40), h.segment(t, 41, 70), h.segment(t, 71, 100)}
	for i := range segs {
		segs[i].Open = nil
	}
	for _, tc := range []struct {
		name    string
		segs    []rebuild.Segment
		missing string
	}{
		{"first", segs[1:], "11 to 40"},
		{"middle", []rebuild.Segment{segs[0], segs[2]}, "41 to 70"},
		{"newest", segs[:2], "71 to 90"},
		{"all", nil, "11 to 90"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 10, 0), Target: 90, Segments: tc.segs})
			if !errors.Is(err, rebuild.ErrMissing) || !strings.Contains(err.Error(), tc.missing) {
				t.Fatalf("got %v, want %s missing", err, tc.missing)
			}
		})
	}
	_, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 50, 40), Target: 39})
	if !errors.Is(err, rebuild.ErrMissing) || !strings.Contains(err.Error(), "compacted at revision 40") {
		t.Fatalf("rewind below the compaction: %v", err)
	}
}

// TestContradiction: two segments, or a segment and the snapshot, that do not agree are reported with the segment and the revision.
func TestContradiction(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 99)
	h.txn(op{key: "a", value: []byte("1")}, op{key: "b", value: []byte("2")}, op{key: "c", value: []byte("3")}) // revision 101
	h.random(newRand(t), 99)
	at := slices.IndexFunc(h.changes, func(c change) bool { return c.rev == 101 })
	alter := func(f func(all []change) []change) []change { return f(slices.Clone(h.changes)) }
	for name, other := range map[string][]change{
		"value": alter(func(all []change) []change {
			all[at].value = bytes.Replace(all[at].value, []byte("1"), []byte("9"), 1)
			return all
		}),
		"missing": alter(func(all []change) []change { return slices.Delete(all, at+2, at+3) }),
		"more": alter(func(all []change) []change {
			more := all[at]
			more.sub = 3
			return slices.Insert(all, at+3, more)
		}),
	} {
		good := func() []rebuild.Segment { return []rebuild.Segment{h.segment(t, 51, 120)} }
		for where, tc := range map[string]struct {
			base int64
			segs []rebuild.Segment
		}{
			"segments": {60, append(good(), segment("other", 90, 150, content(t, other, 90, 150)))},
			"snapshot": {110, []rebuild.Segment{segment("other", 90, 150, content(t, other, 90, 150))}},
			"at end":   {60, append(good(), segment("other", 90, 101, content(t, other, 90, 101)), h.segment(t, 110, 150))},
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				_, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, tc.base, 40), Target: 140, Segments: tc.segs})
				var seg *rebuild.SegmentError
				if !errors.Is(err, rebuild.ErrContradiction) || !errors.As(err, &seg) || seg.Segment != "other" || seg.Revision < 101 || seg.Revision > 102 {
					t.Fatalf("got %v (%+v), want a contradiction at revision 101 of segment other", err, seg)
				}
			})
		}
	}
}

// TestStranger: a segment of another timeline, or whose name and header disagree, or whose bytes are damaged, is never applied silently.
func TestStranger(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 200)
	good := content(t, h.changes, 51, 120)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		seg  rebuild.Segment
		line repo.Timeline
		want error
	}{
		"timeline":  {segment("other", 51, 120, good), repo.Timeline{Cluster: 0xabc, Cut: 2}, rebuild.ErrContradiction},
		"name":      {segment("other", 51, 119, good), timeline, changes.ErrDamaged},
		"flipped":   {segment("other", 51, 120, flipped), timeline, changes.ErrDamaged},
		"truncated": {segment("other", 51, 120, good[:len(good)-10]), timeline, changes.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 50, 0), Target: 60, Segments: []rebuild.Segment{tc.seg}, Timeline: tc.line})
			var seg *rebuild.SegmentError
			if !errors.Is(err, tc.want) || !errors.As(err, &seg) || seg.Segment != "other" {
				t.Fatalf("got %v, want %v of segment other", err, tc.want)
			}
		})
	}
}

// TestProof: the newest usable proof is checked; a wrong one fails the rebuild, one beyond the target or of less compaction is left alone.
func TestProof(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 200)
	run := func(marks ...mark) (rebuild.Result, error) {
		segs := []rebuild.Segment{h.segment(t, 51, 100, marks...), h.segment(t, 101, 180, marks...)}
		return rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 60, 30), Target: 150, Segments: segs})
	}
	res, err := run(proof(90, 40, h.hash(90, 40)), proof(140, 70, h.hash(140, 70)), proof(145, 20, 1), proof(160, 70, 1))
	if err != nil || res.Proof == nil || res.Proof.Revision != 140 || len(res.Proofs) != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err = run(proof(140, 70, 1+h.hash(140, 70))); !errors.Is(err, rebuild.ErrNotProven) {
		t.Fatalf("a wrong proof: %v", err)
	}
	if res, err = run(); err != nil || res.Proof != nil {
		t.Fatalf("without proofs: %+v, %v", res, err)
	}
}

// TestWhen: the time of the target lies between the marks around it.
func TestWhen(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 100)
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	segs := []rebuild.Segment{
		h.segment(t, 11, 60, seenAt(20, at(100)), seenAt(40, at(200)), seenAt(50, at(300)), seenAt(50, at(350)), seenAt(60, at(400))),
	}
	for target, want := range map[revision.Revision]rebuild.Time{
		15: {By: at(100)}, 30: {After: at(100), By: at(200)}, 50: {After: at(200), By: at(300)}, 51: {After: at(350), By: at(400)},
	} {
		res, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 10, 0), Target: target, Segments: segs})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, res.When); d != "" {
			t.Errorf("revision %d (-want +got):\n%s", target, d)
		}
	}
}

// TestCompact: a full snapshot made offline holds what etcd's compaction leaves, and nothing else changes.
func TestCompact(t *testing.T) {
	rng := newRand(t)
	h := newHistory()
	h.random(rng, 300)
	for range 10 {
		c := 60 + rng.Int64N(100)
		path := h.file(t, 60, 30, dbfile.Lease{ID: 5, TTL: 50})
		segs := []rebuild.Segment{h.segment(t, 51, 300, proof(200, c, h.hash(200, c)))}
		res, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 250, Segments: segs})
		if err != nil {
			t.Fatal(err)
		}
		dst := path + ".full"
		full, err := rebuild.Compact(t.Context(), path, dst, 0, res)
		if err != nil {
			t.Fatal(err)
		}
		check(t, h, dst, 250, c)
		if full.Proof == nil || full.Info.CompactRevision != revision.Revision(c) || full.Info.HashKV != h.hash(250, c) {
			t.Fatalf("%+v", full)
		}
		if d := cmp.Diff(leasesOf(t, path), leasesOf(t, dst)); d != "" || len(leasesOf(t, dst)) == 0 {
			t.Fatal("leases differ: ", d)
		}
	}
	if _, err := rebuild.Compact(t.Context(), h.file(t, 60, 30), fmt.Sprint(t.TempDir(), "/x"), 61, rebuild.Result{Revision: 60, CompactRevision: 30}); err == nil {
		t.Fatal("compacted beyond its revision")
	}
}
