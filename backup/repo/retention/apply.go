package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// youngest that may be removed: what was made within the last hour, somebody may be about to use.
	removeAgeMin = time.Hour
	// keepMin good backups stay whatever the policy says.
	keepMin = 2
	// clockSkewMax is what S3 tolerates between two clocks.
	clockSkewMax = 15 * time.Minute
)

// Apply decides about every item, oldest first. Days, weeks and months are those of loc (nil means UTC). An invalid policy keeps everything.
//
// Besides what the rules keep: the newest good backups, as the package promises; those dated after now, which do not count, since some clock is
// wrong; and those that are not good, until they are older than every good one that is kept - a damaged backup of a time that nothing else covers
// may be all that is left of it.
func Apply(p Policy, items []Item, now time.Time, loc *time.Location) []Decision {
	if loc == nil {
		loc = time.UTC
	}
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	ds := make([]Decision, len(items))
	var good []*Decision // newest first
	for i := len(items) - 1; i >= 0; i-- {
		d := &ds[i]
		d.Item = items[i]
		switch {
		case d.Item.Time.After(now.Add(clockSkewMax)):
			d.keep("dated in the future: a clock is wrong")
		case d.Item.Good:
			good = append(good, d)
		}
	}
	if err := p.Validate(); err != nil {
		for i := range ds {
			ds[i].keep(err.Error())
		}
		return ds
	}
	for _, r := range p.rules() {
		r.apply(good, loc)
	}
	for _, d := range good {
		if p.Within > 0 && !d.Item.Time.Before(now.Add(-p.Within)) {
			d.keep(fmt.Sprintf("within %v", p.Within))
		}
	}
	keepFloors(good, now)
	keepOthers(ds, good)
	return ds
}

func (d *Decision) keep(why string) {
	d.Keep = true
	d.Why = append(d.Why, why)
}

// apply keeps the newest of each of the last n buckets that have one: restic's rule.
func (r rule) apply(good []*Decision, loc *time.Location) {
	last, n := "", r.n
	for i, d := range good {
		if n == 0 {
			return
		}
		if b := r.bucket(d.Item.Time.In(loc), i); b != last {
			last = b
			n--
			if r.name == "last" {
				b = fmt.Sprintf("%d of %d", i+1, r.n)
			}
			d.keep(r.name + " " + b)
		}
	}
}

// keepFloors keeps what no policy can let go of.
func keepFloors(good []*Decision, now time.Time) {
	for i, d := range good {
		if i < keepMin {
			d.floor("one of the two newest good ones")
		}
		if d.Item.Time.After(now.Add(-removeAgeMin)) {
			d.floor("younger than an hour")
		}
	}
	if i := slices.IndexFunc(good, func(d *Decision) bool { return d.Item.Verified }); i >= 0 {
		good[i].floor("the newest that was proven readable")
	}
	if len(good) > 0 {
		current(good).floor("the newest of the current timeline")
	}
}

// floor is a reason only for what no rule keeps already.
func (d *Decision) floor(why string) {
	if !d.Keep {
		d.keep(why)
	}
}

// current is the backup that holds the most of the timeline that was backed up last: the highest cut of the newest one's cluster, then the highest revision, then
// the newest (as repo.Catalog.Newest).
func current(good []*Decision) *Decision {
	best := good[0]
	for _, d := range good {
		if d.Item.Timeline.Cluster == best.Item.Timeline.Cluster &&
			cmp.Or(cmp.Compare(d.Item.Timeline.Cut, best.Item.Timeline.Cut), cmp.Compare(d.Item.Revision, best.Item.Revision)) > 0 {
			best = d
		}
	}
	return best
}

func keepOthers(ds []Decision, good []*Decision) {
	oldest := time.Time{}
	for _, d := range good { // newest first
		if d.Keep {
			oldest = d.Item.Time
		}
	}
	for i := range ds {
		d := &ds[i]
		switch {
		case d.Keep:
		case d.Item.Good:
			d.Why = append(d.Why, "no rule keeps it")
		case len(good) == 0 || d.Item.Time.After(oldest):
			d.keep("not good, but of a time that is kept")
		default:
			d.Why = append(d.Why, "not good, and older than all that is kept")
		}
	}
}
