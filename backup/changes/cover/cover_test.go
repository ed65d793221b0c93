package cover

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

var (
	line  = repo.Timeline{Cluster: 7, Cut: 1}
	other = repo.Timeline{Cluster: 7, Cut: 2}
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func snap(r, compact repo.Revision) Snapshot {
	return Snapshot{Entry: repo.Entry{Timeline: line, Revision: r, ID: repo.NewSnapshotID(epoch)}, Compact: compact}
}

func seg(first, last repo.Revision) repo.Segment {
	return repo.Segment{Timeline: line, First: first, Last: last, ID: repo.NewSnapshotID(epoch), Size: int64(last-first) + 1}
}

// reachable is the definition, by brute force: r can be had from one snapshot, backwards or forwards one revision at a time.
func reachable(snaps []Snapshot, segs []repo.Segment, r repo.Revision) bool {
	held := func(at repo.Revision) bool {
		for _, s := range segs {
			if s.First <= at && at <= s.Last {
				return true
			}
		}
		return false
	}
	for _, s := range snaps {
		if s.Compact != Unknown && s.Compact <= r && r <= s.Revision && r >= 1 {
			return true
		}
		at := s.Revision
		for at < r && held(at+1) {
			at++
		}
		if at == r {
			return true
		}
	}
	return false
}

// fewestCount is the least number of segments that hold from+1 to `to`, by breadth.
func fewestCount(segs []repo.Segment, from, to repo.Revision) int {
	reached := map[repo.Revision]bool{from: true}
	for n := 0; n <= len(segs); n++ {
		next := map[repo.Revision]bool{}
		for at := range reached {
			if at >= to {
				return n
			}
			for _, s := range segs {
				if s.First <= at+1 && s.Last > at {
					next[s.Last] = true
				}
			}
		}
		reached = next
	}
	return -1
}

// check holds everything that is promised about one repository against the definition.
func check(t *testing.T, snaps []Snapshot, segs []repo.Segment, top repo.Revision) {
	t.Helper()
	ws := Windows(snaps, segs)
	for i, w := range ws {
		if w.From > w.To || i > 0 && ws[i-1].To+1 >= w.From {
			t.Fatalf("windows %+v touch or are empty", ws)
		}
	}
	var below repo.Revision
	for r := repo.Revision(1); r <= top; r++ {
		want := reachable(snaps, segs, r)
		if got := len(Holding(ws, r)) == 1; got != want {
			t.Fatalf("revision %d: in a window %v, want %v\nwindows %+v\n%s", r, got, want, ws, show(snaps, segs))
		}
		plan, err := Cover(snaps, segs, line, r)
		if (err == nil) != want {
			t.Fatalf("revision %d: cover says %v, reachable %v\n%s", r, err, want, show(snaps, segs))
		}
		if want {
			below = r
			checkPlan(t, plan, snaps, segs, r)
			continue
		}
		var u *Unreachable
		if !errors.As(err, &u) || fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" {
			t.Fatalf("revision %d: got %v, want a refusal with a hint", r, err)
		}
		above := r + 1
		for above <= top && !reachable(snaps, segs, above) {
			above++
		}
		if above > top {
			above = 0
		}
		if u.Below != below || u.Above != above {
			t.Fatalf("revision %d: neighbours %d and %d, want %d and %d\n%s", r, u.Below, u.Above, below, above, show(snaps, segs))
		}
	}
}

