package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config/schedule"
	"etcd-steward/internal/fail"
)

// job is work of one cluster that is due at the ticks of a schedule.
type job struct {
	name     string
	schedule schedule.Schedule
	jitter   time.Duration // longest random delay after a tick; at most a tenth of the interval is used
	retries  int           // after a failure, before the next tick
	limit    time.Duration // bound on one attempt
	// first, when it is not nil, is waited for before the first tick, for firstLimit at most: a recorder that begins at the same time knows which snapshot
	// it needs, and one snapshot is enough.
	first <-chan struct{}
	// done says whether the store shows that a tick's work was done already, by whomever; nil when only the lease can tell.
	done func(ctx context.Context, tick time.Time) (bool, error)
	// demands, where there are any, ask for the work beside the schedule; met says whether they are met, by whomever.
	demands *demands
	met     func(ctx context.Context, tick time.Time) (bool, error)
	// run does the work. errNotAllowed means that the credentials are not meant to do it.
	run func(ctx context.Context) error
}

// errNotAllowed marks work that the store's credentials are not allowed to do. It is no failure: on a master, it is as it should be.
var errNotAllowed = errors.New("not allowed")

// Bounds of waiting.
const (
	beatEvery    = 5 * time.Second // a loop shows that it lives at least this often, and looks at the wall clock
	backoffFirst = 5 * time.Second
	backoffMax   = 30 * time.Minute
	heldLook     = 15 * time.Second // between two looks at a tick that another daemon does
	ttlMin       = 15 * time.Second
	ttlMax       = time.Minute
	firstLimit   = 15 * time.Second
	cleanupLimit = 5 * time.Second // for giving a lease back after the work's own context ended
)

// runner runs one job of one cluster until it is stopped.
type runner struct {
	job   job
	store store.Store // of the repository: where the lease is
	// holder names this daemon in the lease, for people; alone is set when its credentials allow no lease.
	holder string
	alone  bool
	log    *slog.Logger
	state  *jobState
	pulse  *pulse
	id     string // in the pulse's table
	// work is the context of attempts: it outlives the loop's when the daemon stops, by the grace that a running attempt is given.
	work context.Context
	// now is wallNow, or a test's clock that jumps.
	now func() time.Time
	// after is called after every attempt, so that what the store holds now is looked at.
	after func()
}

// span is the time from one tick to the next.
type span struct{ tick, next time.Time }

// covers says whether tick is the last one that was due at t.
func (s span) covers(t time.Time) bool {
	return !t.Before(s.tick) && (s.next.IsZero() || t.Before(s.next))
}

// spanAt asks the schedule; it is not cheap enough for every pass of a loop.
func (r *runner) spanAt(t time.Time) span {
	return span{tick: r.job.schedule.Last(t), next: r.job.schedule.Next(t)}
}

// loop runs until ctx ends. Whatever the clock does (a suspended host, a step either way), every pass looks at the wall clock and finds
// out which tick was last due; so a tick that was missed is caught up, and of several that were missed, only the last.
func (r *runner) loop(ctx context.Context) {
	defer r.pulse.forget(r.id)
	r.waitFor(ctx, r.job.first)
	var settled time.Time // the newest tick that needs nothing more
	var demanded struct {
		again    time.Time // when a demand may be met
		failures int
	}
	at := r.spanAt(r.now())
	for ctx.Err() == nil {
		r.pulse.beat(r.id)
		now := r.now()
		if settled.After(now) {
			settled = time.Time{} // the clock went back
		}
		if !at.covers(now) {
			at = r.spanAt(now)
		}
		if at.tick.After(settled) {
			r.settle(ctx, at)
			settled = at.tick
			continue
		}
		if demanded.again.After(now.Add(demandPeriod)) {
			demanded.again = now // the clock went back
		}
		if r.job.demands.pending() && !now.Before(demanded.again) {
			demanded.again = r.meet(ctx, &demanded.failures)
			continue
		}
		r.state.setNext(at.next)
		r.rest(ctx, r.step(at, now, beatEvery))
	}
}

