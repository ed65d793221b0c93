package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	backoffMin = 100 * time.Millisecond
	// A server that only ever refused connections is more often misspelt than restarting: the person who waits learns of it in about 3 s.
	dialAttempts = 6
)

// do sends one request until it succeeds, fails for good, or ran out of attempts. Its errors are *Error.
func (s *s3Store) do(ctx context.Context, op, key string, send func(context.Context) error) error {
	return s.goOn(ctx, op, key, tries{}, send)
}

// goOn is do for a request that follows others of the same operation: made says whether the server was there.
func (s *s3Store) goOn(ctx context.Context, op, key string, made tries, send func(context.Context) error) error {
	for {
		err := send(ctx)
		if err == nil {
			return nil
		}
		f := examine(ctx, err)
		if !s.again(ctx, f, &made) {
			return f.error(ctx, op, key, made.n)
		}
	}
}

// tries are the attempts at one request that failed.
type tries struct {
	n       int
	reached bool // in one of them the server was there
	skewed  int  // in how many the server said that the clocks differ
}

// again counts an attempt that failed, and waits before the next one or says that there is none.
func (s *s3Store) again(ctx context.Context, f failure, made *tries) bool {
	made.n++
	made.reached = made.reached || !f.notSent
	if f.kind == ClockSkew {
		made.skewed++
	}
	limit := s.opts.Attempts
	switch {
	case !f.transient:
		return false
	case made.skewed > 1: // the SDK had seen the server's clock, and signed by it
		return false
	case !made.reached:
		limit = min(limit, dialAttempts)
	}
	if made.n >= limit {
		return false
	}
	pause := min(backoffMin<<min(made.n-1, 16), s.opts.BackoffMax)
	// Half of it at random, so that several masters do not come back in step.
	pause = pause/2 + rand.N(pause/2+1) //nolint:gosec // chance, not secrecy
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failure is what is known about a failed attempt.
type failure struct {
	kind      Kind
	transient bool // worth another attempt
	notSent   bool // the server cannot have seen it
	refused   bool // the server said clearly that it did nothing
	err       error
}

// mayBeDone says that the request may have been executed although it failed: a lost answer looks like this.
func (f failure) mayBeDone() bool { return !f.notSent && !f.refused }

func (f failure) error(ctx context.Context, op, key string, attempts int) error {
	if ctx.Err() != nil {
		return &Error{Op: op, Key: key, Kind: Interrupted, Err: interruption(ctx, f.err)}
	}
	err := f.err
	if attempts > 1 {
		err = fmt.Errorf("%w (after %d attempts)", err, attempts)
	}
	return &Error{Op: op, Key: key, Kind: f.kind, Err: err}
}
