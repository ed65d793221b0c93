package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-steward/internal/fail"
)

// RollbackWithout is Rollback when machines of other parties are gone for good: their parts are taken over and left as they are. Nothing of them is undone, and
// that is what the state says of each of their steps. So this party need not wait for anybody who will never come. It is refused where Rollback is, and
// while such a machine is still at work.
func (r *Runner) RollbackWithout(ctx context.Context, p *Plan, party string, gone []string, reason string) (*State, error) {
	if err := readable(reason); err != nil || strings.TrimSpace(reason) == "" {
		return nil, fail.New(fail.Usage, errors.Join(errors.New("a part of a plan is left as it is for a reason that can be read later"), err), "--force REASON")
	}
	if slices.Contains(gone, party) {
		return nil, fail.New(fail.Usage, fmt.Errorf("party %s cannot be both rolled back and left as it is", party), "name the party whose machine is gone")
	}
	if err := r.mayTurnBack(ctx, p, party); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runs := []Runner{*r}
	parties := append([]string{party}, gone...)
	for range gone {
		other := *r
		other.TakeOver, other.leaves = true, cut(reason, maxError/4)
		runs = append(runs, other)
	}
	errs := make([]error, len(runs))
	var wait sync.WaitGroup
	for i := range runs { // each waits for the steps of the others
		wait.Go(func() {
			if _, errs[i] = runs[i].Rollback(ctx, p, parties[i]); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	wait.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil && context.Cause(ctx) == err }); i >= 0 { //nolint:errorlint // the very error
		return nil, errs[i]
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	st, _, err := readState(ctx, r.Board, p)
	return st, err
}

// mayTurnBack is whether a party can be rolled back here at all: before anything is left as it is.
func (r *Runner) mayTurnBack(ctx context.Context, p *Plan, party string) error {
	st, _, err := readState(ctx, r.Board, p)
	if err == nil && st.Parties[party] != nil {
		err = st.claim(p, party, r.Machine, r.TakeOver, now())
	}
	if err == nil {
		err = st.rollBack(p, r.Machine, now()) // of a copy
	}
	return err
}

// leave marks a party as one that is left as it is. One that this machine executes can be undone here.
func (s *State) leave(p *Plan, party string, m Machine, reason string, now time.Time) error {
	have := s.Parties[party]
	switch {
	case have.Machine == m && have.Left != "":
		return nil
	case !slices.ContainsFunc(p.Of(party), func(step Step) bool { mark := s.mark(step.Name); return mark != "" && mark != Undone }):
		return nil // there is nothing to leave
	case have.Machine == m:
		return fail.Refused(fmt.Errorf("party %s of plan %s is executed on this machine", party, p.ID), fmt.Sprintf("undo it: steward plan rollback %s --party %s", p.ID, party))
	}
	gone := have.Machine
	if err := s.claim(p, party, m, true, now); err != nil {
		return err
	}
	s.Parties[party].Left = reason
	s.event(now, m, "what %s has begun on %s is left as it is: %s", party, gone.Host, reason)
	return nil
}
