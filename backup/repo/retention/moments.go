package retention

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"etcd-steward/backup/repo"
)

// orphanAge is how long segments stay to which no backup leads yet: the next one may.
const orphanAge = 24 * time.Hour

// SegmentDecision says what becomes of one segment of the change log, and why.
type SegmentDecision struct {
	Segment repo.Segment
	Keep    bool
	Why     string
}

// Moments decides about the change log, in the order of repo.SortSegments, and keeps of the backups in ds, which Apply has made, also those
// without which a moment within the window could not be restored any more: the newest good one before the window begins, and where the log has gaps those behind them.
//
// Every restore point from the window's first backup on stays one. Older segments go: what is kept of that time are the backups. Whatever the
// policy says, what follows the newest good backup of the current timeline stays, as does what is younger than an hour, or than a day where no
// good backup leads to it.
//
// No wrong clock moves the window's beginning past a change of the window: not that of any number of backups while the segments are dated right, nor that of any
// number of segments while the backups are, nor `now`, since the window ends with the newest backup or segment. Dates that contradict each other keep more.
func Moments(p Policy, ds []Decision, segs []repo.Segment, now time.Time) []SegmentDecision {
	segs = slices.Clone(segs)
	repo.SortSegments(segs)
	var out []SegmentDecision
	invalid := p.Validate()
	current := currentLine(ds, now)
	begins := newestDate(ds, segs, now).Add(-p.AnyMoment)
	for len(segs) > 0 {
		n := 1
		for n < len(segs) && segs[n].Timeline == segs[0].Timeline {
			n++
		}
		line := newLine(ds, segs[:n], now)
		if invalid == nil {
			line.window(p.AnyMoment, begins, now)
		}
		for _, s := range segs[:n] {
			d := SegmentDecision{Segment: s, Keep: true}
			switch {
			case invalid != nil:
				d.Why = invalid.Error()
			default:
				d.Keep, d.Why = line.decide(s, p.AnyMoment, now, s.Timeline == current)
			}
			out = append(out, d)
		}
		segs = segs[n:]
	}
	return out
}

// line is one timeline with a change log.
type line struct {
	segs   []repo.Segment
	all    []*Decision // good ones, by revision
	snaps  []*Decision // of them, those that are not dated in the future
	runs   []span
	from   repo.Revision // the window's first backup
	inside bool          // the window has a part of this timeline
}

// span is a range of revisions, both ends included.
type span struct{ first, last repo.Revision }

// currentLine is the timeline of the backup that Apply calls current.
func currentLine(ds []Decision, now time.Time) repo.Timeline {
	var good []*Decision
	for i := len(ds) - 1; i >= 0; i-- {
		if ds[i].Item.Good && !ds[i].Item.Time.After(now.Add(clockSkewMax)) {
			good = append(good, &ds[i])
		}
	}
	if len(good) == 0 {
		return repo.Timeline{}
	}
	return current(good).Item.Timeline
}

func newLine(ds []Decision, segs []repo.Segment, now time.Time) *line {
	l := &line{segs: segs}
	for i := range ds {
		if it := ds[i].Item; it.Timeline == segs[0].Timeline && it.Good {
			l.all = append(l.all, &ds[i])
		}
	}
	slices.SortStableFunc(l.all, func(a, b *Decision) int { return cmp.Compare(a.Item.Revision, b.Item.Revision) })
	l.snaps = slices.DeleteFunc(slices.Clone(l.all), func(d *Decision) bool { return d.Item.Time.After(now.Add(clockSkewMax)) })
	for _, s := range segs {
		l.runs = join(l.runs, span{s.First, s.Last})
	}
	return l
}

// newestDate is that of the newest good backup or segment, or now if one is dated later. A window that ends there does not shrink because this clock is ahead, or
// those of the masters are behind.
func newestDate(ds []Decision, segs []repo.Segment, now time.Time) time.Time {
	var newest time.Time
	see := func(t time.Time) {
		if t.After(newest) && !t.After(now.Add(clockSkewMax)) {
			newest = t
		}
	}
	for _, d := range ds {
		if d.Item.Good {
			see(d.Item.Time)
		}
	}
	for _, s := range segs {
		see(s.ID.Time())
	}
	if newest.IsZero() || newest.After(now) {
		return now
	}
	return newest
}

