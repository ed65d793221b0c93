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

// planKind gives the actions of one kind of plan. It refuses a plan that does not fit this machine or its cluster.
type planKind func(c *call, p *plan.Plan) (plan.Actions, error)

// planKinds are the kinds of plans that this program can execute. Whoever makes plans of a kind adds it here.
var planKinds = map[string]planKind{}

func planGroup() *cli.Command {
	return group("plan", "what is done in steps on several hosts: see it, go on with it, take it back",
		planListCommand(), planShowCommand(), planStatusCommand(), planRunCommand(), planRollbackCommand(), planCloseCommand())
}

// actions are those of a plan's kind.
func (c *call) actions(p *plan.Plan) (plan.Actions, error) {
	kind, ok := planKinds[p.Kind]
	if !ok {
		return nil, fail.New(fail.Usage, fmt.Errorf("plan %s is a %q, which this version of steward cannot execute", p.ID, p.Kind), "use the version that made it")
	}
	return kind(c, p)
}

// planArg reads the plan that the argument names, from the room that it is in.
func (c *call) planArg() (*planRoom, *plan.Plan, *plan.State, error) {
	room, err := c.planRoom()
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := c.args(1, 1, "the plan's ID (steward plan list)")
	if err != nil {
		return nil, nil, nil, err
	}
	p, st, err := plan.Load(c.ctx, room.board, a[0])
	return room, p, st, err
}

// party is the one that was asked for, or the only one that can be meant: of a plan with one party, or of the parties that this machine executes already.
func (c *call) party(p *plan.Plan, st *plan.State, m plan.Machine) (string, error) {
	if asked := c.String("party"); asked != "" {
		return asked, nil
	}
	var here []string
	for _, party := range p.Parties() {
		if have := st.Parties[party]; have != nil && have.Machine == m {
			here = append(here, party)
		}
	}
	all := p.Parties()
	switch {
	case len(here) == 1:
		return here[0], nil
	case len(all) == 1:
		return all[0], nil
	}
	return "", fail.New(fail.Usage, fmt.Errorf("plan %s has parties %s: which of them is this machine?", p.ID, strings.Join(all, ", ")), "--party NAME")
}

func planListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "show all plans, the open one first",
		UsageText: "steward plan list [flags]",
		Description: `One line per plan of this cluster. STATE: open, done, rolling back, rolled back, abandoned; "never opened" for one that was stored when
another was open. DONE counts steps.

   steward plan list`,
		Action: action(planList),
	}
}

// listedPlan is a row of `plan list`.
type listedPlan struct {
	ID      string     `json:"id"`
	Phase   plan.Phase `json:"phase"`
	Title   string     `json:"title"`
	Made    time.Time  `json:"made,omitzero"`
	MadeBy  string     `json:"made_by,omitempty"`
	Done    int        `json:"done"`
	Steps   int        `json:"steps"`
	Problem string     `json:"problem,omitempty"`
}

func planList(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	room, err := c.planRoom()
	if err != nil {
		return err
	}
	plans, err := plan.List(c.ctx, room.board)
	if err != nil {
		return err
	}
	rows := []listedPlan{}
	for _, l := range plans {
		row := listedPlan{ID: l.ID, Title: l.Title, Made: l.Made, MadeBy: l.MadeBy, Steps: len(l.Steps)}
		if l.State != nil {
			row.Phase = l.State.Phase
			for _, st := range l.State.Steps {
				if st.Mark == plan.DoneOK {
					row.Done++
				}
			}
		}
		if l.Problem != nil {
			row.Problem = l.Problem.Error()
		}
		rows = append(rows, row)
	}
	if err := c.answer(rows, func(w io.Writer) error { return planListTable(w, rows) }); err != nil {
		return err
	}
	if len(rows) == 0 {
		c.note("there are no plans in %s", room.repo.Store())
	}
	return nil
}

func planListTable(w io.Writer, plans []listedPlan) error {
	if len(plans) == 0 {
		return nil
	}
	var rows [][]string
	var below problems
	for _, p := range plans {
		rows = append(rows, []string{p.ID, phaseText(p.Phase, p.Problem), fmt.Sprintf("%d/%d", p.Done, p.Steps), term.Time(p.Made), p.MadeBy, p.Title})
		below.add(p.ID, p.Problem)
	}
	return errors.Join(term.Table(w, term.Columns("id", "state", ">done", "made", "by", "what"), rows), below.write(w))
}

func phaseText(p plan.Phase, problem string) string {
	switch {
	case problem != "":
		return "CANNOT BE READ"
	case p == "":
		return "never opened"
	}
	return string(p)
}
