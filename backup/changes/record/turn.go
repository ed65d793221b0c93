package record

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"etcd-steward/backup/repo/lease"
)

// turnKey is the lease that spares daemons the double work. Losing it loses nothing: segments that overlap do no harm.
const turnKey = "coordination/recorder.json"

// errTurnLost ends the work of a recorder when another one has the turn.
var errTurnLost = errors.New("another daemon records now")

// takeTurn waits until it is this recorder's turn, or until the store has not said for a TTL whose it is. The context that it returns ends with errTurnLost
// when another recorder has the turn; release gives it back.
func (r *Recorder) takeTurn(ctx context.Context) (mine context.Context, release func(), err error) {
	var unknown time.Time
	for {
		l, outcome, err := r.claim(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case outcome == lease.Mine:
			r.status.set(func(s *Status) { s.Turns++ })
			mine, release = r.hold(ctx, l)
			return mine, release, nil
		case outcome == lease.Held:
			unknown = time.Time{}
			r.status.set(func(s *Status) { s.State, s.Problem = Standby, "recorded by "+l.Status().Holder })
		case unknown.IsZero():
			unknown = time.Now()
		case time.Since(unknown) >= r.o.TurnTTL:
			r.o.Log.Warn("nobody can say whose turn it is to record; recording all the same", "error", err)
			mine, release = r.hold(ctx, nil)
			return mine, release, nil
		}
		sleep(ctx, r.o.TurnTTL/3)
	}
}

// claim asks for the turn once.
func (r *Recorder) claim(ctx context.Context) (*lease.Lease, lease.Outcome, error) {
	ask, cancel := context.WithTimeout(ctx, r.o.TurnTTL/2)
	defer cancel()
	holder := r.o.Host + " (" + strconv.Itoa(os.Getpid()) + ")"
	return lease.Take(ask, r.o.Repo.Store(), turnKey, lease.Claim{Holder: holder, Tick: time.Now(), TTL: max(r.o.TurnTTL, time.Second)})
}

// hold keeps the turn until release. A store that does not answer does not end it: then nobody else can take it either, or two record.
func (r *Recorder) hold(ctx context.Context, l *lease.Lease) (mine context.Context, release func()) {
	mine, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			sleep(mine, r.o.TurnTTL/3)
			if mine.Err() != nil {
				return
			}
			if l = r.renew(mine, l, cancel); mine.Err() != nil {
				return
			}
		}
	})
	return mine, func() {
		cancel(context.Canceled)
		wg.Wait()
		if l == nil {
			return
		}
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer stop()
		if err := l.Release(last); err != nil {
			r.o.Log.Debug("the turn is not given back; it will expire", "error", err)
		}
	}
}

// renew renews the turn, or takes it when it could not be had before.
func (r *Recorder) renew(ctx context.Context, l *lease.Lease, cancel context.CancelCauseFunc) *lease.Lease {
	if l == nil {
		got, outcome, _ := r.claim(ctx)
		switch outcome {
		case lease.Mine:
			return got
		case lease.Held:
			cancel(errTurnLost)
		}
		return nil
	}
	ask, stop := context.WithTimeout(ctx, r.o.TurnTTL/2)
	defer stop()
	if err := l.Renew(ask); errors.Is(err, lease.ErrLost) {
		cancel(errTurnLost)
	}
	return l
}
