package plan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
)

// HeldError means that someone else holds a lock.
type HeldError struct {
	By    string    // host and process, for people
	Until time.Time // when it ends unless renewed, by this machine's clock
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is at work, until %s unless it goes on", e.By, e.Until.UTC().Format(time.RFC3339))
}

// takeOverWaits is how often a lock is waited for that belongs to a machine which is said to be gone.
const takeOverWaits = 1

// hold takes the lock. Who takes a party over waits until the lock of the machine that is gone has ended; if it is renewed, that machine is not gone.
func (r *Runner) hold(ctx context.Context, name string) (held context.Context, release func(), err error) {
	for try := 0; ; try++ {
		err := r.patiently(ctx, func() (err error) {
			held, release, err = r.Lock.Hold(ctx, name)
			return err
		})
		var other *HeldError
		if err == nil || !errors.As(err, &other) {
			return held, release, err
		}
		if !r.TakeOver || try == takeOverWaits {
			return nil, nil, fail.Refused(fmt.Errorf("another operator is at it: %w", err), "wait for it to end, or watch it: steward plan list; steward plan status PLAN --watch")
		}
		r.say("waiting until %s is certainly not at work any more, until %s", other.By, other.Until.UTC().Format(time.RFC3339))
		if err := pause(ctx, max(time.Until(other.Until), 0)+time.Second); err != nil {
			return nil, nil, err
		}
	}
}
