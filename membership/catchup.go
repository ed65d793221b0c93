package membership

import (
	"fmt"
	"time"
)

// sample is how far a learner was at one moment.
type sample struct {
	at      time.Time
	leader  uint64 // the leader's last entry
	learner uint64 // the last that the learner has applied; 0: it did not answer
}

func (x sample) lag() uint64 {
	if x.learner >= x.leader {
		return 0
	}
	return x.leader - x.learner
}

// near is how far behind a learner may be: etcd itself would take one that lacks a tenth of the log.
func (x sample) near() bool { return x.learner > 0 && x.lag() < max(1000, x.leader/1000) }

// pursuit follows a learner until it has caught up for a while, or makes no progress.
type pursuit struct {
	hold, noProgress time.Duration

	since sample    // from when on it has been near
	best  uint64    // the last entry that it was seen to have applied
	moved time.Time // when that changed
}

// add takes what was seen. ready: it is near since `hold`, and not further behind than when that began, but for what may be under way between two questions.
// stalled: it is not near, and has not moved for `noProgress`.
func (p *pursuit) add(x sample) (ready, stalled bool, text string) {
	if x.learner > p.best || p.moved.IsZero() {
		p.best, p.moved = max(p.best, x.learner), x.at
	}
	if !x.near() {
		p.since = sample{}
		text = fmt.Sprintf("it lacks %d of %d entries", x.lag(), x.leader)
		if x.learner == 0 {
			text = "it does not answer"
		}
		return false, x.at.Sub(p.moved) >= p.noProgress, text
	}
	if p.since.at.IsZero() {
		p.since = x
	}
	if x.lag() > p.since.lag()+lagMax { // it falls behind again
		p.since = x
	}
	return x.at.Sub(p.since.at) >= p.hold, false, fmt.Sprintf("it lacks %d entries, and is watched for %v", x.lag(), p.hold)
}
