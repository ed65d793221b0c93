// Package schedule answers two questions about a schedule: which tick comes next, and which was the last one that was due.
// It promises that the answer depends on the schedule and the time alone, so that daemons on several masters agree on every tick,
// and that no day is left out when the clocks go forward. It does not run anything and knows no jitter.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a minimal host may have no zone files; a schedule must not change its meaning there

	"github.com/robfig/cron/v3"
)

// Never is the text of a schedule that is switched off on purpose.
const Never = "never"

// minInterval bounds `@every`: a tick costs a listing of the store.
const minInterval = time.Second

// horizon is how far Next and Last look. Cron's rarest sensible tick is 29 February.
const horizon = 5 * 366 * 24 * time.Hour

// parser knows the five fields of crontab(5), optional seconds before them, and @hourly, @daily, @every.
var parser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Schedule is a parsed schedule. The zero value never ticks.
type Schedule struct {
	text  string
	every time.Duration // of @every
	spec  *cron.SpecSchedule
	loc   *time.Location
}

// Parse reads five cron fields (six with seconds first), a descriptor such as @daily or @every 5m, or "never". The fields are
// local time in loc. A schedule that would not tick within five years is an error.
func Parse(text string, loc *time.Location) (Schedule, error) {
	s := Schedule{text: strings.TrimSpace(text), loc: loc}
	switch {
	case s.text == Never:
		return s, nil
	case s.text == "":
		return Schedule{}, errors.New("schedule is empty: give cron fields, @daily, @every 6h, or never")
	case strings.Contains(s.text, "TZ="):
		return Schedule{}, errors.New("schedule names a time zone: give it in the field timezone")
	}
	parsed, err := parser.Parse(s.text)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %q: %w", s.text, err)
	}
	switch p := parsed.(type) {
	case cron.ConstantDelaySchedule:
		return s.parseEvery()
	case *cron.SpecSchedule:
		p.Location = loc
		s.spec = p
	default:
		return Schedule{}, fmt.Errorf("schedule %q: not supported", s.text)
	}
	if s.spec.Next(time.Unix(0, 0)).IsZero() {
		return Schedule{}, fmt.Errorf("schedule %q never fires: no such date exists", s.text)
	}
	return s, nil
}

// parseEvery reads the duration again: cron rounds what is below a second up, without a word.
func (s Schedule) parseEvery() (Schedule, error) {
	d, err := time.ParseDuration(strings.TrimSpace(strings.TrimPrefix(s.text, "@every ")))
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %q: %w", s.text, err)
	}
	if d < minInterval || d%time.Second != 0 || d > horizon {
		return Schedule{}, fmt.Errorf("schedule %q: want whole seconds, at least 1s", s.text)
	}
	s.every = d
	return s, nil
}

// String is the schedule as it was written.
func (s Schedule) String() string { return s.text }

// IsNever says whether the schedule has no ticks.
func (s Schedule) IsNever() bool { return s.every == 0 && s.spec == nil }

// Next is the first tick after t, or the zero time when there is none.
//
// The ticks of @every are the multiples of its duration since the Unix epoch, whenever the daemon was started.
// A tick whose local time does not exist, because the clocks go forward over it, is due at the moment they do;
// one whose local time exists twice is due twice.
func (s Schedule) Next(t time.Time) time.Time {
	switch {
	case s.IsNever():
		return time.Time{}
	case s.every > 0:
		return floor(t, s.every).Add(s.every)
	}
	next := s.spec.Next(t.UTC())
	if next.IsZero() {
		return next
	}
	if at := s.skipped(t, next); !at.IsZero() {
		return at
	}
	return next.UTC()
}

// floor is the last multiple of d since the epoch that is not after t.
func floor(t time.Time, d time.Duration) time.Time {
	step := int64(d / time.Second)
	sec := t.Unix()
	return time.Unix(sec-((sec%step)+step)%step, 0).UTC()
}

// skipped looks for a tick in a local hour that the clocks jump over between t and next. It returns the moment of the jump.
// cron itself would leave such a tick out, and with it a daily backup.
func (s Schedule) skipped(t, next time.Time) time.Time {
	for at := t.In(s.loc); ; {
		_, jump := at.ZoneBounds()
		if jump.IsZero() || !jump.Before(next) {
			return time.Time{}
		}
		_, before := jump.Add(-time.Second).Zone()
		_, after := jump.Zone()
		if after > before && jump.After(t) {
			// The wall clock's lost hour, read as if it were UTC, where every hour exists.
			wall := *s.spec
			wall.Location = time.UTC
			lost := jump.UTC().Add(time.Duration(before) * time.Second)
			tick := wall.Next(lost.Add(-time.Second))
			if !tick.IsZero() && tick.Before(lost.Add(time.Duration(after-before)*time.Second)) {
				return jump.UTC()
			}
		}
		at = jump
	}
}

// Last is the newest tick that is not after t, or the zero time when there was none within five years.
func (s Schedule) Last(t time.Time) time.Time {
	switch {
	case s.IsNever():
		return time.Time{}
	case s.every > 0:
		return floor(t, s.every)
	}
	due := func(from time.Time) bool {
		n := s.Next(from)
		return !n.IsZero() && !n.After(t)
	}
	// Next never decreases, so the latest moment whose next tick is due can be bisected, to the second.
	low, high := t.Add(-horizon).Unix(), t.Unix()+1
	if !due(time.Unix(low, 0)) {
		return time.Time{}
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		if due(time.Unix(mid, 0)) {
			low = mid
		} else {
			high = mid
		}
	}
	return s.Next(time.Unix(low, 0))
}

// Interval is the time between the two ticks that follow t: what "two intervals old" means at t. It is 0 for never.
func (s Schedule) Interval(t time.Time) time.Duration {
	first := s.Next(t)
	if first.IsZero() {
		return 0
	}
	second := s.Next(first)
	if second.IsZero() {
		return 0
	}
	return second.Sub(first)
}

// MaxInterval is the longest time between neighbouring ticks around t, over at most 1000 ticks or a year: the age that a newest
// backup may have when nothing is wrong ("0 8-18 * * 1-5" pauses over the weekend).
func (s Schedule) MaxInterval(t time.Time) time.Duration {
	if s.every > 0 {
		return s.every
	}
	var longest time.Duration
	from, until := s.Last(t), t.AddDate(1, 0, 0)
	for range 1000 {
		next := s.Next(from)
		if next.IsZero() {
			break
		}
		if !from.IsZero() {
			longest = max(longest, next.Sub(from))
		}
		if from = next; from.After(until) {
			break
		}
	}
	return longest
}