// checkPlan follows a plan revision by revision.
func checkPlan(t *testing.T, p Plan, snaps []Snapshot, segs []repo.Segment, r repo.Revision) {
	t.Helper()
	if p.Rewind {
		if p.Snapshot.Revision <= r || p.Snapshot.Compact > r || p.Snapshot.Compact == Unknown || len(p.Segments) > 0 {
			t.Fatalf("revision %d: rewound %+v", r, p)
		}
		for _, s := range snaps {
			if s.Timeline == p.Timeline && s.Revision <= r && fewestCount(segs, s.Revision, r) >= 0 {
				t.Fatalf("revision %d: rewound from %d, though %d leads there", r, p.Snapshot.Revision, s.Revision)
			}
		}
		return
	}
	at := p.Snapshot.Revision
	for _, s := range p.Segments {
		if s.First > at+1 || s.Last <= at {
			t.Fatalf("revision %d: segment %d-%d applied at %d", r, s.First, s.Last, at)
		}
		at = s.Last
	}
	if p.Snapshot.Revision > r || at < r {
		t.Fatalf("revision %d: the plan ends at %d", r, at)
	}
	if n := fewestCount(segs, p.Snapshot.Revision, r); n != len(p.Segments) {
		t.Fatalf("revision %d: %d segments where %d do", r, len(p.Segments), n)
	}
}

func show(snaps []Snapshot, segs []repo.Segment) (out string) {
	for _, s := range snaps {
		out += fmt.Sprintf("snapshot %d compacted %d\n", s.Revision, s.Compact)
	}
	for _, s := range segs {
		out += fmt.Sprintf("segment %d-%d\n", s.First, s.Last)
	}
	return out
}

// TestExhaustive: every repository of up to two snapshots and any set of the segments over four revisions.
func TestExhaustive(t *testing.T) {
	const top = 4
	var all []repo.Segment
	for first := repo.Revision(2); first <= top; first++ {
		for last := first; last <= top; last++ {
			all = append(all, seg(first, last))
		}
	}
	choices := [][]Snapshot{{}}
	for r := repo.Revision(1); r <= top; r++ {
		for _, compact := range []repo.Revision{Unknown, 0, r - 1, r} {
			choices = append(choices, []Snapshot{snap(r, compact)})
		}
	}
	for _, r := range []repo.Revision{1, 2, 3} {
		choices = append(choices, []Snapshot{snap(r, r), snap(r+2, r+1)}, []Snapshot{snap(r+1, Unknown), snap(r, Unknown)})
	}
	for _, snaps := range choices {
		for set := range 1 << len(all) {
			var segs []repo.Segment
			for i, s := range all {
				if set>>i&1 == 1 {
					segs = append(segs, s)
				}
			}
			check(t, snaps, segs, top+1)
		}
	}
}

// TestRandom: larger repositories, with overlaps, identical duplicates and several snapshots, in any order of listing.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		const top = 60
		var snaps []Snapshot
		for range rng.IntN(5) {
			r := 1 + repo.Revision(rng.Int64N(top))
			snaps = append(snaps, snap(r, repo.Revision(rng.Int64N(int64(r)+2))-1))
		}
		var segs []repo.Segment
		for range rng.IntN(25) {
			first := 1 + repo.Revision(rng.Int64N(top))
			segs = append(segs, seg(first, min(top, first+repo.Revision(rng.Int64N(12)))))
			if rng.IntN(4) == 0 {
				segs = append(segs, segs[rng.IntN(len(segs))])
			}
		}
		rng.Shuffle(len(segs), func(i, j int) { segs[i], segs[j] = segs[j], segs[i] })
		check(t, snaps, segs, top+2)
		for _, o := range Orphans(snaps, segs) {
			if reachable(snaps, segs, o.First) && reachable(snaps, segs, o.Last) {
				t.Fatalf("segment %d-%d is called an orphan\n%s", o.First, o.Last, show(snaps, segs))
			}
		}
	}
}

