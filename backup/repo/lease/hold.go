package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Renew makes the lease run for another TTL from now. ErrLost means that someone else has it; any other error, that it still runs until it
// expires.
func (l *Lease) Renew(ctx context.Context) error {
	return l.update(ctx, "renew", func(*record) {})
}

// Finish records the tick as done, so that nobody does it again, and gives the lease back. ErrLost means that it had expired and someone took the tick
// over: the work may be done twice.
func (l *Lease) Finish(ctx context.Context, result string) error {
	result = result[:min(len(result), resultMax)]
	return l.update(ctx, "finish", func(r *record) {
		if r.Done.Before(r.Tick) || r.Done.After(r.Tick.Add(futureMax)) {
			r.Done, r.DoneBy, r.Result = r.Tick, r.Holder, result
		}
		r.Holder, r.Tick, r.TTLSeconds = "", time.Time{}, 0
	})
}

// Release gives the lease back with its tick undone: anyone may take it at once. Of a lease that was lost there is nothing to give back.
func (l *Lease) Release(ctx context.Context) error {
	err := l.update(ctx, "release", func(r *record) { r.Holder, r.Tick, r.TTLSeconds = "", time.Time{}, 0 })
	if errors.Is(err, ErrLost) {
		return nil
	}
	return err
}

func (l *Lease) update(ctx context.Context, verb string, change func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := ErrLost
	if l.mine {
		began := time.Now()
		if err = l.replace(ctx, change); err == nil {
			l.mine, l.until = l.rec.Holder != "", began.Add(l.ttl)
		}
	}
	if err != nil {
		return fmt.Errorf("%s lease %s: %w", verb, l.key, err)
	}
	return nil
}

// replace writes the changed record. When the version in the store is not the one we know, an earlier write of ours may have been executed although it
// seemed to fail: then the lease is ours still, or was already given back as we now want it.
func (l *Lease) replace(ctx context.Context, change func(*record)) error {
	next := l.rec
	change(&next)
	err := l.write(ctx, next)
	if !errors.Is(err, errRaced) {
		return err
	}
	there, info, err := l.read(ctx)
	if err != nil {
		return err
	}
	if there.Lease == l.rec.Lease {
		l.rec, l.etag = there, info.ETag
		if there.Holder == "" && next.Holder == "" && there.Done.Equal(next.Done) {
			return nil
		}
		if there.Holder != "" {
			if err := l.write(ctx, next); !errors.Is(err, errRaced) {
				return err
			}
		}
	}
	l.mine = false
	return ErrLost
}

// Hold renews the lease in the background until stop is called, which waits for that to end. The context that it returns ends with ErrLost as its cause
// as soon as the lease is lost, or could not be renewed until it expired: whatever works under the lease must use it.
func (l *Lease) Hold(ctx context.Context) (held context.Context, stop func()) {
	held, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for held.Err() == nil {
			l.holdOnce(held, cancel)
		}
	}()
	return held, func() {
		cancel(context.Canceled)
		<-done
	}
}

// holdOnce waits a third of the TTL and renews, with another third left for a second try.
func (l *Lease) holdOnce(held context.Context, cancel context.CancelCauseFunc) {
	l.mu.Lock()
	expires := l.until
	l.mu.Unlock()
	pause := time.NewTimer(l.ttl / 3)
	defer pause.Stop()
	select {
	case <-held.Done():
		return
	case <-pause.C:
	}
	ctx, stop := context.WithDeadline(held, expires)
	defer stop()
	err := l.Renew(ctx)
	if errors.Is(err, ErrLost) || err != nil && !time.Now().Before(expires) && held.Err() == nil {
		cancel(fmt.Errorf("%w: %w", ErrLost, err))
	}
}