// window keeps the backups that the window needs.
func (l *line) window(length time.Duration, begins, now time.Time) {
	after := func(t time.Time) bool { return t.After(begins) }
	l.inside = length > 0 && len(l.all) > 0 && (slices.ContainsFunc(l.segs, func(s repo.Segment) bool { return after(s.ID.Time()) }) ||
		slices.ContainsFunc(l.all, func(d *Decision) bool { return after(d.Item.Time) }))
	if !l.inside {
		return
	}
	anchor := l.anchor(begins, now)
	l.from = anchor.Item.Revision
	anchor.floor(fmt.Sprintf("any moment of the last %s begins with it", short(length)))
	var have []span
	for _, d := range l.snaps {
		if d.Keep {
			have = join(have, l.gives(d.Item))
		}
	}
	for _, d := range l.snaps {
		if d.Keep || d.Item.Revision < l.from {
			continue
		}
		gives := l.gives(d.Item)
		gives.first = max(gives.first, l.from)
		if !covers(have, gives) {
			d.keep(fmt.Sprintf("any moment of the last %s: the change log has a gap before it", short(length)))
			have = join(have, gives)
		}
	}
}

// anchor is the backup that the window begins with: the highest revision before everything that is dated within. One date alone decides nothing, as the
// clock may have been wrong: a backup whose date says that it is from before the window is passed over when one of a lower revision is dated later, and when a
// segment with revisions up to its own was closed within the window. Where that leaves none it is the lowest revision that there is.
func (l *line) anchor(begins, now time.Time) *Decision {
	lowest := repo.Revision(math.MaxInt64) // that may be of the window, by the change log
	for _, s := range l.segs {
		if at := s.ID.Time(); at.After(begins) && !at.After(now.Add(clockSkewMax)) {
			lowest = min(lowest, s.First)
		}
	}
	anchor := l.all[0]
	var seen time.Time
	for _, d := range l.snaps {
		at := d.Item.Time
		if at.After(begins.Add(-clockSkewMax)) { // its revision was seen somewhat after its stream began, by another clock perhaps
			break
		}
		if d.Item.Revision < lowest && !at.Before(seen.Add(-clockSkewMax)) {
			anchor = d
		}
		if at.After(seen) {
			seen = at
		}
	}
	return anchor
}

// gives are the restore points that a backup stands for: its own history, and what the log adds. What is older than the window adds nothing, as it goes.
func (l *line) gives(it Item) span {
	s := span{max(1, min(it.Compact, it.Revision)), it.Revision}
	if it.Revision < l.from {
		return s
	}
	for _, r := range l.runs {
		if r.first <= it.Revision+1 && r.last > it.Revision {
			s.last = r.last
		}
	}
	return s
}

func (l *line) decide(s repo.Segment, window time.Duration, now time.Time, current bool) (keep bool, why string) {
	at := s.ID.Time()
	switch {
	case at.After(now.Add(clockSkewMax)):
		return true, "dated in the future: a clock is wrong"
	case l.inside && s.Last > l.from:
		return true, "any moment of the last " + short(window)
	case current && s.Last > l.snaps[len(l.snaps)-1].Item.Revision:
		return true, "behind the newest backup"
	case at.After(now.Add(-removeAgeMin)):
		return true, "younger than an hour"
	case len(l.snaps) == 0 && at.After(now.Add(-max(orphanAge, window))):
		return true, "no backup leads to it yet"
	case window == 0:
		return false, "no moments between backups are kept"
	case len(l.snaps) == 0:
		return false, "no backup leads to it"
	}
	return false, "older than any moment of the last " + short(window)
}

// short is a duration in whole days or hours where it is one.
func short(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

// join adds a span to others that are in order of their first revisions and do not touch.
func join(all []span, s span) []span {
	var out []span
	for _, a := range all {
		if a.last+1 < s.first || s.last+1 < a.first {
			out = append(out, a)
			continue
		}
		s = span{min(s.first, a.first), max(s.last, a.last)}
	}
	out = append(out, s)
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return out
}

func covers(all []span, s span) bool {
	return slices.ContainsFunc(all, func(a span) bool { return a.first <= s.first && s.last <= a.last })
}

// OverdueMoments is how many segments go that this policy would have let go 8 days ago: as Overdue says of backups, it was changed, or prune has not run. A
// segment's lock is not known; it is taken to be as long as the longest of the backups.
func OverdueMoments(p Policy, ds []Decision, segs []SegmentDecision, now time.Time, loc *time.Location) int {
	then := now.Add(-overdueAfter)
	var items []Item
	var lock time.Duration
	for _, d := range ds {
		if !d.Item.Time.After(then) {
			items = append(items, d.Item)
		}
		if !d.Item.RetainUntil.IsZero() {
			lock = max(lock, d.Item.RetainUntil.Sub(d.Item.Time))
		}
	}
	var were []repo.Segment
	goes := map[string]bool{}
	for _, s := range segs {
		at := s.Segment.ID.Time()
		if at.After(then) {
			continue
		}
		were = append(were, s.Segment)
		goes[s.Segment.Key] = !s.Keep && !at.Add(lock).After(then)
	}
	n := 0
	for _, d := range Moments(p, Apply(p, items, then, loc), were, then) {
		if !d.Keep && goes[d.Segment.Key] {
			n++
		}
	}
	return n
}
