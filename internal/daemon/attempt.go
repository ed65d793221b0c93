package daemon

import (
	"context"
	"errors"
	"time"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
)

// claim is what an attempt is about: a tick of the schedule, or the moment at which something was demanded.
type claim struct {
	tick time.Time
	ttl  time.Duration
	done func(ctx context.Context, tick time.Time) (bool, error) // nil when only the lease can tell
	// demanded work is given back undone, since what shows that it is done is the store alone.
	demanded bool
}

// tryDemand is one attempt at what was demanded.
func (r *runner) tryDemand(ctx context.Context, now time.Time) (lease.Outcome, error) {
	o, _, err := r.attempt(ctx, claim{tick: now, ttl: leaseFor(demandPeriod), done: r.job.met, demanded: true})
	if err == nil && o == lease.Mine {
		_, err = r.job.met(ctx, now) // forget what was met
	}
	return o, err
}

// attempt claims the tick and, when it is this daemon's, does the work. When the tick is another's, it says until when about.
func (r *runner) attempt(loop context.Context, w claim) (lease.Outcome, time.Time, error) {
	ctx, cancel := context.WithTimeout(r.work, r.job.limit)
	defer cancel()
	defer r.after()
	defer r.keepAlive(ctx)()

	l, o, err := lease.Take(ctx, r.store, leaseKey(r.job.name), lease.Claim{Holder: r.holder, Tick: w.tick, TTL: w.ttl})
	switch {
	case errors.Is(err, store.Denied):
		// A role that only reads, such as one that verifies. Sharing the work spares some; it must never prevent any.
		if !r.alone {
			r.log.Warn("the store's credentials do not allow to share the schedule with other daemons; this one works alone", "error", err)
		}
		r.alone = true
		o, err = lease.Mine, r.myTurn(ctx, loop, nil, w)
	case err == nil && o == lease.Mine:
		err = r.myTurn(ctx, loop, l, w)
	}
	switch {
	case err == nil:
		if o == lease.Held {
			return o, l.Status().Until, nil
		}
		r.state.settled()
		return o, time.Time{}, nil
	case errors.Is(err, errNotAllowed):
		// Said once; tried again at the next tick all the same, since a policy may have been wrong for a moment only.
		if news := r.state.deny(err.Error()); news {
			r.log.Warn("the store's credentials do not allow this, which is well on a master", "error", err,
				"hint", "let a janitor with credentials of its own do it, and say schedule: never here")
		}
		return lease.Done, time.Time{}, nil
	case errors.Is(err, errStopping):
		return o, time.Time{}, err
	case r.work.Err() != nil:
		r.state.idle()
		r.log.Warn("ended in the middle: the daemon is stopping", "tick", w.tick)
		return o, time.Time{}, err
	}
	r.state.fail(reason(err), err)
	return o, time.Time{}, err
}

// errStopping means that the loop was told to end between the claim and the work.
var errStopping = errors.New("stopping")

// leaseKey is the object by which daemons agree on who does a job's ticks.
func leaseKey(job string) string { return "coordination/jobs/" + job + ".json" }

// myTurn does the work under the lease, and gives the lease back whatever happens. Without a lease it just does the work.
func (r *runner) myTurn(ctx, loop context.Context, l *lease.Lease, w claim) error {
	result := "done before"
	already, err := w.isDone(ctx)
	switch {
	case err != nil || already:
	case loop.Err() != nil:
		err = errStopping
	default:
		result = "done"
		err = r.runHeld(ctx, l)
	}
	if l == nil {
		return err
	}
	// The work's context may be over; the lease must be given back all the same.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	if err != nil || w.demanded {
		// Undone: another daemon may try at once, perhaps with credentials that allow more.
		if e := l.Release(last); e != nil {
			r.log.Warn("could not give the lease back; it ends by itself", "error", e)
		}
		return err
	}
	if e := l.Finish(last, result); e != nil {
		// The work is done. At worst another daemon does it once more.
		r.log.Warn("could not note that the tick is done", "error", e)
	}
	return nil
}

func (w claim) isDone(ctx context.Context) (bool, error) {
	if w.done == nil {
		return false, nil
	}
	return w.done(ctx, w.tick)
}

// runHeld runs the job while the lease is renewed. Losing the lease cancels the work.
func (r *runner) runHeld(ctx context.Context, l *lease.Lease) error {
	held, stop := ctx, func() {}
	if l != nil {
		held, stop = l.Hold(ctx)
	}
	r.state.start()
	began := time.Now()
	err := r.job.run(held)
	lost := errors.Is(context.Cause(held), lease.ErrLost)
	stop()
	switch {
	case err == nil:
		r.state.succeed(time.Since(began))
	case lost:
		return context.Cause(held)
	}
	return err
}

// keepAlive beats while an attempt runs, and no longer than its context: an attempt that does not heed its end lets the pulse
// run out, and the watchdog restart the daemon. The caller calls what it returns.
func (r *runner) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			r.pulse.beat(r.id)
			sleep(ctx, beatEvery)
		}
	}()
	return func() { cancel(); <-ended }
}
