package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-steward/internal/fail"
)

// Rollback ends the plan: nothing more is begun by any party, and what this party has begun is undone, the last step first. It is refused (fail.Unsafe) once a
// step marked Final was begun anywhere. The same call after a crash goes on. A step is undone when what came after it is: that of other parties is waited for.
// The plan is rolled back when all parties have undone theirs; the state that is returned says whether it is.
func (r *Runner) Rollback(ctx context.Context, p *Plan, party string) (*State, error) {
	var st *State
	err := r.work(ctx, p, party, func(ctx context.Context, w *work) (err error) {
		if st, err = r.turnBack(ctx, w); err != nil {
			return err
		}
		if err := w.reconcile(st); err != nil {
			return err
		}
		for _, step := range slices.Backward(p.Of(party)) {
			if mark := st.mark(step.Name); mark == "" || mark == Undone {
				continue
			}
			if st, err = w.undo(ctx, step); err != nil {
				return err
			}
		}
		return nil
	})
	return st, err
}

// turnBack marks the plan as being rolled back.
func (r *Runner) turnBack(ctx context.Context, w *work) (*State, error) {
	p := w.plan
	if err := r.opened(ctx, p, w.party); err != nil {
		return nil, err
	}
	if err := w.forget(ctx); err != nil {
		return nil, err
	}
	return w.moved(ctx, "roll back", func(s *State) error {
		switch {
		case s.Parties[w.party] == nil: // who has begun nothing need not claim anything now
		case r.leaves != "":
			if err := s.leave(p, w.party, r.Machine, r.leaves, now()); err != nil {
				return err
			}
		default:
			if err := s.claim(p, w.party, r.Machine, r.TakeOver, now()); err != nil {
				return err
			}
		}
		return s.rollBack(p, r.Machine, now())
	})
}

// undo waits until a step may be undone, and undoes it.
func (w *work) undo(ctx context.Context, step Step) (*State, error) {
	st, err := w.await(ctx, step, func(s *State) error { return s.readyToUndo(w.plan, step, w.Machine) })
	if err != nil {
		return st, err
	}
	if w.journal.Mark(step.Name) == Undone { // undone, and stopped before it could say so
		return w.moved(ctx, "undone "+step.Name, func(s *State) error { return s.undone(w.plan, step, w.Machine, now()) })
	}
	if err := w.log(Undoing, step.Name, nil, ""); err != nil {
		return st, err
	}
	if st, err = w.moved(ctx, "undoing "+step.Name, func(s *State) error { return s.undo(w.plan, step, w.Machine, now()) }); err != nil {
		return st, err
	}
	undo := w.Actions[step.Action].Undo
	switch {
	case st.Parties[step.Party].Left != "":
		w.say("%s: left as it is", step.Name)
	case undo != nil:
		w.say("%s: undoing", step.Name)
		err = w.around("undo "+step.Name, func() error { return undo(ctx, w.task(step, st, true)) })
	}
	if err != nil {
		return w.undoFailed(ctx, step, err)
	}
	rctx, cancel := record(ctx)
	defer cancel()
	if err := w.log(Undone, step.Name, nil, ""); err != nil {
		return st, err
	}
	st, err = w.moved(rctx, "undone "+step.Name, func(s *State) error { return s.undone(w.plan, step, w.Machine, now()) })
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return st, err
}

func (w *work) undoFailed(ctx context.Context, step Step, cause error) (*State, error) {
	err := fail.Hint(fmt.Errorf("undo step %q of plan %s: %w", step.Name, w.plan.ID, cause), orElse(fail.HintOf(cause),
		fmt.Sprintf("mend it, then: steward plan rollback %s --party %s", w.plan.ID, w.party)))
	if ctx.Err() != nil {
		return nil, err
	}
	_, berr := w.moved(ctx, "undo failed "+step.Name, func(s *State) error { return s.undoFailed(w.plan, step, w.Machine, cause.Error()) })
	return nil, errors.Join(err, berr)
}

// readyToUndo is whether a step may be undone; it changes nothing.
func (s *State) readyToUndo(p *Plan, step Step, m Machine) error {
	if err := s.mine(p, step.Party, m); err != nil {
		return err
	}
	if s.Phase != RollingBack {
		return fail.Refused(fmt.Errorf("plan %s is %s%s", p.ID, s.Phase, s.lastEvent(string(s.Phase))), "steward plan status "+p.ID)
	}
	if left := s.unfinished(p, step.Name); len(left) > 0 {
		return &waiting{left}
	}
	return nil
}
