package retention

import (
	"errors"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
)

const (
	// overdueAfter is longer than the interval between two prunes may be.
	overdueAfter = 8 * 24 * time.Hour
	// overdueMax is what the floors, which move with verifications, can make overdue.
	overdueMax = 2
)

// Overdue are the removals that this policy would have ordered already 8 days ago. Where the policy stays and prune runs once a week, there are none: time passes,
// and what a rule kept last week it may let go of today. So several of them mean that the policy was changed to keep less, by mistake perhaps, or that
// prune has not run for long. What an Object Lock held until lately does not count.
func Overdue(p Policy, decisions []Decision, now time.Time, loc *time.Location) []Item {
	then := now.Add(-overdueAfter)
	var items []Item
	for _, d := range decisions {
		if !d.Item.Time.After(then) {
			items = append(items, d.Item)
		}
	}
	removedThen := map[string]bool{}
	for _, d := range Apply(p, items, then, loc) {
		removedThen[string(d.Item.ID)] = !d.Keep
	}
	var out []Item
	for _, d := range decisions {
		if !d.Keep && d.Item.Good && removedThen[string(d.Item.ID)] && !d.Item.RetainUntil.After(then) {
			out = append(out, d.Item)
		}
	}
	return out
}

// Guard refuses (fail.Unsafe) decisions that a careful operator would look at first: by a policy that keeps nothing, with a clock that says that most
// backups are of the future, or with removals that are overdue (see Overdue) unless allowLarge says that they are meant.
func Guard(p Policy, decisions []Decision, now time.Time, loc *time.Location, allowLarge bool) error {
	if err := p.Validate(); err != nil {
		return fail.Refused(err, "retention in the configuration, or --keep-last and the like, must keep something")
	}
	good, future, removed, kept := 0, 0, 0, 0
	for _, d := range decisions {
		if !d.Item.Good {
			continue
		}
		good++
		if d.Item.Time.After(now.Add(clockSkewMax)) {
			future++
		}
		if d.Keep {
			kept++
		} else {
			removed++
		}
	}
	if removed == 0 {
		return nil
	}
	if 2*future > good {
		return fail.Refused(fmt.Errorf("%d of %d backups are dated after %s: this clock is wrong", future, good, now.UTC().Format(time.RFC3339)),
			"set this machine's clock")
	}
	if kept < keepMin { // unreachable with decisions that Apply made
		return fail.Refused(errors.New("fewer than two good backups would remain"), "nothing was removed")
	}
	if over := Overdue(p, decisions, now, loc); len(over) > overdueMax && !allowLarge {
		return fail.Refused(
			fmt.Errorf("%d of %d removals are backups that the policy (%s) would have removed a week ago: it was changed, or prune has not run for long", len(over), removed, p),
			"look at `steward backup prune --dry-run`; if that is meant: steward backup prune --allow-large")
	}
	return nil
}