// waitFor waits until something has begun, or long enough.
func (r *runner) waitFor(ctx context.Context, begun <-chan struct{}) {
	if begun == nil {
		return
	}
	limit := time.NewTimer(firstLimit)
	defer limit.Stop()
	for {
		r.pulse.beat(r.id)
		beat := time.NewTimer(beatEvery)
		select {
		case <-begun:
		case <-limit.C:
		case <-ctx.Done():
		case <-beat.C:
			continue
		}
		beat.Stop()
		return
	}
}

// rest sleeps, until something is demanded at the longest: then it is true.
func (r *runner) rest(ctx context.Context, d time.Duration) (demanded bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-r.job.demands.woken():
		return true
	}
	return false
}

// step is how long a loop sleeps at most: d, a beat, or until the next tick.
func (r *runner) step(at span, now time.Time, d time.Duration) time.Duration {
	d = min(d, beatEvery)
	if !at.next.IsZero() {
		d = min(d, max(at.next.Sub(now), time.Millisecond))
	}
	return d
}

// settle does one tick: it tries until the tick is done by anybody, given up, or over because the next one is due.
func (r *runner) settle(ctx context.Context, at span) {
	tick, interval := at.tick, time.Duration(1<<62)
	if !at.next.IsZero() {
		interval = at.next.Sub(tick)
	}
	if !r.waitWithin(ctx, at, r.delay(interval)) {
		return
	}
	for failures := 0; ctx.Err() == nil; {
		o, until, err := r.attempt(ctx, claim{tick: tick, ttl: leaseFor(interval), done: r.job.done})
		// The other daemon's lease is worth a look when it would end, and now and then before, since it may be given back.
		wait := min(max(interval/4, time.Second), heldLook, max(until.Sub(r.now()), time.Second))
		switch {
		case err == nil && o != lease.Held:
			return
		case err == nil:
			r.log.Debug("another daemon does this tick", "tick", tick)
		case ctx.Err() != nil:
			return
		default:
			failures++
			wait = backoff(failures, interval)
			line := r.log.With("reason", reason(err), "error", err, "hint", hint(err), "tick", tick, "attempt", failures)
			if final(err) || failures > r.job.retries || !at.covers(r.now().Add(wait)) {
				line.Error("failed; given up until the next tick", "next", at.next)
				return
			}
			line.Error("failed; trying again", "in", wait.Round(time.Millisecond))
		}
		if !r.waitWithin(ctx, at, wait) {
			return
		}
	}
}

// final says whether trying again would only do harm or repeat itself: what was refused as unsafe, and damage that was found.
func final(err error) bool {
	code := fail.ExitCode(err)
	return code == fail.Unsafe || code == fail.Wanting
}

// waitWithin waits for d of wall time, or until something is demanded, and says whether the tick is then still the last one that was due.
func (r *runner) waitWithin(ctx context.Context, at span, d time.Duration) bool {
	for until := r.now().Add(d); ; {
		r.pulse.beat(r.id)
		now := r.now()
		if ctx.Err() != nil || !at.covers(now) {
			return false
		}
		if !now.Before(until) {
			return true
		}
		if r.rest(ctx, r.step(at, now, until.Sub(now))) {
			until = now
		}
	}
}

// delay is the random delay of this daemon after a tick.
func (r *runner) delay(interval time.Duration) time.Duration {
	longest := min(r.job.jitter, interval/10)
	if longest <= 0 {
		return 0
	}
	return rand.N(longest) //nolint:gosec // a delay is no secret
}

// backoff is the wait before the retry that follows the n-th failure: doubled each time, between half and all of it by chance,
// and in proportion to the schedule's interval, so that a schedule of seconds retries within seconds and one of hours for hours.
func backoff(n int, interval time.Duration) time.Duration {
	first := min(backoffFirst, max(interval/20, 100*time.Millisecond))
	longest := min(backoffMax, max(interval/12, first))
	d := first << min(n-1, 20)
	d = min(d, longest)
	return d/2 + rand.N(d/2+1) //nolint:gosec // a delay is no secret
}

// leaseFor is how long a lease lasts unless it is renewed: how long a tick waits for a daemon that died.
func leaseFor(interval time.Duration) time.Duration {
	return min(max(interval/2, ttlMin), ttlMax)
}

// wallNow is the time without its monotonic part: that part stands still while a host is suspended, and schedules do not.
func wallNow() time.Time { return time.Now().Round(0) }

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
