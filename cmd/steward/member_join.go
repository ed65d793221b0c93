package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership"
)

func memberJoinCommand() *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "on the new machine: become the member that a plan adds",
		UsageText: "steward member join PLAN [flags]",
		Description: `Looks whether this machine is ready (data directory, ports, certificates in both directions, clock, disk), waits until it was added, writes etcd's
configuration where this machine's etcd takes it from (unit, environment file, YAML, static pod; what was there is kept beside it), starts etcd and waits until
it serves. After an error, a reboot or Ctrl-C the same command goes on.

   steward member join member-add-0123456789abcdef --store s3://backups/prod`,
		Flags: append(partyFlags()[1:],
			&cli.BoolFlag{Name: "set-aside", Usage: "rename a data directory that is not empty and not the removed member's", DisableDefaultText: true},
			&cli.StringFlag{Name: "image", Usage: "on a kubelet's machine without etcd's manifest: the `IMAGE` of etcd (default: what the machine runs where the plan was made)"}),
		Action: action(memberJoin),
	}
}

func memberJoin(c *call) error {
	room, p, st, err := c.planArg()
	if err != nil {
		return err
	}
	if !slices.Contains([]string{membership.KindAdd, membership.KindReplace}, p.Kind) {
		return fail.New(fail.Usage, fmt.Errorf("plan %s is to %s: it brings no member in", p.ID, p.Title), "steward plan list")
	}
	b, err := membership.BasisOf(*p)
	if err != nil {
		return err
	}
	if b.Adds == nil {
		return fail.New(fail.Usage, fmt.Errorf("plan %s names no new member", p.ID), "make a new one")
	}
	if err := membership.IsHere(b.Adds.PeerURL); err != nil { // before this machine takes a part that is another one's
		return err
	}
	err = c.execute(room, p, st, b.Adds.Name)
	if err == nil {
		c.note("the other side waits until it has caught up, and promotes it: steward plan status %s", p.ID)
		return nil
	}
	return c.leaveAgain(room, p, b.Adds.Name, err)
}

// leaveAgain undoes this machine's part when the plan was rolled back elsewhere meanwhile.
func (c *call) leaveAgain(room *planRoom, p *plan.Plan, party string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), withdrawTimeout)
	defer cancel()
	_, st, err := plan.Load(ctx, room.board, p.ID)
	if err != nil || st.Phase != plan.RollingBack || c.ctx.Err() != nil {
		return cause
	}
	have := st.Parties[party]
	if have == nil || have.Machine != room.machine {
		return cause
	}
	c.note("the plan is being rolled back: undoing this machine's part")
	actions, err := c.actions(p)
	if err != nil {
		return cause
	}
	r, err := room.runner(c, p, actions)
	if err != nil {
		return cause
	}
	if _, err := r.Rollback(c.ctx, p, party); err != nil {
		return err
	}
	return fail.Hint(cause, "this machine is as it was before")
}
