// Package lease lets several daemons share one schedule through the store: of all that claim a tick, one does it.
//
// It promises, on a store that honours conditional writes, that at any moment at most one holder has an unexpired lease, and that a tick that was
// finished is not given out again. On a store that ignores conditions (see store.Probe), two daemons that ask at the same moment may both do
// the work: it is done twice, never lost. A lease fences nothing: a holder that was suspended past its lease may still be writing. That is harmless, since
// backups never overwrite each other.
package lease

import (
	"errors"
	"time"
)

// Claim is who wants to do which tick of a job, and for how long without a Renew.
type Claim struct {
	Holder string    // for people: host and process
	Tick   time.Time // the schedule's time, the same on every host; not when the host got around to it
	TTL    time.Duration
	// Gone says of another holder that it is certainly not at work any more, so that its lease need not expire first. nil: of none.
	Gone func(holder string) bool
}

// Outcome says how a claim ended.
type Outcome int

// The outcomes.
const (
	Mine Outcome = 1 + iota // the lease is ours: do the work, then Finish
	Done                    // the tick, or a later one, was finished by someone
	Held                    // someone else is working
)

// String is the outcome in a word.
func (o Outcome) String() string {
	switch o {
	case Mine:
		return "mine"
	case Done:
		return "done"
	case Held:
		return "held"
	}
	return "unknown"
}

// ErrLost means that the lease is not ours any more: it expired and someone took it.
var ErrLost = errors.New("the lease was lost")
