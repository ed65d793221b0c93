package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
)

var lineA = repo.Timeline{Cluster: 0xa, Cut: 1}

// history is backups and segments of some timelines; a revision is made every minute.
type history struct {
	items []Item
	segs  []repo.Segment
}

func (h *history) snapshot(t repo.Timeline, rev repo.Revision, at time.Time) {
	h.items = append(h.items, Item{ID: repo.NewSnapshotID(at), Time: at, Timeline: t, Revision: rev, Compact: max(0, rev-5), Good: true})
}

func (h *history) segment(t repo.Timeline, first, last repo.Revision, at time.Time) {
	id := repo.NewSnapshotID(at)
	h.segs = append(h.segs, repo.Segment{Timeline: t, First: first, Last: last, ID: id, Key: repo.SegmentKey(t, first, last, id, true)})
}

// staying is how many segments stay, with the reason of the first that goes.
func staying(ds []SegmentDecision) (n int, why string) {
	for _, d := range ds {
		if d.Keep {
			n++
		} else if why == "" {
			why = d.Why
		}
	}
	return n, why
}

// TestMoments: a backup every six hours, a segment every hour, for twenty days, and a window of three: what it needs stays, and what is older goes.
func TestMoments(t *testing.T) {
	var h history
	const hours = 20 * 24
	for i := range hours {
		at := now.Add(-time.Duration(hours-i) * time.Hour)
		if i%6 == 0 {
			h.snapshot(lineA, repo.Revision(10*i+1), at)
		}
		h.segment(lineA, repo.Revision(10*i+2), repo.Revision(10*i+11), at.Add(time.Hour-time.Second))
	}
	p := Policy{Last: 2, Daily: 30, AnyMoment: 72 * time.Hour}
	ds := Apply(p, h.items, now, nil)
	segs := Moments(p, ds, h.segs, now)
	n, why := staying(segs)
	if n < 72 || n > 72+7 || !strings.Contains(why, "older than any moment") {
		t.Errorf("%d segments stay; %s", n, why)
	}
	first := slices.IndexFunc(segs, func(d SegmentDecision) bool { return d.Keep })
	if slices.ContainsFunc(segs[first:], func(d SegmentDecision) bool { return !d.Keep }) {
		t.Error("what stays has holes")
	}
	anchor := slices.IndexFunc(ds, func(d Decision) bool { return d.Item.Revision == segs[first].Segment.First-1 })
	if anchor < 0 || !ds[anchor].Keep || !strings.Contains(strings.Join(ds[anchor].Why, " "), "begins with it") || ds[anchor].Item.Time.After(now.Add(-72*time.Hour)) {
		t.Errorf("the backup at %d: %+v", segs[first].Segment.First-1, ds[max(0, anchor)])
	}
	if over := OverdueMoments(p, ds, segs, now, nil); over == 0 {
		t.Error("segments of twenty days ago are not overdue")
	}
	// Without a window, the end stays; with a policy that is none, all.
	if n, _ := staying(Moments(Policy{Last: 2}, Apply(Policy{Last: 2}, h.items, now, nil), h.segs, now)); n < 6 || n > 7 {
		t.Errorf("without a window %d segments stay", n)
	}
	if n, _ := staying(Moments(Policy{AnyMoment: time.Hour}, Apply(Policy{}, h.items, now, nil), h.segs, now)); n != hours {
		t.Errorf("with an invalid policy %d segments stay", n)
	}
	// A second prune right after the first one removes nothing.
	var left history
	for _, d := range ds {
		if d.Keep {
			left.items = append(left.items, d.Item)
		}
	}
	for _, d := range segs {
		if d.Keep {
			left.segs = append(left.segs, d.Segment)
		}
	}
	again := Apply(p, left.items, now, nil)
	if n, why := staying(Moments(p, again, left.segs, now)); n != len(left.segs) {
		t.Errorf("a second time %d of %d stay: %s", n, len(left.segs), why)
	}
	// Day after day, nothing becomes overdue.
	last := left.segs[len(left.segs)-1].Last
	for day := range 12 {
		tomorrow := now.Add(time.Duration(day+1) * 24 * time.Hour)
		for hour := range 24 {
			at := tomorrow.Add(time.Duration(hour-24) * time.Hour)
			if hour%6 == 0 {
				left.snapshot(lineA, last, at)
			}
			left.segment(lineA, last+1, last+10, at.Add(time.Hour-time.Second))
			last += 10
		}
		ds = Apply(p, left.items, tomorrow, nil)
		segs = Moments(p, ds, left.segs, tomorrow)
		if over := OverdueMoments(p, ds, segs, tomorrow, nil); over > 0 {
			t.Fatalf("%d are overdue after %d days", over, day+1)
		}
		left = history{}
		for _, d := range ds {
			if d.Keep {
				left.items = append(left.items, d.Item)
			}
		}
		for _, d := range segs {
			if d.Keep {
				left.segs = append(left.segs, d.Segment)
			}
		}
		if n := len(left.segs); n < 72 || n > 72+24+7 { // of older days one backup is left
			t.Fatalf("%d segments stay after %d days", n, day+1)
		}
	}
}

