package main

import (
	"bytes"
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

// watchEvery is how often --watch looks.
const watchEvery = time.Second

func planStatusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how a plan stands on all its hosts",
		UsageText: "steward plan status [PLAN] [--watch] [flags]",
		Description: `Without PLAN it is the one that was opened last. Exits with 3 when a step has failed.
A step that is "begun" goes on, or its command was killed: nobody can tell from here. In doubt, the same command on that host goes on with it.
--watch draws it again until the plan is finished; where there is no terminal, it prints it again whenever something has changed.

   steward plan status
   steward plan status member-replace-0123456789abcdef --watch`,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "go on until the plan is finished", DisableDefaultText: true}},
		Action: action(planStatus),
	}
}

func planStatus(c *call) error {
	a, err := c.args(0, 1, "")
	if err != nil {
		return err
	}
	room, err := c.planRoom()
	if err != nil {
		return err
	}
	id := ""
	if len(a) == 1 {
		id = a[0]
	} else if id, err = newestPlan(c, room); err != nil {
		return err
	}
	if c.Bool("watch") {
		return c.watchPlan(room, id)
	}
	s, err := room.status(c, id)
	if err != nil {
		return err
	}
	if err := c.answer(s, func(w io.Writer) error { return statusTable(w, s, time.Now()) }); err != nil {
		return err
	}
	return statusVerdict(s)
}

func (room *planRoom) status(c *call, id string) (*plan.Status, error) {
	p, st, err := plan.Load(c.ctx, room.board, id)
	if err != nil {
		return nil, err
	}
	return plan.StatusOf(p, st), nil
}

// newestPlan is the plan that was opened last.
func newestPlan(c *call, room *planRoom) (string, error) {
	id, err := plan.Newest(c.ctx, room.board)
	if err == nil && id == "" {
		err = fail.New(fail.Wanting, fmt.Errorf("no plan was ever opened in %s", room.repo.Store()), "check --store and --cluster: steward config show")
	}
	return id, err
}

// statusVerdict is exit code 3 when a step has failed.
func statusVerdict(s *plan.Status) error {
	failed := s.Failed()
	if len(failed) == 0 || s.Finished {
		return nil
	}
	f := failed[0]
	return fail.New(fail.Wanting, answered(fmt.Errorf("step %s of plan %s failed on %s: %s", f.Name, s.ID, f.Host, f.Error)), nextCommand(s, f.Party))
}

// nextCommand is what goes on with a party's part of a plan, or takes it back.
func nextCommand(s *plan.Status, party string) string {
	if s.Phase == plan.RollingBack {
		return fmt.Sprintf("steward plan rollback %s --party %s", s.ID, party)
	}
	next := fmt.Sprintf("steward plan run %s --party %s", s.ID, party)
	if !s.RollbackOver {
		next += fmt.Sprintf("; or go back: steward plan rollback %s --party %s", s.ID, party)
	}
	return next
}

// watchPlan shows the status until the plan is finished. What the last look showed stays on the terminal.
func (c *call) watchPlan(room *planRoom, id string) error {
	last, err := c.watchStatus(room, id)
	if err != nil {
		return err
	}
	return statusVerdict(last)
}

