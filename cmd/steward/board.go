package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

const (
	// planLockTTL is how long the lock of a machine that died is waited for by another one, and how long a store may be away while a step is done.
	planLockTTL    = 90 * time.Second
	planLockEnd    = 5 * time.Second
	planLocks      = "coordination/plans/"
	planLockSuffix = ".lease.json"
	probeKey       = "coordination/probe"
	defaultState   = "/var/lib/steward"
)

// planLock is plan.Lock on leases in the repository.
type planLock struct {
	store   store.Store
	machine plan.Machine
	dir     string // with the file locks: only below the same folder do they say that a holder on this machine is gone; "": there are none
	ttl     time.Duration
}

var _ plan.Lock = (*planLock)(nil)

// Hold implements plan.Lock. What is taken here is never finished, only released: the lease is a lock, not a schedule.
func (l *planLock) Hold(ctx context.Context, name string) (context.Context, func(), error) {
	here := fmt.Sprintf("%s (machine %s, journals in %s) process ", l.machine.Host, l.machine.ID, l.dir)
	if l.dir == "" {
		here = l.machine.Host + " process "
	}
	claim := lease.Claim{
		Holder: fmt.Sprintf("%s%d", here, os.Getpid()), Tick: time.Now(), TTL: l.ttl,
		Gone: func(holder string) bool { return l.dir != "" && strings.HasPrefix(holder, here) },
	}
	taken, outcome, err := lease.Take(ctx, l.store, planLocks+name+planLockSuffix, claim)
	if err != nil {
		return nil, nil, err
	}
	if outcome != lease.Mine {
		s := taken.Status()
		return nil, nil, &plan.HeldError{By: s.Holder, Until: s.Until}
	}
	work, cancel := context.WithCancelCause(ctx)
	held, stop := taken.Hold(ctx)
	context.AfterFunc(held, func() {
		cause := context.Cause(held)
		if errors.Is(cause, lease.ErrLost) {
			cause = fmt.Errorf("%w: %w", plan.ErrLockLost, cause)
		}
		cancel(cause)
	})
	return work, func() {
		stop()
		cancel(context.Canceled)
		end, done := context.WithTimeout(context.WithoutCancel(ctx), planLockEnd)
		defer done()
		_ = taken.Release(end) // otherwise it expires
	}, nil
}

// planRoom is what the commands about plans share: where plans are, and which machine this is.
type planRoom struct {
	repo    *repo.Repo
	board   plan.Board
	machine plan.Machine // zero when unknown
	unknown error        // why
	dir     string
}

// planRoom finds the repository in which this cluster's plans are. Only what executes or changes plans must know which machine this is.
func (c *call) planRoom() (*planRoom, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	r, err := c.existing(cfg)
	if err != nil {
		return nil, err
	}
	return c.planRoomIn(r), nil
}

// planRoomIn is planRoom in a repository that is open already.
func (c *call) planRoomIn(r *repo.Repo) *planRoom {
	m, err := plan.ThisMachine()
	return &planRoom{repo: r, board: r.Plans(plan.DocumentKind), machine: m, unknown: err, dir: filepath.Join(c.stateDir(), "plans")}
}

// stateDir is where this machine keeps what outlives a command. It is absolute, since locks are told apart by it: two folders of one relative name are two.
func (c *call) stateDir() string {
	dir := c.flagOr("state-dir", "STEWARD_STATE")
	if dir == "" {
		return defaultState
	}
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

func stateFlag() cli.Flag {
	return &cli.StringFlag{Name: "state-dir", Usage: "`FOLDER` for journals of plans (default: " + defaultState + ") [$STEWARD_STATE]"}
}

// runner is who opens, executes and rolls back plans on this machine. A store without compare-and-swap cannot keep hosts in step: a plan of several parties
// is refused there; one of a single party may be executed, and it is said that nothing keeps a second operator out.
func (room *planRoom) runner(c *call, p *plan.Plan, actions plan.Actions) (*plan.Runner, error) {
	if room.unknown != nil {
		return nil, room.unknown
	}
	caps, err := store.Probe(c.ctx, room.repo.Store(), probeKey)
	if err != nil {
		return nil, err
	}
	if caps.Exclusive != store.Yes || caps.CompareAndSwap != store.Yes {
		if p == nil || len(p.Parties()) > 1 {
			return nil, fail.Refused(fmt.Errorf("%s does not honour conditions (exclusive create %s, compare-and-swap %s): hosts that share a plan could not keep in step",
				room.repo.Store(), caps.Exclusive, caps.CompareAndSwap), "use a store that does: docs/PLANS.md")
		}
		c.note("warning: %s does not honour conditions: its lock keeps nobody out; make sure that nobody else works on this cluster", room.repo.Store())
	}
	return &plan.Runner{
		Board: room.board, Lock: &planLock{store: room.repo.Store(), machine: room.machine, dir: room.dir, ttl: planLockTTL},
		Dir: room.dir, Machine: room.machine, Actions: actions,
		Say: func(line string) { c.note("%s", line) },
	}, nil
}