// TestMomentsRandom: whatever the history, its gaps, its clocks and the policy, each restore point from the window's first backup on is one afterwards,
// and what must never go stays.
func TestMomentsRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	removed := 0
	for i := range 2000 {
		h := randomHistory(rng)
		p := Policy{Last: rng.IntN(3), Daily: 1 + rng.IntN(3), AnyMoment: time.Duration(rng.IntN(4)) * 24 * time.Hour}
		ds := Apply(p, h.items, now, nil)
		before := slices.Clone(ds)
		segs := Moments(p, ds, h.segs, now)
		for j := range ds {
			if before[j].Keep && !ds[j].Keep {
				t.Fatalf("%d: a backup that was kept goes", i)
			}
		}
		removed += checkMoments(t, p, ds, segs)
	}
	if removed < 1000 {
		t.Errorf("only %d segments were removed in all", removed)
	}
}

func randomHistory(rng *rand.Rand) history {
	var h history
	for cut := range 1 + rng.IntN(2) {
		line := repo.Timeline{Cluster: 0xa, Cut: uint32(1 + cut)}
		begin := now.Add(-time.Duration(rng.IntN(10*24)) * time.Hour)
		at := func(rev repo.Revision) time.Time { return begin.Add(time.Duration(rev) * 10 * time.Minute) }
		for rev := repo.Revision(1); rev < repo.Revision(rng.IntN(1500)) && at(rev).Before(now.Add(30*time.Minute)); {
			last := rev + repo.Revision(rng.IntN(20))
			if rng.IntN(8) > 0 {
				h.segment(line, max(1, rev-repo.Revision(rng.IntN(3))), last, at(last))
			}
			if rng.IntN(6) == 0 {
				h.snapshot(line, last-repo.Revision(rng.IntN(3)), at(last))
				it := &h.items[len(h.items)-1]
				it.Revision = max(1, it.Revision)
				it.Compact = max(0, it.Revision-repo.Revision(rng.IntN(60)))
				it.Good, it.Verified = rng.IntN(6) > 0, rng.IntN(2) == 0
			}
			rev = last + 1
		}
	}
	rng.Shuffle(len(h.segs), func(a, b int) { h.segs[a], h.segs[b] = h.segs[b], h.segs[a] })
	return h
}