// TestMissing: without its first, a middle or its newest segment, a log is cut exactly there.
func TestMissing(t *testing.T) {
	snaps := []Snapshot{snap(100, 100), snap(200, 190)}
	segs := []repo.Segment{seg(101, 120), seg(121, 150), seg(151, 180), seg(181, 210), seg(211, 230)}
	for drop, want := range []struct {
		windows string
		refused repo.Revision
		text    string
	}{
		{"[100 100] [190 230]", 101, "revision 101 lies in a gap of timeline 0000000000000007-1: 101 to 189 were not recorded"},
		{"[100 120] [190 230]", 150, "revision 150 lies in a gap of timeline 0000000000000007-1: 121 to 189 were not recorded"},
		{"[100 150] [190 230]", 189, "revision 189 lies in a gap of timeline 0000000000000007-1: 151 to 189 were not recorded"},
		{"[100 180] [190 200]", 201, "revision 201 is after the last restore point of timeline 0000000000000007-1, 200"},
		{"[100 210]", 211, "revision 211 is after the last restore point of timeline 0000000000000007-1, 210"},
	} {
		var left []repo.Segment
		for i, s := range segs {
			if i != drop {
				left = append(left, s)
			}
		}
		var got string
		for _, w := range Windows(snaps, left) {
			got += fmt.Sprintf(" [%d %d]", w.From, w.To)
		}
		if got != " "+want.windows {
			t.Errorf("without segment %d: windows%s, want %s", drop, got, want.windows)
		}
		if _, err := Cover(snaps, left, line, want.refused); err == nil || err.Error() != want.text {
			t.Errorf("without segment %d: got %v, want %s", drop, err, want.text)
		}
	}
	if _, err := Cover(nil, segs, line, 150); err == nil || fail.HintOf(err) != "`steward backup list` shows what can be restored" {
		t.Errorf("without a snapshot: got %v, %s", err, fail.HintOf(err))
	}
	_, err := Cover(snaps, segs[2:], line, 130)
	if want := "the nearest restore points: --to-revision 100, or --to-revision 190"; fail.HintOf(err) != want {
		t.Errorf("got hint %q, want %q", fail.HintOf(err), want)
	}
}

// TestTimelines: what belongs to another timeline is never used.
func TestTimelines(t *testing.T) {
	a, b := snap(10, 10), snap(10, 10)
	b.Timeline = other
	sa, sb := seg(11, 20), seg(11, 30)
	sb.Timeline = other
	snaps, segs := []Snapshot{a, b}, []repo.Segment{sa, sb}
	if _, err := Cover(snaps, segs, line, 25); err == nil {
		t.Error("another timeline's segment was used")
	}
	plan, err := Cover(snaps, segs, other, 25)
	if err != nil || plan.Snapshot.ID != b.ID || len(plan.Segments) != 1 || plan.Segments[0].Timeline != other {
		t.Errorf("got %+v, %v", plan, err)
	}
	ws := Windows(snaps, segs)
	if len(ws) != 2 || len(Holding(ws, 15)) != 2 || len(Holding(ws, 25)) != 1 {
		t.Errorf("windows %+v", ws)
	}
	if got := Gaps([]Window{{Timeline: line, From: 1, To: 5}, {Timeline: line, From: 9, To: 9}, {Timeline: other, From: 20, To: 30}}); len(got) != 1 || got[0] != (Gap{line, 6, 8}) {
		t.Errorf("gaps %+v", got)
	}
}

// TestSnapshots: only complete backups count.
func TestSnapshots(t *testing.T) {
	whole, half := snap(5, 0).Entry, snap(6, 0).Entry
	whole.Data, whole.Manifest = store.Info{Key: "d"}, store.Info{Key: "m"}
	half.Data = store.Info{Key: "d"}
	got := Snapshots(&repo.Catalog{Entries: []repo.Entry{whole, half}})
	if d := cmp.Diff([]Snapshot{{Entry: whole, Compact: Unknown}}, got); d != "" {
		t.Error(d)
	}
}

// TestOverlaps: every segment that holds a revision which another holds too is compared with one that does.
func TestOverlaps(t *testing.T) {
	a, b, c, d, e := seg(1, 10), seg(5, 7), seg(8, 20), seg(21, 30), seg(25, 26)
	o := seg(5, 9)
	o.Timeline = other
	got := Overlaps([]repo.Segment{e, d, c, b, a, o})
	want := [][2]repo.Segment{{a, b}, {a, c}, {d, e}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