// watchStatus shows the status again and again, on a page of its own where there is a terminal, and returns the last one.
func (c *call) watchStatus(room *planRoom, id string) (s *plan.Status, err error) {
	show := c.printNews()
	if !c.json() {
		if screen, ok := term.NewScreen(c.stdout); ok {
			show = drawOn(screen)
			defer func() {
				screen.Close()
				if s != nil { // the page is gone with what was on it
					err = errors.Join(err, statusTable(c.stdout, s, time.Now()))
				}
			}()
		}
	}
	for {
		now, err := room.status(c, id)
		if now != nil {
			s = now
		}
		if err != nil && (s == nil || !room.board.Away(err)) {
			return s, err
		}
		if err := show(s, err); err != nil {
			return s, err
		}
		if s.Finished || s.Phase == "" {
			return s, nil
		}
		select {
		case <-c.ctx.Done():
			return s, c.ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

// drawOn draws each status over the one before it. away is why it is not of this moment.
func drawOn(screen *term.Screen) func(s *plan.Status, away error) error {
	return func(s *plan.Status, away error) error {
		var page bytes.Buffer
		fmt.Fprintf(&page, "%s  every %v, Ctrl-C ends it\n", term.Time(time.Now()), watchEvery)
		if away != nil {
			fmt.Fprintf(&page, "warning: the store does not answer, this is how it was: %s\n", term.Clean(away.Error()))
		}
		if err := statusTable(&page, s, time.Now()); err != nil {
			return err
		}
		return screen.Draw(page.String())
	}
}

// printNews prints a status when it is another than the one before it. Ages are left out, so that it is new only when something happened.
func (c *call) printNews() func(s *plan.Status, away error) error {
	var last string
	told := false
	return func(s *plan.Status, away error) error {
		if away != nil && !told {
			c.note("warning: the store does not answer, trying again: %v", away)
		}
		told = away != nil
		var text bytes.Buffer
		if err := statusTable(&text, s, time.Time{}); err != nil || text.String() == last {
			return err
		}
		last = text.String()
		return c.answer(s, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, last)
			return err
		})
	}
}

// statusTable shows all hosts of a plan. Ages are by `now`; without it there are none.
func statusTable(w io.Writer, s *plan.Status, now time.Time) error {
	if err := term.Fields(w, []term.Field{
		{Name: "plan", Value: s.ID}, {Name: "what", Value: s.Title}, {Name: "state", Value: phaseText(s.Phase, "")}, {Name: "rollback", Value: rollbackText(s)},
	}); err != nil {
		return err
	}
	var rows [][]string
	var below problems
	for _, party := range s.Parties {
		host := "-"
		if party.Machine != nil {
			host = party.Machine.Host
		}
		for _, step := range party.Steps {
			rows = append(rows, []string{party.Party, host, step.Name, stepText(step), stepAge(step.StepState, now), strings.Join(step.Waits, ", ")})
			below.add(step.Name, step.Error)
		}
		if party.Left != "" {
			below.add(fmt.Sprintf("what %s has begun was left as it is", party.Party), party.Left)
		}
		if !party.Stopped.IsZero() && !s.Finished {
			below.add(fmt.Sprintf("%s stopped on %s at %s", party.Party, host, term.Time(party.Stopped)), party.Why)
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := term.Table(w, term.Columns("party", "host", "step", "state", ">since", "waits for"), rows); err != nil {
		return err
	}
	return below.write(w)
}

func rollbackText(s *plan.Status) string {
	switch {
	case s.Phase == plan.RollingBack:
		return "under way"
	case s.RollbackOver:
		return "not possible any more"
	case s.RollbackUntil != "":
		return "possible until step " + s.RollbackUntil + " begins"
	case s.Finished:
		return ""
	}
	return "possible until the plan is done"
}

func stepText(s plan.StepStatus) string {
	text := string(s.Mark)
	switch {
	case s.Mark == "" && s.Optional:
		return "optional"
	case s.Mark == "":
		return "-"
	case s.Mark == plan.Failed:
		return "FAILED"
	case s.Left:
		return "LEFT AS IT IS"
	case s.Mark == plan.Undoing && s.Error != "":
		return "UNDO FAILED"
	}
	return text
}

// stepAge is how long a step has been as it is.
func stepAge(s plan.StepState, now time.Time) string {
	at := s.Began
	for _, later := range []time.Time{s.Ended, s.Undo, s.Undone} {
		if !later.IsZero() {
			at = later
		}
	}
	if at.IsZero() || now.IsZero() {
		return ""
	}
	return term.Age(now.Sub(at))
}