// checkMoments compares restore points before and after, by the rules of the room that chooses covers.
func checkMoments(t *testing.T, p Policy, ds []Decision, segs []SegmentDecision) (removed int) {
	t.Helper()
	var all, stay []repo.Segment
	for _, d := range segs {
		all = append(all, d.Segment)
		if d.Keep {
			stay = append(stay, d.Segment)
			continue
		}
		removed++
		if d.Why == "" || d.Segment.ID.Time().After(now.Add(-time.Hour)) {
			t.Fatalf("%v: %+v goes", p, d)
		}
	}
	windows := func(segs []repo.Segment, counts func(Decision) bool) []cover.Window {
		var snaps []cover.Snapshot
		for _, d := range ds {
			if d.Item.Good && counts(d) {
				snaps = append(snaps, cover.Snapshot{Entry: repo.Entry{Timeline: d.Item.Timeline, Revision: d.Item.Revision, ID: d.Item.ID}, Compact: d.Item.Compact})
			}
		}
		return cover.Windows(snaps, segs)
	}
	past := func(d Decision) bool { return !d.Item.Time.After(now.Add(clockSkewMax)) }
	before, after := windows(all, past), windows(stay, func(d Decision) bool { return past(d) && d.Keep })
	holds := func(ws []cover.Window, line repo.Timeline, r repo.Revision) bool {
		return slices.ContainsFunc(cover.Holding(ws, r), func(w cover.Window) bool { return w.Timeline == line })
	}
	for _, line := range []repo.Timeline{lineA, {Cluster: 0xa, Cut: 2}} {
		from, newest, alive := windowOf(p, line, ds, all)
		for r := from; alive && r < 1600; r++ {
			if holds(before, line, r) && !holds(after, line, r) {
				t.Fatalf("%v: revision %d of %s was a restore point and is none any more (the window begins at %d)\nbefore %+v\nafter %+v", p, r, line, from, before, after)
			}
		}
		if c := currentLine(ds, now); c == line {
			for _, d := range segs {
				if d.Segment.Timeline == line && d.Segment.Last > newest && !d.Keep {
					t.Fatalf("%v: what follows the newest backup at %d goes: %+v", p, newest, d)
				}
			}
		}
	}
	return removed
}

// windowOf is where the window begins on a timeline, by the words of the promise.
func windowOf(p Policy, line repo.Timeline, ds []Decision, segs []repo.Segment) (from, newest repo.Revision, alive bool) {
	begins := now.Add(-p.AnyMoment)
	oldest := repo.Revision(0)
	for _, d := range ds {
		it := d.Item
		if it.Timeline != line || !it.Good || it.Time.After(now.Add(clockSkewMax)) {
			continue
		}
		if !it.Time.After(begins.Add(-clockSkewMax)) {
			from = max(from, it.Revision)
		}
		if oldest == 0 || it.Revision < oldest {
			oldest = it.Revision
		}
		newest = max(newest, it.Revision)
		alive = alive || it.Time.After(begins)
	}
	for _, s := range segs {
		alive = alive || s.Timeline == line && s.ID.Time().After(begins)
	}
	if from == 0 {
		from = oldest
	}
	return from, newest, alive && p.AnyMoment > 0 && oldest > 0
}

// TestOrphanSegments: segments that nothing leads to stay for a day, since a backup may come; other timelines' old ones go.
func TestOrphanSegments(t *testing.T) {
	var h history
	h.snapshot(lineA, 100, now.Add(-2*time.Hour))
	other := repo.Timeline{Cluster: 0xa, Cut: 2}
	h.segment(other, 1, 10, now.Add(-30*24*time.Hour))
	h.segment(other, 11, 20, now.Add(-20*time.Hour))
	h.segment(other, 21, 30, now.Add(48*time.Hour))
	ds := Apply(Policy{Last: 2}, h.items, now, nil)
	var got []string
	for _, d := range Moments(Policy{Last: 2, AnyMoment: time.Hour}, ds, h.segs, now) {
		got = append(got, fmt.Sprint(d.Keep, " ", d.Why))
	}
	want := []string{"false no backup leads to it", "true no backup leads to it yet", "true dated in the future: a clock is wrong"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
