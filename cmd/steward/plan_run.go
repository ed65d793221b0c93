package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/internal/term"
)

func partyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "party", Usage: "`NAME` of the part that this machine executes (default: the only one that can be meant)"},
		&cli.BoolFlag{Name: "take-over", Usage: "the machine that executed this part is gone for good: this one goes on in its place", DisableDefaultText: true},
		stateFlag(),
	}
}

func planRunCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "execute this machine's part of a plan, or go on with it",
		UsageText: "steward plan run PLAN [--party NAME] [flags]",
		Description: `Waits for the other hosts where the plan says so. After a crash, an error or --timeout the same command goes on where it was.

   steward plan run member-replace-0123456789abcdef --party m4`,
		Flags:  partyFlags(),
		Action: action(planRun),
	}
}

func planRun(c *call) error {
	room, p, st, err := c.planArg()
	if err != nil {
		return err
	}
	party, err := c.party(p, st, room.machine)
	if err != nil {
		return err
	}
	return c.execute(room, p, st, party)
}

// execute runs a party's part of an open plan and shows where the plan then stands. A machine's first part in a plan is asked about.
func (c *call) execute(room *planRoom, p *plan.Plan, st *plan.State, party string) error {
	actions, err := c.actions(p)
	if err != nil {
		return err
	}
	if have := st.Parties[party]; (have == nil || have.Machine != room.machine) && len(p.Of(party)) > 0 {
		if !c.json() {
			if err := planTable(c.stderr, p); err != nil {
				return err
			}
		}
		n := len(p.Of(party))
		if err := c.confirmPlan(p, fmt.Sprintf("Execute the part of %s (%s) on %s?", party, term.Counted(n, "step", "steps"), room.machine.Host)); err != nil {
			return err
		}
	}
	r, err := room.runner(c, p, actions)
	if err != nil {
		return err
	}
	r.TakeOver = c.Bool("take-over")
	if err := r.Run(c.ctx, p, party); err != nil {
		return err
	}
	return c.showStatus(room, p.ID)
}

// confirmPlan is confirm for a plan, which can be looked at instead.
func (c *call) confirmPlan(p *plan.Plan, question string) error {
	err := c.confirm(question)
	if fail.ExitCode(err) == fail.Usage {
		return fail.New(fail.Usage, err, "add --yes to do it; what it would do: steward plan show "+p.ID)
	}
	return err
}

// showStatus is the answer of what changes a plan.
func (c *call) showStatus(room *planRoom, id string) error {
	s, err := room.status(c, id)
	if err != nil {
		return err
	}
	return c.answer(s, func(w io.Writer) error { return statusTable(w, s, time.Now()) })
}

func planRollbackCommand() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "end a plan and undo this machine's part of it",
		UsageText: "steward plan rollback PLAN [--party NAME] [flags]",
		Description: `From then on no host begins another step of the plan. Each host undoes what it has begun with the same command; the plan is rolled back when all
have. Refused (exit 4) once a step was begun from which there is no way back: ` + "`steward plan show`" + ` names it.
Where a machine is gone for good, its part cannot be undone, and all others would wait for it: --without leaves it as it is, names what that is, and undoes the rest.

   steward plan rollback member-replace-0123456789abcdef --party m4
   steward plan rollback member-add-0123456789abcdef --party operator --without m4 --force "m4 burned down"`,
		Flags: append(partyFlags(),
			&cli.StringSliceFlag{Name: "without", Usage: "`NAME` of a part whose machine is gone for good: it is left as it is"},
			&cli.StringFlag{Name: "force", Usage: "why a part is left as it is: a `REASON` that is kept in the plan"}),
		Action: action(planRollback),
	}
}

