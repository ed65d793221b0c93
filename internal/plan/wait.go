package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/fail"
)

// sayAgain is how often a wait is mentioned although nothing has changed.
const sayAgain = time.Minute

// readyToBegin is whether a step may begin; it changes nothing.
func (s *State) readyToBegin(p *Plan, step Step, m Machine) error {
	if err := s.runnable(p, step.Party); err != nil {
		return err
	}
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	missing := s.missing(p, step.Name)
	if len(missing) == 0 {
		return nil
	}
	if err := s.hopeless(p, step.Name); err != nil {
		return err
	}
	return &waiting{missing}
}

// hopeless is why waiting for the steps before one would be in vain: one of them has failed.
func (s *State) hopeless(p *Plan, step string) error {
	before := p.allBefore(step)
	for _, b := range p.Steps {
		st := s.Steps[b.Name]
		if st == nil || st.Mark != Failed || !before[b.Name] {
			continue
		}
		return fail.New(fail.Failed, fmt.Errorf("step %q of plan %s, which comes before %q, failed on %s: %s", b.Name, p.ID, step, st.Host, st.Error),
			fmt.Sprintf("mend it and go on there with: steward plan run %s --party %s, then here; or go back: steward plan rollback %s", p.ID, b.Party, p.ID))
	}
	return nil
}

// await looks at the board until check has nothing against it. An error of check that is not waiting ends it.
func (w *work) await(ctx context.Context, step Step, check func(*State) error) (*State, error) {
	least := w.Poll
	if least == 0 {
		least = pollLeast
	}
	var said string
	var at time.Time
	for wait := least; ; wait = min(wait*3/2, least*10, pollMost) {
		var st *State
		err := w.patiently(ctx, func() (err error) {
			st, _, err = readState(ctx, w.Board, w.plan)
			return err
		})
		if err != nil {
			return nil, w.gaveUp(ctx, step, said, err)
		}
		err = check(st)
		var left *waiting
		if !errors.As(err, &left) {
			return st, err
		}
		if text := w.plan.waitText(st, left.steps); text != said || time.Since(at) > sayAgain {
			if text != said {
				wait = least
			}
			w.say("%s: waiting %s", step.Name, text)
			said, at = text, time.Now()
		}
		if err := pause(ctx, wait); err != nil {
			return nil, w.gaveUp(ctx, step, said, err)
		}
	}
}

// gaveUp says for what a wait that was broken off had been waiting.
func (w *work) gaveUp(ctx context.Context, step Step, said string, err error) error {
	if ctx.Err() == nil || said == "" {
		return err
	}
	return fail.Hint(fmt.Errorf("step %q was still waiting %s: %w", step.Name, said, err), fmt.Sprintf("go on with: steward plan run %s --party %s", w.plan.ID, w.party))
}

// waitText says for whom and for what one waits: "for m4 to start etcd as a learner".
func (p *Plan) waitText(st *State, steps []string) string {
	var all []string
	for _, name := range steps {
		step, _ := p.Step(name)
		who := step.Party
		if claimed := st.Parties[step.Party]; claimed == nil {
			who += fmt.Sprintf(" (nobody executes it yet: steward plan run %s --party %s)", p.ID, step.Party)
		} else if claimed.Machine.Host != step.Party {
			who += " on " + claimed.Machine.Host
		}
		if st.Phase == RollingBack {
			all = append(all, fmt.Sprintf("for %s to undo %s", who, name))
			continue
		}
		all = append(all, fmt.Sprintf("for %s: %s", who, orElse(step.Text, name)))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
