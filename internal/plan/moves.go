package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/fail"
)

// The moves of a state. Each is pure, and made twice it changes nothing more: a lost answer is followed by the same move on what is there then.

const (
	maxEvents = 200
	maxError  = 1 << 10
)

// waiting means that a move has to wait for steps of others.
type waiting struct{ steps []string }

func (w *waiting) Error() string { return "waiting for " + strings.Join(w.steps, ", ") }

// ErrClaimed means that another machine executes the party's part.
var ErrClaimed = errors.New("another machine executes this part of the plan")

func newState(p *Plan, now time.Time) *State {
	return &State{Plan: p.ID, Phase: Open, Changed: now, Parties: map[string]*PartyState{}, Steps: map[string]*StepState{}}
}

func (s *State) mark(step string) Mark {
	if st := s.Steps[step]; st != nil {
		return st.Mark
	}
	return ""
}

func (s *State) event(now time.Time, m Machine, format string, a ...any) {
	e := Event{At: now, Host: m.Host, What: cut(fmt.Sprintf(format, a...), maxTextRune)}
	if len(s.Events) >= maxEvents { // the first one says who opened it
		s.Events = slices.Delete(s.Events, 1, len(s.Events)-maxEvents+2)
	}
	s.Events = append(s.Events, e)
}

// cut shortens a text to at most n runes of valid UTF-8.
func cut(text string, n int) string {
	runes := []rune(strings.ToValidUTF8(text, "?"))
	if len(runes) > n {
		runes = append(runes[:n-1], '…')
	}
	return string(runes)
}

// claim makes a party this machine's.
func (s *State) claim(p *Plan, party string, m Machine, takeOver bool, now time.Time) error {
	have := s.Parties[party]
	switch {
	case have == nil:
		s.Parties[party] = &PartyState{Machine: m, Claimed: now}
		s.event(now, m, "%s is executed on %s", party, m.Host)
	case have.Machine == m:
		have.Stopped, have.Why = time.Time{}, ""
	case takeOver:
		s.event(now, m, "%s is taken over from %s by %s", party, have.Machine.Host, m.Host)
		s.Parties[party] = &PartyState{Machine: m, Claimed: now}
	default:
		return fail.Refused(fmt.Errorf("party %s of plan %s belongs to %s, since %s: %w", party, p.ID, describe(have.Machine, m), have.Claimed.UTC().Format(time.RFC3339), ErrClaimed),
			"do it there; if that machine is gone for good, add --take-over")
	}
	return nil
}

// describe names a machine so that it can be told from this one.
func describe(m, here Machine) string {
	if m.Host == here.Host {
		return fmt.Sprintf("a machine that is also called %s (machine ID %s)", m.Host, m.ID)
	}
	return m.Host
}

// mine is whether the party is still this machine's.
func (s *State) mine(p *Plan, party string, m Machine) error {
	if have := s.Parties[party]; have == nil || have.Machine != m {
		host := "nobody"
		if have != nil {
			host = describe(have.Machine, m)
		}
		return fail.Refused(fmt.Errorf("party %s of plan %s was taken over by %s meanwhile: %w", party, p.ID, host, ErrClaimed), "steward plan status "+p.ID)
	}
	return nil
}

// runnable is whether steps of the party may be begun.
func (s *State) runnable(p *Plan, party string) error {
	switch s.Phase {
	case Open, Done:
		return nil
	case RollingBack:
		return fail.Refused(fmt.Errorf("plan %s is being rolled back%s", p.ID, s.lastEvent("rolled back")), fmt.Sprintf("steward plan rollback %s --party %s", p.ID, party))
	}
	return fail.Refused(fmt.Errorf("plan %s is %s%s", p.ID, s.Phase, s.lastEvent(string(s.Phase))), "make a new one")
}

// lastEvent is the newest event with that word in it, as ": text", or "".
func (s *State) lastEvent(word string) string {
	for _, e := range slices.Backward(s.Events) {
		if strings.Contains(e.What, word) {
			return ": " + e.What
		}
	}
	return ""
}

// missing are the steps that are not done yet of those that come directly before one.
func (s *State) missing(p *Plan, step string) []string {
	return slices.DeleteFunc(p.Before(step), func(b string) bool { return s.mark(b) == DoneOK })
}

// begin begins a step. A [waiting] error names the steps that are not done.
func (s *State) begin(p *Plan, step Step, m Machine, now time.Time) error {
	if err := s.runnable(p, step.Party); err != nil {
		return err
	}
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	if s.Phase == Done && !step.Optional {
		return fmt.Errorf("begin step %q: plan %s is done", step.Name, p.ID)
	}
	if missing := s.missing(p, step.Name); len(missing) > 0 {
		return &waiting{missing}
	}
	switch st := s.Steps[step.Name]; {
	case st == nil:
		s.Steps[step.Name] = &StepState{Mark: Begun, Host: m.Host, Began: now}
	case st.Mark == Failed:
		st.Mark, st.Host, st.Error, st.Ended = Begun, m.Host, "", time.Time{}
	case st.Mark == Begun:
		st.Host = m.Host
	default:
		return fmt.Errorf("begin step %q of plan %s: it is %s already", step.Name, p.ID, st.Mark)
	}
	return nil
}

