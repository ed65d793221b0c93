package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/plan"
	"etcd-steward/internal/term"
)

func planShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print what a plan would do, by whom, in which order, and what is so after each step",
		UsageText: "steward plan show PLAN [flags]",
		Description: `Steps are in an order in which they can be executed. AFTER names the steps of others that must be done before. A step is marked when there is
no way back from its beginning on, and when the plan is complete without it. -o json prints the plan itself.

   steward plan show member-replace-0123456789abcdef`,
		Action: action(planShow),
	}
}

func planShow(c *call) error {
	_, p, _, err := c.planArg()
	if err != nil {
		return err
	}
	return c.answer(p, func(w io.Writer) error { return planTable(w, p) })
}

// planTable prints a plan for whoever decides whether it is executed.
func planTable(w io.Writer, p *plan.Plan) error {
	if err := term.Fields(w, []term.Field{
		{Name: "plan", Value: p.ID},
		{Name: "what", Value: p.Title},
		{Name: "cluster", Value: p.Cluster},
		{Name: "made", Value: fmt.Sprintf("%s on %s", term.Time(p.Made), p.MadeBy)},
		{Name: "rollback", Value: wayBack(p)},
	}); err != nil {
		return err
	}
	for _, warning := range p.Warnings {
		if _, err := fmt.Fprintln(w, "warning: "+term.Clean(warning)); err != nil {
			return err
		}
	}
	var rows [][]string
	for i, s := range p.Order() {
		var after []string
		for _, name := range s.After {
			if b, _ := p.Step(name); b.Party != s.Party {
				after = append(after, name)
			}
		}
		var marks []string
		if s.Final {
			marks = append(marks, "no way back")
		}
		if s.Optional {
			marks = append(marks, "optional")
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), s.Party, s.Name, s.Text, strings.Join(after, ", "), strings.Join(marks, ", "), s.State})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return term.Table(w, term.Columns(">#", "party", "step", "what", "after", "note", "then"), rows)
}

// wayBack says how far a plan can be rolled back.
func wayBack(p *plan.Plan) string {
	for _, s := range p.Order() {
		if s.Final {
			return fmt.Sprintf("until step %s begins", s.Name)
		}
	}
	return "until the plan is done"
}
