package plan

import (
	"time"
)

// Status is how a plan stands, for people and scripts: all hosts in one view.
type Status struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`
	Title    string        `json:"title"`
	Cluster  string        `json:"cluster"`
	Made     time.Time     `json:"made"`
	MadeBy   string        `json:"made_by"`
	Phase    Phase         `json:"phase"` // "" for one that was never opened
	Finished bool          `json:"finished"`
	Changed  time.Time     `json:"changed,omitzero"`
	Parties  []PartyStatus `json:"parties"`
	Events   []Event       `json:"events,omitempty"`
	// RollbackUntil is the first step from whose beginning on there is no way back, "" if there is always one; RollbackOver, that it was begun.
	RollbackUntil string `json:"rollback_until,omitempty"`
	RollbackOver  bool   `json:"rollback_over"`
}

// PartyStatus is how one party's part stands.
type PartyStatus struct {
	Party   string       `json:"party"`
	Machine *Machine     `json:"machine,omitempty"` // nil: nobody executes it yet
	Claimed time.Time    `json:"claimed,omitzero"`
	Stopped time.Time    `json:"stopped,omitzero"` // its last run ended before its part was done
	Why     string       `json:"why,omitempty"`
	Left    string       `json:"left,omitempty"` // why what it has begun was left as it is, and not undone
	Steps   []StepStatus `json:"steps"`
}

// StepStatus is how one step stands.
type StepStatus struct {
	Party    string `json:"-"` // which it is listed under
	Name     string `json:"name"`
	Text     string `json:"text"`
	Optional bool   `json:"optional,omitempty"`
	StepState
	// Waits are the steps that must be done (or, while the plan is rolled back, undone) before this one can go on.
	Waits []string `json:"waits,omitempty"`
}

// StatusOf is the status of a plan by its state.
func StatusOf(p *Plan, st *State) *Status {
	s := &Status{
		ID: p.ID, Kind: p.Kind, Title: p.Title, Cluster: p.Cluster, Made: p.Made, MadeBy: p.MadeBy,
		Phase: st.Phase, Finished: st.Phase.Finished(), Changed: st.Changed, Events: st.Events,
	}
	for _, party := range p.Parties() {
		ps := PartyStatus{Party: party}
		if have := st.Parties[party]; have != nil {
			m := have.Machine
			ps.Machine, ps.Claimed, ps.Stopped, ps.Why, ps.Left = &m, have.Claimed, have.Stopped, have.Why, have.Left
		}
		for _, step := range p.Of(party) {
			ps.Steps = append(ps.Steps, st.stepStatus(p, step))
		}
		s.Parties = append(s.Parties, ps)
	}
	for _, step := range p.Order() {
		if step.Final && s.RollbackUntil == "" {
			s.RollbackUntil = step.Name
		}
		s.RollbackOver = s.RollbackOver || step.Final && st.mark(step.Name) != ""
	}
	s.RollbackOver = s.RollbackOver || s.Phase == Done || s.Phase == Abandoned
	return s
}

func (s *State) stepStatus(p *Plan, step Step) StepStatus {
	out := StepStatus{Party: step.Party, Name: step.Name, Text: step.Text, Optional: step.Optional}
	if st := s.Steps[step.Name]; st != nil {
		out.StepState = *st
	}
	switch {
	case s.Phase == RollingBack && out.Mark != "" && out.Mark != Undone:
		out.Waits = s.unfinished(p, step.Name)
	case s.Phase == Open && out.Mark == "", s.Phase == Done && out.Mark == "":
		out.Waits = s.missing(p, step.Name)
	}
	return out
}

// Underway are the steps that were begun, to be done or undone, and of which nothing was heard since: they are going on, or whoever did them was killed.
func (s *Status) Underway() []StepStatus {
	var all []StepStatus
	for _, party := range s.Parties {
		for _, step := range party.Steps {
			if step.Mark == Begun || step.Mark == Undoing && step.Error == "" {
				all = append(all, step)
			}
		}
	}
	return all
}

// Failed are the steps whose last attempt to do or undo them failed.
func (s *Status) Failed() []StepStatus {
	var all []StepStatus
	for _, party := range s.Parties {
		for _, step := range party.Steps {
			if step.Error != "" {
				all = append(all, step)
			}
		}
	}
	return all
}
