package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"etcd-steward/internal/fail"
)

// The bounds of a state. All results together stay far below what a document on the board may have, also when they are indented.
const (
	maxResult         = 4 << 10
	maxResultIndented = 16 << 10
	maxState          = 4 << 20
)

// Phase is how a plan as a whole stands.
type Phase string

// The phases. A plan that was stored and never opened has none.
const (
	Open        Phase = "open"
	Done        Phase = "done"         // all steps that must be done are
	RollingBack Phase = "rolling back" // nothing is begun any more; every party undoes what it has begun
	RolledBack  Phase = "rolled back"  // all that was begun is undone
	Abandoned   Phase = "abandoned"    // a person has given it up; what was begun stays as it is
)

// Finished is whether another plan may be opened.
func (p Phase) Finished() bool { return p == Done || p == RolledBack || p == Abandoned }

// Mark is how a step stands.
type Mark string

// The marks, in the order in which a step goes through them. A step that was not begun has none.
const (
	Begun   Mark = "begun"
	Failed  Mark = "failed" // it was begun, and may be again
	DoneOK  Mark = "done"
	Undoing Mark = "undoing"
	Undone  Mark = "undone"
)

// Machine is one machine, as it says of itself.
type Machine struct {
	ID   string `json:"id"`   // systemd's machine ID
	Host string `json:"host"` // its host name
}

// State is what has become of a plan: one document on the board, which all its hosts move on by compare-and-swap. So a step is begun only if, at that very
// moment, all that it waits for is done, the plan is open, and the party is this machine's.
type State struct {
	Plan    string                 `json:"plan"`
	Nonce   string                 `json:"nonce"` // drawn at every write
	Phase   Phase                  `json:"phase"`
	Changed time.Time              `json:"changed"`
	Parties map[string]*PartyState `json:"parties,omitempty"`
	Steps   map[string]*StepState  `json:"steps,omitempty"`
	Events  []Event                `json:"events,omitempty"`
}

// PartyState is who executes a party's part.
type PartyState struct {
	Machine Machine   `json:"machine"`
	Claimed time.Time `json:"claimed"`
	// Stopped is when its last run ended without being done, and why; both are empty while it runs, or after it was killed.
	Stopped time.Time `json:"stopped,omitzero"`
	Why     string    `json:"why,omitempty"`
	// Left is why nothing of this part is undone: its machine is gone for good.
	Left string `json:"left,omitempty"`
}

// StepState is what has become of a step.
type StepState struct {
	Mark   Mark            `json:"mark,omitempty"`
	Host   string          `json:"host,omitempty"`
	Began  time.Time       `json:"began,omitzero"`
	Ended  time.Time       `json:"ended,omitzero"`
	Undo   time.Time       `json:"undo,omitzero"`   // when undoing began
	Undone time.Time       `json:"undone,omitzero"` // when it was undone
	Left   bool            `json:"left,omitempty"`  // undone is what it counts as: it was left as it is
	Error  string          `json:"error,omitempty"` // of the last attempt to do or to undo it
	Result json.RawMessage `json:"result,omitempty"`
}

// Event is something that happened to the plan beside its steps: opened, claimed, taken over, rolled back, abandoned.
type Event struct {
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	What string    `json:"what"`
}

// Encode is the state as it is stored: one JSON object. It is checked against its plan first.
func (s *State) Encode(p *Plan) ([]byte, error) {
	if err := s.Validate(p); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// DecodeState reads a state of a plan and checks that the plan can have come there.
func DecodeState(p *Plan, doc []byte) (*State, error) {
	if len(doc) > maxState {
		return nil, fmt.Errorf("read the state of plan %s: %d bytes, more than it may have", p.ID, len(doc))
	}
	var s State
	err := strictly(doc, &s)
	if err == nil {
		err = s.Validate(p)
	}
	if err != nil {
		return nil, fail.Refused(fmt.Errorf("read the state of plan %s: %w", p.ID, err),
			fmt.Sprintf("nothing was done; look at what is on the hosts, then: steward plan close %s --force REASON", p.ID))
	}
	if s.Parties == nil {
		s.Parties = map[string]*PartyState{}
	}
	if s.Steps == nil {
		s.Steps = map[string]*StepState{}
	}
	return &s, nil
}

// Validate is whether the plan can have come to this state: no step was begun before those that it waits for were done, none was undone before those that
// wait for it. It is asked on every write and every read: a state of another plan, or a mix of two, is not acted on.
func (s *State) Validate(p *Plan) error {
	switch {
	case s.Plan != p.ID:
		return fmt.Errorf("it is the state of plan %.80q", s.Plan)
	case len(s.Events) > maxEvents:
		return fmt.Errorf("it has %d events, more than %d", len(s.Events), maxEvents)
	}
	parties := p.Parties()
	for name, party := range s.Parties {
		if !slices.Contains(parties, name) || party == nil {
			return fmt.Errorf("it has a party %.80q, which the plan has not", name)
		}
	}
	for name, st := range s.Steps {
		step, ok := p.Step(name)
		switch {
		case !ok || st == nil:
			return fmt.Errorf("it has a step %.80q, which the plan has not", name)
		case s.Parties[step.Party] == nil:
			return fmt.Errorf("step %q is %.20q, and nobody executes party %s", name, st.Mark, step.Party)
		}
		if err := s.validateStep(p, step, st); err != nil {
			return err
		}
	}
	return s.validatePhase(p)
}

func (s *State) validateStep(p *Plan, step Step, st *StepState) error {
	if !slices.Contains([]Mark{Begun, Failed, DoneOK, Undoing, Undone}, st.Mark) {
		return fmt.Errorf("step %q is %.20q, which means nothing", step.Name, st.Mark)
	}
	if undo := st.Mark == Undoing || st.Mark == Undone; undo && (s.Phase == Open || s.Phase == Done) {
		return fmt.Errorf("step %q is %s, and the plan %s", step.Name, st.Mark, s.Phase)
	} else if undo && step.Final {
		return fmt.Errorf("step %q is %s, and there is no way back from it", step.Name, st.Mark)
	}
	if st.Left && st.Mark != Undone {
		return fmt.Errorf("step %q is %s, and was left as it is", step.Name, st.Mark)
	}
	if len(st.Result) > maxResult {
		return fmt.Errorf("step %q has a result of %d bytes, more than %d", step.Name, len(st.Result), maxResult)
	}
	for _, b := range p.Before(step.Name) {
		mark := s.mark(b)
		if mark != DoneOK && (st.Mark != Undone || mark != Undoing && mark != Undone) {
			return fmt.Errorf("step %q is %s, and step %q, which comes before it, is %q", step.Name, st.Mark, b, mark)
		}
	}
	return nil
}

func (s *State) validatePhase(p *Plan) error {
	switch s.Phase {
	case Open, Done:
		if s.complete(p) != (s.Phase == Done) {
			return fmt.Errorf("the plan is %s, and its steps say otherwise", s.Phase)
		}
	case RollingBack, RolledBack:
		all := true
		for _, st := range s.Steps {
			all = all && st.Mark == Undone
		}
		if all != (s.Phase == RolledBack) {
			return fmt.Errorf("the plan is %s, and its steps say otherwise", s.Phase)
		}
	case Abandoned:
	default:
		return fmt.Errorf("the plan is %.20q, which means nothing", s.Phase)
	}
	return nil
}