// begun is a step's state when it was begun and not undone.
func (s *State) begun(p *Plan, step Step, m Machine) (*StepState, error) {
	if err := s.mine(p, step.Party, m); err != nil {
		return nil, err
	}
	st := s.Steps[step.Name]
	if st == nil || st.Mark == Undoing || st.Mark == Undone {
		return nil, fmt.Errorf("end step %q of plan %s: it is %q", step.Name, p.ID, s.mark(step.Name))
	}
	return st, nil
}

// finish says that a step is done. That is true also while the plan is rolled back or given up.
func (s *State) finish(p *Plan, step Step, m Machine, result json.RawMessage, now time.Time) error {
	st, err := s.begun(p, step, m)
	if err != nil || st.Mark == DoneOK {
		return err
	}
	st.Mark, st.Ended, st.Error, st.Result = DoneOK, now, "", result
	if s.Phase == Open && s.complete(p) {
		s.Phase = Done
		s.event(now, m, "done")
	}
	return nil
}

// complete is whether all that must be done is.
func (s *State) complete(p *Plan) bool {
	return !slices.ContainsFunc(p.Steps, func(step Step) bool { return !step.Optional && s.mark(step.Name) != DoneOK })
}

// failed says that a step was tried and is not done.
func (s *State) failed(p *Plan, step Step, m Machine, why string, now time.Time) error {
	st, err := s.begun(p, step, m)
	if err != nil || st.Mark == DoneOK {
		return err
	}
	st.Mark, st.Ended, st.Error = Failed, now, cut(why, maxError/4)
	return nil
}

// rollBack forbids that anything more is begun.
func (s *State) rollBack(p *Plan, m Machine, now time.Time) error {
	switch s.Phase {
	case RollingBack, RolledBack:
		return nil
	case Done:
		return fail.Refused(fmt.Errorf("plan %s is done: there is no way back by it", p.ID), "make a plan that changes what it did")
	case Abandoned:
		return fail.Refused(fmt.Errorf("plan %s was given up%s", p.ID, s.lastEvent(string(Abandoned))), "what it had begun is shown by: steward plan status "+p.ID)
	}
	for _, step := range p.Steps {
		if mark := s.mark(step.Name); step.Final && mark != "" {
			return fail.Refused(fmt.Errorf("plan %s can only go forward: step %q, from which there is no way back, is %s", p.ID, step.Name, mark),
				fmt.Sprintf("go on with: steward plan run %s --party %s", p.ID, step.Party))
		}
	}
	s.Phase = RollingBack
	s.event(now, m, "rolled back by %s", m.Host)
	s.settle(now, m)
	return nil
}

// settle ends a rollback when nothing is left to be undone.
func (s *State) settle(now time.Time, m Machine) {
	for _, st := range s.Steps {
		if st.Mark != Undone {
			return
		}
	}
	s.Phase = RolledBack
	s.event(now, m, "all that was begun is undone")
}

// unfinished are the steps that must be undone before one is: those that wait for it and were begun.
func (s *State) unfinished(p *Plan, step string) []string {
	return slices.DeleteFunc(p.Next(step), func(n string) bool { return s.mark(n) == "" || s.mark(n) == Undone })
}

// undo begins to undo a step.
func (s *State) undo(p *Plan, step Step, m Machine, now time.Time) error {
	if s.Phase != RollingBack {
		return fmt.Errorf("undo step %q: plan %s is %s", step.Name, p.ID, s.Phase)
	}
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	st := s.Steps[step.Name]
	if st == nil || st.Mark == Undone {
		return nil
	}
	if left := s.unfinished(p, step.Name); len(left) > 0 {
		return &waiting{left}
	}
	if st.Mark != Undoing {
		st.Mark, st.Undo, st.Error = Undoing, now, ""
	}
	st.Error = ""
	return nil
}

// undone says that a step is undone.
func (s *State) undone(p *Plan, step Step, m Machine, now time.Time) error {
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	st := s.Steps[step.Name]
	if st == nil || st.Mark == Undone {
		return nil
	}
	if st.Mark != Undoing {
		return fmt.Errorf("step %q of plan %s is %s, and not being undone", step.Name, p.ID, st.Mark)
	}
	st.Mark, st.Undone, st.Error, st.Left = Undone, now, "", s.Parties[step.Party].Left != ""
	if s.Phase == RollingBack {
		s.settle(now, m)
	}
	return nil
}

// undoFailed says why a step could not be undone.
func (s *State) undoFailed(p *Plan, step Step, m Machine, why string) error {
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	if st := s.Steps[step.Name]; st != nil && st.Mark == Undoing {
		st.Error = cut(why, maxError/4)
	}
	return nil
}

// stop says that a run has ended before its part was done.
func (s *State) stop(party string, m Machine, why string, now time.Time) error {
	if have := s.Parties[party]; have != nil && have.Machine == m {
		have.Stopped, have.Why = now, cut(why, maxError/4)
	}
	return nil
}

// abandon gives the plan up, as it is.
func (s *State) abandon(p *Plan, m Machine, reason string, now time.Time) error {
	switch {
	case s.Phase == Abandoned:
		return nil
	case s.Phase.Finished():
		return fail.Refused(fmt.Errorf("plan %s is %s: there is nothing to give up", p.ID, s.Phase), "")
	}
	s.Phase = Abandoned
	s.event(now, m, "abandoned by %s: %s", m.Host, reason)
	return nil
}
