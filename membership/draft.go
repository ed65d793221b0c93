package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
	"etcd-steward/membership/quorum"
)

// Operator is the party of the machine on which a person asks for the change.
const Operator = "operator"

// Kinds of the plans that this package makes.
const (
	KindAdd     = "member-add"
	KindRemove  = "member-remove"
	KindReplace = "member-replace"
	KindPromote = "member-promote"
	KindUpdate  = "member-update"
)

// Actions of their steps.
const (
	doBackup      = "backup"
	doConfirm     = "confirm-dead"
	doMoveLeader  = "move-leader"
	doRepoint     = "repoint-kubernetes"
	doRemove      = "remove-member"
	doGone        = "wait-gone"
	doAdd         = "add-member"
	doCatchUp     = "catch-up"
	doPromote     = "promote"
	doUpdate      = "update-member"
	doVerify      = "verify"
	doStopOld     = "stop-replaced"
	doCheck       = "check-machine"
	doConfigure   = "configure"
	doStart       = "start"
	doStarted     = "wait-started"
	doReaddress   = "readdress"
	doStopRemoved = "stop-removed"
	doSetAside    = "set-aside"
)

// Origin is from what, by whom and why a plan is made.
type Origin struct {
	View *probe.View
	// At is when the view was complete, by this machine; zero: a silence is counted from when the plan is executed.
	At    Moment
	Host  string // this machine's name, for people
	Force string // why gates are passed that may be passed; ""
	// LedSince is how long ago the leader changed; 0 when that is not known.
	LedSince time.Duration
	// Lookup resolves a host name; nil: URLs are compared as they are written.
	Lookup func(host string) ([]string, error)
	// Like is what a new member has in common with the etcd of this machine; nil where there is none.
	Like *host.Template
}

// draft is a plan in the making, and what each of its steps means for the quorum.
type draft struct {
	plan  plan.Plan
	basis Basis
	like  *host.Template
	sim   []quorum.Step
	index []int // sim[i] is what plan.Steps[index[i]] does
}

func (o Origin) draft(c *Cluster, kind, title string) *draft {
	return &draft{
		plan:  plan.Plan{Kind: kind, Title: title, Cluster: c.ID.String(), Made: o.View.At.UTC().Truncate(time.Second), MadeBy: o.Host},
		basis: basisOf(c),
		like:  o.Like,
	}
}

// step appends one. What it does to the quorum is simulated in the end.
func (d *draft) step(s plan.Step, effect ...quorum.Step) {
	if s.Name == "" {
		s.Name = s.Action
	}
	for _, e := range effect {
		d.sim, d.index = append(d.sim, e), append(d.index, len(d.plan.Steps))
	}
	d.plan.Steps = append(d.plan.Steps, s)
}

// finish simulates the plan, writes the state after each step beside it, and what is fragile into its warnings.
func (d *draft) finish(c *Cluster) (plan.Plan, error) {
	model := c.model()
	after, err := quorum.Simulate(model, d.sim)
	var r *quorum.Refusal
	if errors.As(err, &r) {
		if r.Index >= 0 {
			i := d.index[r.Index]
			return plan.Plan{}, fail.Refused(fmt.Errorf("refused: step %d (%s): %s", i+1, d.plan.Steps[i].Text, r.Rule), r.Safe)
		}
		return plan.Plan{}, fail.Refused(fmt.Errorf("refused: %s", r.Rule), r.Safe)
	} else if err != nil {
		return plan.Plan{}, err
	}
	before := model.State()
	for i, a := range after {
		d.plan.Steps[d.index[i]].State = stateText(a.State)
	}
	if n := len(after); n > 0 {
		lowest := before.Tolerates()
		for _, a := range after {
			lowest = min(lowest, a.State.Tolerates())
		}
		last := after[n-1]
		if last.Warning != "" {
			d.plan.Warnings = append(d.plan.Warnings, "in the end: "+last.Warning)
		}
		if lowest == 0 && before.Tolerates() > 0 && last.State.Tolerates() > 0 {
			d.plan.Warnings = append(d.plan.Warnings, "while it lasts no voter may fail")
		}
	}
	b, err := json.Marshal(d.basis)
	if err != nil {
		panic("unreachable: " + err.Error())
	}
	d.plan.Basis = b
	return d.plan, nil
}

// stateText is a state for the plan's table.
func stateText(s quorum.State) string { return fmt.Sprintf("%s, %d may fail", s, s.Tolerates()) }

// StepStarted is the step of an addition that is done once the new member has started: from then on it is one that works.
const StepStarted = doStarted
