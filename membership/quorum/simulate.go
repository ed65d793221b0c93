package quorum

import (
	"fmt"
	"slices"
)

// Kind is what a step does.
type Kind string

// The kinds of steps.
const (
	AddLearner Kind = "add as learner"
	AddVoter   Kind = "add as voter"
	Start      Kind = "start"
	Stop       Kind = "stop" // or cut off, until its Start
	Promote    Kind = "promote"
	Remove     Kind = "remove"
)

// Step is one change, or a member's start or stop. ID is that of the member, and for an addition one that the plan gives it.
type Step struct {
	Kind Kind
	ID   uint64
	Name string // of the member, for an addition
}

// After is the cluster after a step.
type After struct {
	Step  Step
	State State
	// Warning is what is fragile in it; "" when nothing is.
	Warning string
}

// Refusal is why a plan may not be executed, and what would make it safe. Nothing of the plan may be: its steps belong together.
type Refusal struct {
	// Index is the step's, or -1 when the cluster could not even begin.
	Index int
	Rule  string // which rule
	Safe  string // what would make it safe
}

// Error says which step, and which rule.
func (r *Refusal) Error() string {
	if r.Index < 0 {
		return r.Rule
	}
	return fmt.Sprintf("step %d: %s", r.Index+1, r.Rule)
}

const (
	repairFirst = "bring a member back first, or remove a dead one"
	survivor    = "without a majority nothing can be changed: bring members back, or recover a survivor"
)

// Simulate runs the steps in thought. It returns the state after each, or why the first bad one is refused: because etcd would refuse it, or because
// the cluster could not commit after it. A member that was added counts as down until its start.
func Simulate(c Cluster, steps []Step) ([]After, error) {
	if s := c.State(); !s.CanCommit() {
		return nil, &Refusal{Index: -1, Rule: fmt.Sprintf("the cluster has no quorum (%s)", s), Safe: survivor}
	}
	c.Members = slices.Clone(c.Members)
	var out []After
	for i, step := range steps {
		if r := c.step(step); r != nil {
			r.Index = i
			return out, r
		}
		s := c.State()
		out = append(out, After{Step: step, State: s, Warning: s.Warning()})
	}
	return out, nil
}

// step changes the cluster, or says why not.
func (c *Cluster) step(s Step) *Refusal {
	if r := c.sane(s); r != nil {
		return r
	}
	if why := c.asks(s); why != "" {
		return &Refusal{Rule: "etcd would refuse to " + string(s.Kind) + ": " + why, Safe: repairFirst}
	}
	next := Cluster{Members: slices.Clone(c.Members), Rules: c.Rules}
	next.apply(s)
	if st := next.State(); !st.CanCommit() {
		r := &Refusal{Rule: fmt.Sprintf("to %s would leave the cluster unable to commit (%s)", s.Kind, st), Safe: repairFirst}
		if s.Kind == AddVoter {
			r.Safe = "add it as a learner, and promote it when it has caught up"
		}
		return r
	}
	*c = next
	return nil
}

// sane refuses steps that make no sense for the members that there are.
func (c *Cluster) sane(s Step) *Refusal {
	i := c.index(s.ID)
	adding := s.Kind == AddLearner || s.Kind == AddVoter
	switch {
	case adding && i >= 0:
		return &Refusal{Rule: fmt.Sprintf("member %x is there already", s.ID), Safe: "look at the members again: the plan is outdated"}
	case adding && slices.ContainsFunc(c.Members, func(m Member) bool { return s.Name != "" && m.Name == s.Name }):
		return &Refusal{Rule: fmt.Sprintf("a member named %s is there already", s.Name), Safe: "replace that member, or choose another name"}
	case adding:
		return nil
	case i < 0:
		return &Refusal{Rule: fmt.Sprintf("there is no member %x", s.ID), Safe: "look at the members again: the plan is outdated"}
	case s.Kind == Promote && !c.Members[i].Learner:
		return &Refusal{Rule: fmt.Sprintf("member %x is a voter already", s.ID), Safe: "look at the members again: the plan is outdated"}
	case s.Kind == Promote && !c.Members[i].Up:
		return &Refusal{Rule: fmt.Sprintf("learner %x is not up: as a voter it would only raise the quorum", s.ID), Safe: "start it and let it catch up, or remove it"}
	case s.Kind == Promote && !c.allUp():
		return &Refusal{Rule: "another voter is down, and a further voter raises the quorum", Safe: repairFirst}
	}
	return nil
}

func (c *Cluster) allUp() bool {
	return !slices.ContainsFunc(c.Members, func(m Member) bool { return !m.Learner && !m.Up })
}

func (c *Cluster) apply(s Step) {
	i := c.index(s.ID)
	switch s.Kind {
	case AddLearner, AddVoter:
		c.Members = append(c.Members, Member{ID: s.ID, Learner: s.Kind == AddLearner})
	case Start:
		c.Members[i].Up = true
		if c.Members[i].Name == "" {
			c.Members[i].Name = s.Name
		}
	case Stop:
		c.Members[i].Up = false
	case Promote:
		c.Members[i].Learner = false
	case Remove:
		c.Members = slices.Delete(c.Members, i, i+1)
	}
}

func (c *Cluster) index(id uint64) int {
	return slices.IndexFunc(c.Members, func(m Member) bool { return m.ID == id })
}
