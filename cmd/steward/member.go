package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership"
	"etcd-steward/membership/probe"
)

func memberGroup() *cli.Command {
	return group("member", "see the members of a cluster, add, join, replace and remove them", memberListCommand(),
		memberAddCommand(), memberJoinCommand(), memberReplaceCommand(), memberRemoveCommand(), memberPromoteCommand(), memberUpdateCommand(), memberMoveLeaderCommand())
}

func init() {
	for _, kind := range []string{membership.KindAdd, membership.KindRemove, membership.KindReplace, membership.KindPromote, membership.KindUpdate} {
		planKinds[kind] = func(c *call, p *plan.Plan) (plan.Actions, error) {
			cfg, err := c.config()
			if err != nil {
				return nil, err
			}
			site, err := c.site(cfg)
			if err != nil {
				return nil, err
			}
			return site.Actions(), c.reachAsMember(cfg, site, p)
		}
	}
}

// site is this machine, and how the cluster is reached from it.
func (c *call) site(cfg *config.Config) (*membership.Site, error) {
	access, err := c.access(cfg)
	if err != nil {
		return nil, err
	}
	m := host.Detect("/")
	return &membership.Site{
		Access: access, Backup: c.backupNow(cfg),
		Host: &membership.Host{Machine: m, Control: host.NewControl(m), Etcd: c.String("etcd"), SetAside: c.Bool("set-aside"), Image: c.String("image")},
	}, nil
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "print the plan, and do nothing", DisableDefaultText: true}
}

func forceFlag() cli.Flag {
	return &cli.StringFlag{Name: "force", Usage: "do it although a precondition that may be passed is not met: a `REASON` that is kept in the plan"}
}

// change is a command that changes who is a member.
type change struct {
	*call
	cfg    *config.Config
	room   *planRoom
	site   *membership.Site
	origin membership.Origin
}

// hashTimeout bounds the comparison of data before anything is planned.
const hashTimeout = 30 * time.Second

// change looks at the cluster. Without a store nothing is asked: plans and the backup before a change live there.
func (c *call) change(op host.Operation) (*change, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	room, err := c.planRoom()
	if err != nil {
		return nil, err
	}
	if _, err := cfg.Recipients(); err != nil { // before anybody is asked to agree
		return nil, err
	}
	site, err := c.site(cfg)
	if err != nil {
		return nil, err
	}
	if err := site.Host.Machine.Refuse(op); err != nil {
		return nil, err
	}
	v, err := probe.Settled(c.ctx, site.Access, probe.Options{Hash: true, HashTimeout: hashTimeout, Metrics: op == host.Replace})
	if err != nil {
		return nil, err
	}
	origin := membership.Origin{
		View: v, At: membership.Now(), Host: hostname(), Force: c.String("force"), Lookup: c.lookup, Like: site.Host.Like(v),
	}
	origin.LedSince = c.ledSince(cfg, termOf(origin))
	return &change{c, cfg, room, site, origin}, nil
}

// lookup resolves a host name, within a bound.
func (c *call) lookup(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, name)
}

// propose shows a plan and asks; then it is the open one. done: there is nothing more to do, as it was only to be shown.
func (m *change) propose(draft plan.Plan, question string) (p *plan.Plan, r *plan.Runner, done bool, err error) {
	if p, err = plan.New(draft); err != nil {
		return nil, nil, false, err
	}
	if m.Bool("dry-run") {
		return p, nil, true, m.showPlan(p)
	}
	if !m.json() {
		if err := planTable(m.stderr, p); err != nil {
			return nil, nil, false, err
		}
	}
	if err := m.confirm(question); err != nil {
		return nil, nil, false, err
	}
	if r, err = m.room.runner(m.call, p, m.site.Actions()); err != nil {
		return nil, nil, false, err
	}
	return p, r, false, r.Open(m.ctx, p)
}

// carryOut proposes a plan and does the operator's part of it; then this machine's own, where it is the member's.
func (m *change) carryOut(draft plan.Plan, question string, own func(membership.Basis) (party string, ok bool)) error {
	p, r, done, err := m.propose(draft, question)
	if err != nil || done {
		return err
	}
	b, err := membership.BasisOf(*p)
	if err != nil {
		return err
	}
	mine, here := own(b)
	for _, party := range p.Parties() {
		if party != membership.Operator && (!here || party != mine) {
			m.note("on the machine of %s: steward plan run %s --party %s", party, p.ID, party)
		}
	}
	if here { // both parts at once: each waits for the other
		return m.both(p, r, mine)
	}
	if err := r.Run(m.ctx, p, membership.Operator); err != nil {
		return err
	}
	return m.showStatus(m.room, p.ID)
}

// both runs the operator's part and another one of this machine.
func (m *change) both(p *plan.Plan, r *plan.Runner, party string) error {
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	second := make(chan error, 1)
	other := *r
	go func() {
		err := other.Run(ctx, p, party)
		if err != nil {
			cancel(err)
		}
		second <- err
	}()
	err := r.Run(ctx, p, membership.Operator)
	if err != nil {
		cancel(err)
	}
	if e := <-second; e != nil && (err == nil || m.ctx.Err() == nil && context.Cause(ctx) == e) { //nolint:errorlint // the very error
		err = e
	}
	if err != nil {
		return fmt.Errorf("plan %s: %w", p.ID, err)
	}
	return m.showStatus(m.room, p.ID)
}

// nobodyHere is for plans whose other parties are never this machine.
func nobodyHere(membership.Basis) (string, bool) { return "", false }

// textAnswer is an answer of one line.
func textAnswer(format string, a ...any) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, format+"\n", a...)
		return err
	}
}