func planRollback(c *call) error {
	room, p, st, err := c.planArg()
	if err != nil {
		return err
	}
	party, err := c.party(p, st, room.machine)
	if err != nil {
		return err
	}
	actions, err := c.actions(p)
	if err != nil {
		return err
	}
	gone := c.StringSlice("without")
	if err := c.mayLeave(p, gone); err != nil {
		return err
	}
	if st.Phase == plan.Open || len(gone) > 0 {
		if err := c.confirmPlan(p, fmt.Sprintf("Roll back plan %s (%s)?", p.ID, p.Title)); err != nil {
			return err
		}
	}
	r, err := room.runner(c, p, actions)
	if err != nil {
		return err
	}
	r.TakeOver = c.Bool("take-over")
	var after *plan.State
	if len(gone) > 0 {
		after, err = r.RollbackWithout(c.ctx, p, party, gone, c.String("force"))
	} else {
		after, err = r.Rollback(c.ctx, p, party)
	}
	if err != nil {
		return err
	}
	for _, step := range p.Steps {
		if s := after.Steps[step.Name]; s != nil && s.Left {
			c.note("left as it is on %s, should it ever come back: %s (%s)", s.Host, step.Name, step.Text)
		}
	}
	for _, other := range p.Parties() {
		if host, n := leftToUndo(p, after, other); n > 0 {
			c.note("%s on %s has %s to undo: steward plan rollback %s --party %s", other, host, term.Counted(n, "step", "steps"), p.ID, other)
		}
	}
	return c.showStatus(room, p.ID)
}

// mayLeave checks what --without and --force say, before anybody is asked.
func (c *call) mayLeave(p *plan.Plan, gone []string) error {
	switch reason := c.String("force"); {
	case len(gone) > 0 && reason == "":
		return fail.New(fail.Usage, errors.New("a part of a plan is left as it is only for a reason"), "--force REASON")
	case len(gone) == 0 && reason != "":
		return fail.New(fail.Usage, errors.New("--force is the reason for --without"), "--without NAME, of the part whose machine is gone for good")
	}
	for _, party := range gone {
		if len(p.Of(party)) == 0 {
			return fail.New(fail.Usage, fmt.Errorf("plan %s has no party %q", p.ID, party), "its parties: "+strings.Join(p.Parties(), ", "))
		}
	}
	return nil
}

// leftToUndo is how many steps a party has begun and not undone, and where.
func leftToUndo(p *plan.Plan, st *plan.State, party string) (host string, n int) {
	for _, step := range p.Of(party) {
		if s := st.Steps[step.Name]; s != nil && s.Mark != plan.Undone {
			host, n = st.Parties[party].Machine.Host, n+1
		}
	}
	return host, n
}

func planCloseCommand() *cli.Command {
	return &cli.Command{
		Name:      "close",
		Usage:     "give an unfinished plan up, as it is",
		UsageText: "steward plan close PLAN --force REASON [flags]",
		Description: `Nothing is undone: what was begun stays as it is, and ` + "`steward plan status PLAN`" + ` goes on showing it, with the reason. From then on no host begins
or undoes a step of it, and another plan can be made. To take a plan back, use rollback instead.

   steward plan close member-replace-0123456789abcdef --force "m4 burned down; m2 was cleaned up by hand"`,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "force", Usage: "why it is given up: a `REASON` that is kept"}},
		Action: action(planClose),
	}
}

func planClose(c *call) error {
	a, err := c.args(1, 1, "the plan's ID (steward plan list)")
	if err != nil {
		return err
	}
	if c.String("force") == "" {
		return fail.New(fail.Usage, fmt.Errorf("plan %s is given up only for a reason", a[0]), "--force REASON; or take it back: steward plan rollback "+a[0])
	}
	room, err := c.planRoom()
	if err != nil {
		return err
	}
	if room.unknown != nil {
		return room.unknown
	}
	r := &plan.Runner{Board: room.board, Machine: room.machine, Say: func(line string) { c.note("%s", line) }}
	if err := r.Close(c.ctx, a[0], c.String("force")); err != nil {
		return err
	}
	c.note("plan %s is given up", a[0])
	if s, err := room.status(c, a[0]); err == nil {
		for _, step := range s.Underway() {
			c.note("warning: step %s was begun on %s and has not ended: make sure that nobody executes it any more before you make another plan", step.Name, step.Host)
		}
	}
	return nil
}
