package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership"
)

func noWaitFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-wait", Usage: "leave the plan open for the new machine, and go on later", DisableDefaultText: true}
}

func memberAddCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add a member: as a learner first, promoted when it has caught up",
		UsageText: "steward member add NAME PEER_URL [flags]",
		Description: `Shows what would be done, and what the cluster is after each step, and asks. Then it prints the one command for the new machine and waits for it.
That machine is looked at before anything is changed; a verified backup is taken; a learner that makes no progress is removed again, and so is one that has not
started when this command is broken off with Ctrl-C.

   steward member add m4 https://10.0.0.4:2380`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "voter", Usage: "as a voter from the beginning: it counts for the quorum before it has any data", DisableDefaultText: true},
			noWaitFlag(), forceFlag(), dryRunFlag(), spoolFlag(), stateFlag(),
		},
		Action: action(memberAdd),
	}
}

func memberAdd(c *call) error {
	a, err := c.args(2, 2, "NAME and PEER_URL of the new member")
	if err != nil {
		return err
	}
	m, err := c.change(host.Add)
	if err != nil {
		return err
	}
	p, err := m.origin.Add(membership.Newcomer{Name: a[0], PeerURL: a[1], Voter: c.Bool("voter")})
	if err != nil {
		return err
	}
	return m.bringIn(p, fmt.Sprintf("Add member %s?", a[0]))
}

func memberReplaceCommand() *cli.Command {
	return &cli.Command{
		Name:      "replace",
		Usage:     "replace a dead member, at the same or at a new address",
		UsageText: "steward member replace MEMBER [--peer-url URL] [--name NAME] [flags]",
		Description: `MEMBER is an ID, a name or a URL. The old member is removed, then the new one is added as a learner and promoted when it has caught up. It
shows the quorum after each step and asks; it prints the one command for the new machine and waits for it. A member that answers is replaced only
with --force REASON.

   steward member replace m3
   steward member replace m3 --peer-url https://10.0.0.9:2380`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer-url", Usage: "`URL` at which the members reach the new one (default: the old one's)"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the new member (default: the old one's)"},
			noWaitFlag(), forceFlag(), dryRunFlag(), spoolFlag(), stateFlag(),
		},
		Action: action(memberReplace),
	}
}

func memberReplace(c *call) error {
	a, err := c.args(1, 1, "the MEMBER to replace")
	if err != nil {
		return err
	}
	m, err := c.change(host.Replace)
	if err != nil {
		return err
	}
	p, err := m.origin.Replace(membership.Replacement{Who: a[0], Name: c.String("name"), PeerURL: c.String("peer-url")})
	if err != nil {
		return err
	}
	return m.bringIn(p, fmt.Sprintf("%s?", upperFirst(p.Title)))
}

// upperFirst makes a title the beginning of a question.
func upperFirst(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

// bringIn carries out a plan that brings a new member in: the new machine does its part by a command of its own.
func (m *change) bringIn(draft plan.Plan, question string) error {
	p, r, done, err := m.propose(draft, question)
	if err != nil || done {
		return err
	}
	b, err := membership.BasisOf(*p)
	if err != nil {
		return err
	}
	m.note("on the new machine (%s), with the same store: steward member join %s", b.Adds.Name, p.ID)
	for _, party := range p.Parties() {
		if party != membership.Operator && party != b.Adds.Name {
			m.note("on the old machine, if it ever starts again: steward plan run %s --party %s", p.ID, party)
		}
	}
	if m.Bool("no-wait") {
		m.note("the plan is open; go on here with: steward plan run %s --party %s", p.ID, membership.Operator)
		return m.showStatus(m.room, p.ID)
	}
	err = r.Run(m.ctx, p, membership.Operator)
	if err != nil && m.ctx.Err() != nil {
		return m.withdraw(p, r, err)
	}
	if err != nil {
		return err
	}
	return m.showStatus(m.room, p.ID)
}

// withdrawTimeout bounds what is done after Ctrl-C.
const withdrawTimeout = 30 * time.Second

// withdraw is what becomes of an addition that was broken off: when the new member never started, it is removed again.
func (m *change) withdraw(p *plan.Plan, r *plan.Runner, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), withdrawTimeout)
	defer cancel()
	goOn := fmt.Sprintf("go on with: steward plan run %s --party %s; or go back with: steward plan rollback %s --party %s", p.ID, membership.Operator, p.ID, membership.Operator)
	_, st, err := plan.Load(ctx, m.room.board, p.ID)
	if err != nil {
		m.note("the plan cannot be read (%v); %s", err, goOn)
		return cause
	}
	if s := st.Steps[membership.StepStarted]; s != nil && s.Mark == plan.DoneOK {
		m.note("the new member has started and stays; %s", goOn)
		return cause
	}
	m.note("broken off before the new member started: taking back what was done")
	half, stop := context.WithTimeout(ctx, withdrawTimeout/2)
	_, err = r.Rollback(half, p, membership.Operator)
	stop()
	if err == nil {
		m.note("nothing is left of it in the cluster")
		return cause
	}
	// The new machine has its own part to undo, and may not be there. The learner must not stay for that.
	if e := m.site.Evict(ctx, p, m.note); e != nil {
		m.note("the learner may still be there (%v); try again: steward plan rollback %s --party %s", e, p.ID, membership.Operator)
		return errors.Join(cause, e)
	}
	m.note("the learner was removed again; what is left to undo on the new machine and here: steward plan rollback %s", p.ID)
	if b, err := membership.BasisOf(*p); err == nil && b.Adds != nil {
		m.note("if the new machine is gone for good: steward plan rollback %s --party %s --without %s --force REASON", p.ID, membership.Operator, b.Adds.Name)
	}
	return cause
}

// showPlan is the answer of --dry-run.
func (c *call) showPlan(p *plan.Plan) error {
	return c.answer(p, func(w io.Writer) error { return planTable(w, p) })
}
