package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
)

// demand is a full snapshot that the change log needs, before the schedule would take one.
type demand struct {
	kind     record.SignalKind
	timeline repo.Timeline
	revision repo.Revision // that the snapshot must have at least; 0 means that it must be begun after at
	at       time.Time
}

// metBy says whether a backup is what was demanded, whoever took it. A revision is compared, not the time: a snapshot that was begun later may come from
// a member that lags, and then leave a hole. What a change log does not hold needs a snapshot that was streamed from etcd, and not made from a change log.
func (d demand) metBy(e repo.Entry, streamed func(repo.Entry) bool) bool {
	if d.revision > 0 {
		return e.Timeline == d.timeline && e.Revision >= d.revision
	}
	return d.inTime(e) && streamed(e)
}

func (d demand) inTime(e repo.Entry) bool {
	return !e.ID.Time().Before(d.at.Truncate(time.Millisecond)) && !e.ID.Time().After(wallNow().Add(skewMax))
}

// demands are those of one cluster, at most one of each kind: the newest. They outlive a reload. A restart needs none: a recorder that begins finds out
// by itself what is missing.
type demands struct {
	mu   sync.Mutex
	list []demand
	wake chan struct{} // has an entry when something was demanded since it was last read
}

func newDemands() *demands { return &demands{wake: make(chan struct{}, 1)} }

// add asks for a full snapshot.
func (d *demands) add(n demand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(slices.DeleteFunc(d.list, func(o demand) bool { return o.kind == n.kind }), n)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// all are those that are not known to be met.
func (d *demands) all() []demand {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

func (d *demands) pending() bool { return d != nil && len(d.all()) > 0 }

// woken is closed, or has an entry, when something was demanded; without demands it never is.
func (d *demands) woken() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.wake
}

// look forgets what the repository's backups meet. streamed may take its time: meanwhile others may demand.
func (d *demands) look(backups []repo.Entry, streamed func(repo.Entry) bool) {
	var met []demand
	for _, n := range d.all() {
		if slices.ContainsFunc(backups, func(e repo.Entry) bool { return n.metBy(e, streamed) }) {
			met = append(met, n)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = slices.DeleteFunc(d.list, func(n demand) bool { return slices.Contains(met, n) })
}

// clear forgets all: nothing is recorded any more.
func (d *demands) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = nil
}

// met asks the store whether everything that was demanded is there by now.
func (c *cluster) met(ctx context.Context, _ time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	catalog, err := c.repo.Catalog(ctx)
	if err != nil {
		return false, err
	}
	c.state.demands.look(catalog.Backups(), c.streamed(ctx))
	return !c.state.demands.pending(), nil
}

// streamed says of a backup whether it came from etcd. Of one whose manifest cannot be read that is not known, and it does not count.
func (c *cluster) streamed(ctx context.Context) func(repo.Entry) bool {
	return func(e repo.Entry) bool {
		m, err := c.repo.Manifest(ctx, e)
		if err != nil {
			c.log.Debug("a manifest cannot be read", "id", e.ID, "error", err)
		}
		return err == nil && m.MadeFrom == nil
	}
}

// Bounds of demanded work. Whatever demands it, full snapshots on demand take at most about a tenth of the time.
const (
	demandPause  = 10 * time.Second
	demandShare  = 10
	demandPeriod = time.Hour // for its retries, what the interval of the schedule is for a tick's
)

// meet does what was demanded, under the same lease as the schedule's ticks, unless somebody did it already. It says when to look again.
// The tick that it claims is the moment: it is given back undone, so that it is in no way of the schedule's own.
func (r *runner) meet(ctx context.Context, failures *int) (again time.Time) {
	r.log.Info("a full snapshot is demanded by the change log", "why", kinds(r.job.demands.all()))
	began := r.now()
	o, err := r.tryDemand(ctx, began)
	wait := demandPause
	switch {
	case ctx.Err() != nil:
	case err != nil:
		*failures++
		wait = backoff(*failures, demandPeriod)
		r.log.Error("the demanded snapshot failed; trying again", "reason", reason(err), "error", err, "hint", hint(err), "attempt", *failures, "in", wait.Round(time.Millisecond))
	default:
		*failures = 0
		wait = max(demandPause, demandShare*r.now().Sub(began))
		r.log.Debug("the demand was looked at", "outcome", o.String(), "again_in", wait)
	}
	return r.now().Add(min(wait, demandPeriod))
}

func kinds(all []demand) (out []string) {
	for _, d := range all {
		out = append(out, string(d.kind))
	}
	return out
}
