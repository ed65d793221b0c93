package retention

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
)

// TestMomentsClockBehind: the newest of many backups was made by a master whose clock is four days behind, so that by its date it is the newest from before the
// window. Everything below it went, and nothing said so.
func TestMomentsClockBehind(t *testing.T) {
	p := Policy{Last: 4, Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12, Within: 72 * time.Hour, AnyMoment: 72 * time.Hour}
	for _, wrong := range []int{0, 6, 66, 72} { // how many hours ago the wrong one was made
		var right, behind history
		rev := repo.Revision(1000)
		for h := 100; h >= 0; h-- {
			at := now.Add(-time.Duration(h) * time.Hour)
			for _, hs := range []*history{&right, &behind} {
				hs.segment(lineA, rev+1, rev+10, at)
			}
			rev += 10
			if h%6 == 0 {
				right.snapshot(lineA, rev, at)
				if h == wrong {
					at = at.Add(-96 * time.Hour)
				}
				behind.snapshot(lineA, rev, at)
			}
		}
		want, _ := staying(Moments(p, Apply(p, right.items, now, nil), right.segs, now))
		got, why := staying(Moments(p, Apply(p, behind.items, now, nil), behind.segs, now))
		if want < 72 || want > 80 || got < 72 || got > 85 {
			t.Errorf("%d segments stay where the backup of %d hours ago is dated four days earlier, %d where none is; %s", got, wrong, want, why)
		}
	}
}

// TestMomentsHostBehind: a master whose clock is four days behind made all backups and recorded for half a day, before the window began or within it.
func TestMomentsHostBehind(t *testing.T) {
	p := Policy{Last: 4, Hourly: 24, Daily: 7, Within: 72 * time.Hour, AnyMoment: 72 * time.Hour}
	for begun := 100; begun >= 12; begun-- {
		var h history
		rev := repo.Revision(1000)
		for hour := 110; hour >= 0; hour-- {
			at := now.Add(-time.Duration(hour) * time.Hour)
			if begun >= hour && hour > begun-12 {
				at = at.Add(-96 * time.Hour)
			}
			h.segment(lineA, rev+1, rev+10, at)
			rev += 10
			if hour%6 == 0 {
				h.snapshot(lineA, rev, at)
			}
		}
		segs := Moments(p, Apply(p, h.items, now, nil), h.segs, now)
		n, why := staying(segs)
		if n < 72 || n > 72+18 || slices.ContainsFunc(segs[len(segs)-n:], func(d SegmentDecision) bool { return !d.Keep }) {
			t.Errorf("%d segments stay where the clock was wrong for the hours %d to %d; %s", n, begun, begun-11, why)
		}
	}
}

// TestMomentsRecorderBehind: a master whose clock is behind records everything and made the newest backup, the other ones are another master's.
func TestMomentsRecorderBehind(t *testing.T) {
	p := Policy{Last: 4, Hourly: 24, Daily: 7, Within: 72 * time.Hour, AnyMoment: 72 * time.Hour}
	for behind := range 100 {
		var h history
		rev := repo.Revision(1000)
		for hour := 110; hour >= 0; hour-- {
			at := now.Add(-time.Duration(hour) * time.Hour)
			wrong := at.Add(-time.Duration(behind) * time.Hour)
			h.segment(lineA, rev+1, rev+10, wrong)
			rev += 10
			switch {
			case hour == 0:
				h.snapshot(lineA, rev, wrong)
			case hour%6 == 0:
				h.snapshot(lineA, rev, at)
			}
		}
		if n, why := staying(Moments(p, Apply(p, h.items, now, nil), h.segs, now)); n < 72 {
			t.Errorf("%d segments stay with a clock that is %d hours behind; %s", n, behind, why)
		}
	}
}

// timed is a history of one timeline with the moment of each revision, which only the test knows.
type timed struct {
	history
	at []time.Time // of revision i+1
}

func randomTimed(rng *rand.Rand) timed {
	var h timed
	at := now.Add(-time.Duration(4*24+rng.IntN(6*24)) * time.Hour)
	h.snapshot(lineA, 1, at)
	h.at = append(h.at, at)
	idle := 1 + rng.IntN(3)
	for first := repo.Revision(2); at.Before(now.Add(-12 * time.Hour)); {
		last := first + repo.Revision(rng.IntN(12)) // at most 12 revisions, in less than the 12 hours that are left
		for range last - first + 1 {
			pause := time.Duration(1+rng.IntN(1200)) * time.Second
			if rng.IntN(40) == 0 && at.Before(now.Add(-36*time.Hour)) {
				pause *= time.Duration(idle * 20)
			}
			at = at.Add(pause)
			h.at = append(h.at, at)
		}
		closed := at.Add(time.Duration(rng.IntN(10)) * time.Second)
		if rng.IntN(20) == 0 { // it caught up
			closed = closed.Add(time.Duration(rng.IntN(10)) * time.Hour)
		}
		if closed.After(now) {
			closed = now
		}
		if rng.IntN(25) > 0 {
			h.segment(lineA, max(2, first-repo.Revision(rng.IntN(3))), last, closed)
		}
		if rng.IntN(8) == 0 {
			h.snapshot(lineA, last-repo.Revision(rng.IntN(2)), at)
			it := &h.items[len(h.items)-1]
			it.Compact = max(0, it.Revision-repo.Revision(rng.IntN(60)))
			it.Good, it.Verified = rng.IntN(8) > 0, rng.IntN(2) == 0
		}
		first = last + 1
	}
	return h
}

