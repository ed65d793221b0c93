package membership

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// Moment is a moment by a clock that nobody sets: the time since this machine was booted, and which boot that was. Moments of two machines, or of two boots, have
// nothing in common, and no wrong clock makes them.
type Moment struct {
	Boot string        `json:"boot"` // the kernel's own name for this run of it; "": not known
	Up   time.Duration `json:"up"`
}

// Now is this moment on this machine.
func Now() Moment {
	var up unix.Timespec
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return Moment{}
	}
	return Moment{Boot: strings.TrimSpace(string(boot)), Up: time.Duration(up.Nano())}
}

// since is how long before m another moment was; false when that cannot be told.
func (m Moment) since(before Moment) (time.Duration, bool) {
	if m.Boot == "" || m.Boot != before.Boot || m.Up < before.Up {
		return 0, false
	}
	return m.Up - before.Up, true
}

// silent says whether a member answered nobody: neither us, nor has another member that shows its metrics a connection with it.
func (c *Cluster) silent(m Member) bool {
	if m.Answer != nil {
		return false
	}
	for _, x := range c.Members {
		if x.Answer != nil && x.Answer.Metrics != nil && x.Answer.Metrics.Peers[uint64(m.ID)] {
			return false
		}
	}
	return true
}

// watchFor is for how long a member must still be watched until it has been silent for long enough: since the plan's first look at it, where that was on this
// machine and since its boot, else since now. It is looked at for a while in any case.
func (b Basis) watchFor(now Moment, p Pace) time.Duration {
	left := p.Dead
	if b.Silent != nil {
		if ago, known := now.since(*b.Silent); known {
			left -= ago
		}
	}
	return max(left, min(p.Watch, p.Dead))
}

// watchLeast is how many looks it takes, however slow each is.
const watchLeast = 3

// confirmDead waits until the member has been silent for long enough, as seen from here and by the others. One that answers is not dead.
func (s *Site) confirmDead(ctx context.Context, t *plan.Task) (any, error) {
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	pace := s.Pace.filled()
	end := time.Now().Add(b.watchFor(Now(), pace))
	for looks := 1; ; looks++ {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return nil, err
		}
		m, ok := c.Member(b.Removes)
		if !ok {
			return nil, nil // it was removed before a crash
		}
		if m.Answer != nil {
			return nil, fail.Refused(fmt.Errorf("%s answers at %s: it is not dead", m.Spec, m.Answer.Endpoint),
				"it is back: nothing is to be done; roll this plan back, or replace it all the same with a plan made with --force REASON")
		}
		if err := s.othersMiss(ctx, t, c, m); err != nil {
			return nil, err
		}
		left := time.Until(end)
		if left <= 0 && looks >= watchLeast {
			return nil, nil
		}
		if looks == 1 {
			t.Say("%s does not answer; it is watched for %v more", m.short(), max(left, 0).Round(time.Second))
		}
		if err := pause(ctx, pace.Poll); err != nil {
			return nil, err
		}
	}
}
