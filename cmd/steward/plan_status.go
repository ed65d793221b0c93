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
	return fail.New(fail.Wanting, answered(fmt.Errorf("step %s of plan %s failed on %s: %s", failed[0].Name, s.ID, failed[0].Host, failed[0].Error)), nextCommand(s))
}

// nextCommand is what goes on with a plan, or takes it back.
func nextCommand(s *plan.Status) string {
	if s.Phase == plan.RollingBack {
		return fmt.Sprintf("steward plan rollback %s", s.ID)
	}
	next := fmt.Sprintf("steward plan run %s", s.ID)
	if !s.RollbackOver {
		next += fmt.Sprintf("; or go back: steward plan rollback %s", s.ID)
	}
	return next
}

// watchPlan shows the status until the plan is finished.
func (c *call) watchPlan(room *planRoom, id string) error {
	live := term.IsTerminal(c.stdout) && !c.json()
	var last string
	for {
		s, err := room.status(c, id)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if live {
			err = statusTable(&text, s, time.Now())
		} else { // without ages, so that it is new only when something happened
			err = statusTable(&text, s, time.Time{})
		}
		if err != nil {
			return err
		}
		switch {
		case live:
			_, err = fmt.Fprint(c.stdout, "\x1b[H\x1b[2J"+text.String())
		case text.String() != last:
			err = c.answer(s, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, text.String())
				return err
			})
		}
		last = text.String()
		if err != nil || s.Finished || s.Phase == "" {
			return errors.Join(err, statusVerdict(s))
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(watchEvery):
		}
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