// wrongDate is any: seconds off, years off.
func wrongDate(rng *rand.Rand, t time.Time) time.Time {
	off := time.Duration(rng.Int64N(int64(3*365*24*time.Hour)) >> rng.IntN(20))
	if rng.IntN(3) > 0 {
		off = -off
	}
	return t.Add(off)
}

func (h *timed) wrongBackup(rng *rand.Rand, i int) {
	it := &h.items[i]
	it.Time = wrongDate(rng, it.Time)
	it.ID = repo.NewSnapshotID(it.Time)
}

func (h *timed) wrongSegment(rng *rand.Rand, i int) {
	s := &h.segs[i]
	s.ID = repo.NewSnapshotID(wrongDate(rng, s.ID.Time()))
	s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, true)
}

// TestMomentsWrongClocks: whichever backups are dated wrong while the segments are right, whichever segments while the backups are, and whatever prune's own clock
// says: every recorded revision that was the newest at some moment within the window, and was a restore point, is one afterwards.
func TestMomentsWrongClocks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	removed := 0
	for i := range 1500 {
		h, clock := randomTimed(rng), now
		fault := []string{"one backup", "one segment", "some backups", "some segments", "prune's clock"}[i%5]
		some := 1 + rng.IntN(4)
		switch fault {
		case "one backup":
			h.wrongBackup(rng, rng.IntN(len(h.items)))
		case "one segment":
			h.wrongSegment(rng, rng.IntN(len(h.segs)))
		case "some backups":
			for j := range h.items {
				if rng.IntN(some) == 0 {
					h.wrongBackup(rng, j)
				}
			}
		case "some segments":
			for j := range h.segs {
				if rng.IntN(some) == 0 {
					h.wrongSegment(rng, j)
				}
			}
		default:
			clock = wrongDate(rng, now)
		}
		p := Policy{Last: rng.IntN(3), Daily: 1 + rng.IntN(3), AnyMoment: time.Duration(1+rng.IntN(3)) * 24 * time.Hour}
		ds := Apply(p, h.items, clock, nil)
		segs := Moments(p, ds, h.segs, clock)
		removed += h.checkWindow(t, fault, p, ds, segs)
	}
	if removed < 3000 {
		t.Errorf("only %d segments were removed in all", removed)
	}
}

func (h *timed) checkWindow(t *testing.T, fault string, p Policy, ds []Decision, segs []SegmentDecision) (removed int) {
	t.Helper()
	var stay []repo.Segment
	for _, d := range segs {
		if d.Keep {
			stay = append(stay, d.Segment)
		} else {
			removed++
		}
	}
	var all, kept []cover.Snapshot
	for _, d := range ds {
		if d.Item.Good {
			s := cover.Snapshot{Entry: repo.Entry{Timeline: lineA, Revision: d.Item.Revision, ID: d.Item.ID}, Compact: d.Item.Compact}
			all = append(all, s)
			if d.Keep {
				kept = append(kept, s)
			}
		}
	}
	before, after := cover.Windows(all, h.segs), cover.Windows(kept, stay)
	recorded := func(r repo.Revision) bool {
		return slices.ContainsFunc(h.segs, func(s repo.Segment) bool { return s.First <= r && r <= s.Last })
	}
	for i, at := range h.at {
		r := repo.Revision(i + 1)
		begins, until := now.Add(-p.AnyMoment), now
		if i+1 < len(h.at) {
			until = h.at[i+1]
		}
		if !until.After(begins) || at.After(begins) && !recorded(r) || !at.After(begins) && !recorded(r+1) {
			continue
		}
		if len(cover.Holding(before, r)) > 0 && len(cover.Holding(after, r)) == 0 {
			t.Fatalf("%s dated wrong, %v: revision %d of %v to %v was a restore point and is none any more\nbefore %+v\nafter %+v", fault, p, r, at, until, before, after)
		}
	}
	return removed
}
