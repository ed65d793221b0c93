// Package retention decides which backups stay. It is pure: what it is given decides alone, and it removes nothing itself.
//
// It promises that no policy, however mistyped, lets go of the newest good backup, of the newest one that was proven readable, of the newest one of the
// current timeline, of one of the last two, or of one younger than an hour. It does not look at the data, and takes others' word for what is good.
package retention

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"etcd-steward/backup/repo"
)

// Policy says what to keep: the newest Last backups; the newest of each of the last Hourly hours that have one, likewise days, ISO weeks and months; and all
// that are younger than Within. A backup stays when one rule keeps it. The rules look at time alone, across all timelines.
type Policy struct {
	Last, Hourly, Daily, Weekly, Monthly int

	Within time.Duration
	// AnyMoment is the window in which every moment can be restored, not only the backups; see Moments.
	AnyMoment time.Duration
}

// Validate refuses a policy that keeps nothing, or has a negative number: a mistyped config, not a wish.
func (p Policy) Validate() error {
	if min(p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly) < 0 || min(p.Within, p.AnyMoment) < 0 {
		return errors.New("retention: a negative number")
	}
	if p == (Policy{AnyMoment: p.AnyMoment}) {
		return errors.New("retention: no rule keeps anything")
	}
	return nil
}

// String is the policy in words, as plans record it.
func (p Policy) String() string {
	var words []string
	for _, r := range p.rules() {
		if r.n > 0 {
			words = append(words, fmt.Sprintf("%s %d", r.name, r.n))
		}
	}
	if p.Within > 0 {
		words = append(words, fmt.Sprintf("within %v", p.Within))
	}
	if len(words) == 0 {
		return "keep nothing"
	}
	if p.AnyMoment > 0 {
		words = append(words, "any moment of "+short(p.AnyMoment))
	}
	return strings.Join(words, ", ")
}

// Item is one backup.
type Item struct {
	ID       repo.SnapshotID
	Time     time.Time // when its stream began; the ID has it
	Timeline repo.Timeline
	Revision repo.Revision
	// Compact is how far back its own history reaches; 0 when it was never compacted. Only Moments looks at it.
	Compact repo.Revision
	// Good: it is complete and no check has found it wanting. Only good ones count for a rule.
	Good bool
	// Verified: its last check opened the database and found nothing wrong.
	Verified bool
	// RetainUntil is when its Object Lock ends, zero without one. A locked one is decided like any other: whoever executes respects the lock.
	RetainUntil time.Time
}

// Decision says what becomes of one item, and why.
type Decision struct {
	Item Item
	Keep bool
	Why  []string // at least one
}

type rule struct {
	name   string
	n      int
	bucket func(t time.Time, i int) string
}

func (p Policy) rules() []rule {
	format := func(layout string) func(time.Time, int) string {
		return func(t time.Time, _ int) string { return t.Format(layout) }
	}
	return []rule{
		{"last", p.Last, func(_ time.Time, i int) string { return fmt.Sprint(i) }},
		// The offset tells the two hours apart that the end of summer time gives one name.
		{"hourly", p.Hourly, format("2006-01-02 15 -0700")},
		{"daily", p.Daily, format("2006-01-02")},
		{"weekly", p.Weekly, func(t time.Time, _ int) string { y, w := t.ISOWeek(); return fmt.Sprintf("%d week %d", y, w) }},
		{"monthly", p.Monthly, format("2006-01")},
	}
}
