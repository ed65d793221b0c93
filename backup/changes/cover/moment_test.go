package cover

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

func mark(r repo.Revision, seconds int) Mark {
	return Mark{Timeline: line, Revision: r, Time: at(seconds)}
}

// TestResolve: each moment of a history with a pause, a gap, and a second timeline.
func TestResolve(t *testing.T) {
	ws := []Window{{Timeline: line, From: 100, To: 150}, {Timeline: line, From: 200, To: 300}, {Timeline: other, From: 120, To: 180}}
	marks := []Mark{
		mark(100, 0), mark(120, 10), mark(120, 40), mark(140, 50), mark(150, 60), // nothing happened from 10 to 40
		mark(200, 100), mark(250, 110), mark(250, 110), mark(300, 120), mark(130, 130), // the last is an overlap that was recorded late
		{other, 120, at(200)}, {other, 180, at(300)},
	}
	now := at(1000)
	for _, c := range []struct {
		seconds int
		want    repo.Revision
		line    repo.Timeline
		exact   bool
		next    repo.Revision
		refused string // a part of the error or of its hint
	}{
		{-1, 0, line, false, 0, "before the first restore point|--to-revision 100"},
		{0, 100, line, true, 0, ""},
		{5, 100, line, false, 120, ""},
		{10, 120, line, true, 0, ""},
		{30, 120, line, true, 0, ""},
		{45, 120, line, false, 140, ""},
		{60, 150, line, true, 0, ""},
		{80, 0, line, false, 0, "nothing was recorded|--to-revision 150 (seen 2026-01-02T03:05:05Z), or --timeline 0000000000000007-1 --to-revision 200"},
		{105, 200, line, false, 250, ""},
		{119, 250, line, false, 300, ""},
		{120, 300, line, true, 0, ""},
		{150, 0, line, false, 0, "nothing was recorded|--timeline 0000000000000007-2 --to-revision 120"},
		{250, 120, other, false, 180, ""},
		{300, 180, other, true, 0, ""},
		{301, 0, other, false, 0, "after the last restore point|--to-revision 180"},
		{1001, 0, other, false, 0, "has not come yet|--to-time"},
	} {
		m, err := Resolve(ws, marks, repo.Timeline{}, at(c.seconds), now)
		if c.refused != "" {
			text, hint, _ := strings.Cut(c.refused, "|")
			if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(fail.HintOf(err), hint) {
				t.Errorf("%d s: got %+v, %v, hint %q; want refused with %q", c.seconds, m, err, fail.HintOf(err), c.refused)
			}
			continue
		}
		if err != nil || m.Revision != c.want || m.Timeline != c.line || m.Exact != c.exact || (m.Next == nil) != (c.next == 0) || m.Next != nil && m.Next.Revision != c.next {
			t.Errorf("%d s: got %+v (%v), want %+v", c.seconds, m, err, c)
		}
	}
}

// TestAmbiguous: two timelines that were both recorded at a time are told apart by the user alone.
func TestAmbiguous(t *testing.T) {
	ws := []Window{{Timeline: line, From: 1, To: 50}, {Timeline: other, From: 1, To: 50}}
	marks := []Mark{mark(10, 0), mark(20, 100), {other, 5, at(50)}, {other, 9, at(150)}}
	_, err := Resolve(ws, marks, repo.Timeline{}, at(70), at(1000))
	if err == nil || fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "revision 10 of timeline 0000000000000007-1, or revision 5 of timeline 0000000000000007-2") {
		t.Errorf("got %v, want ambiguous", err)
	}
	m, err := Resolve(ws, marks, other, at(70), at(1000))
	if err != nil || m.Revision != 5 {
		t.Errorf("got %+v (%v), want revision 5", m, err)
	}
	if _, err := Resolve(ws, nil, other, at(70), at(1000)); err == nil || !strings.Contains(err.Error(), "nothing was recorded") {
		t.Errorf("without marks: got %v", err)
	}
}

// TestResolveRandom: of one recorder's marks, the answer was seen by then, and the next one was not.
func TestResolveRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		ws := []Window{{Timeline: line, From: 1, To: 1 << 20}}
		var marks []Mark
		rev, sec := repo.Revision(1), 0
		for range 2 + rng.IntN(50) {
			marks = append(marks, mark(rev, sec))
			rev += repo.Revision(rng.IntN(5))
			sec += rng.IntN(10)
		}
		sorted := append([]Mark(nil), marks...)
		rng.Shuffle(len(marks), func(i, j int) { marks[i], marks[j] = marks[j], marks[i] })
		ask := rng.IntN(sorted[len(sorted)-1].Time.Second() + 1)
		got, err := Resolve(ws, marks, repo.Timeline{}, at(ask), at(1000000))
		var want repo.Revision
		last := sorted[0].Time
		for _, m := range sorted {
			if !m.Time.After(at(ask)) {
				want = m.Revision
			}
			last = m.Time
		}
		if at(ask).After(last) {
			if err == nil {
				t.Fatalf("%d s is after the last mark, got %+v", ask, got)
			}
			continue
		}
		if err != nil || got.Revision != want {
			t.Fatalf("%d s: got %+v (%v), want revision %d of %v", ask, got, err, want, sorted)
		}
	}
}

// TestNear: the segments on both sides of a time, of each timeline.
func TestNear(t *testing.T) {
	var segs []repo.Segment
	for i := range 100 {
		s := seg(repo.Revision(10*i+1), repo.Revision(10*i+10))
		s.ID = repo.NewSnapshotID(at(i * 10))
		segs = append(segs, s)
	}
	got := Near(segs, at(505))
	if len(got) != 2*near || got[near-1].ID.Time() != at(500) || got[near].ID.Time() != at(510) {
		t.Errorf("got %d segments from %v", len(got), got[0].ID.Time())
	}
	if len(Near(segs, at(-100))) != near || len(Near(segs, at(10000))) != near || len(Near(nil, at(0))) != 0 {
		t.Error("the ends")
	}
}

// TestParseTime: what --to-time takes.
func TestParseTime(t *testing.T) {
	for in, want := range map[string]time.Time{"-15m": at(-900), "2026-01-02T03:04:05Z": epoch, "2026-01-02T04:04:05.5+01:00": epoch.Add(500 * time.Millisecond), "0s": epoch} {
		if got, err := ParseTime(in, epoch); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v (%v), want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"15m", "", "yesterday", "2026-01-02", "+1h"} {
		if got, err := ParseTime(in, epoch); fail.ExitCode(err) != fail.Usage {
			t.Errorf("%s: got %v (%v), want wrong usage", in, got, err)
		}
	}
}
