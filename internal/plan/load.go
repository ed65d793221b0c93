package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
)

// unreadableError is a plan, or a state, whose documents are there and are not what was written.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

// unreadable is an error of reading, which is about the document unless the board is away.
func unreadable(ctx context.Context, b Board, err error) error {
	if b.Away(err) || ctx.Err() != nil {
		return err
	}
	return &unreadableError{err}
}

// Load reads a plan and what has become of it.
func Load(ctx context.Context, b Board, id string) (*Plan, *State, error) {
	p, err := readPlan(ctx, b, id)
	if err != nil {
		return nil, nil, err
	}
	st, version, err := readState(ctx, b, p)
	if err != nil {
		return p, nil, err
	}
	if version == "" {
		ptr, _, err := readPointer(ctx, b)
		if err != nil {
			return p, nil, err
		}
		if ptr.Plan != id {
			st.Phase = ""
		}
	}
	return p, st, nil
}

func readPlan(ctx context.Context, b Board, id string) (*Plan, error) {
	if !idForm.MatchString(id) {
		return nil, fail.New(fail.Usage, fmt.Errorf("%.80q is no plan's ID", id), "steward plan list")
	}
	doc, version, err := b.Read(ctx, planName(id))
	if err != nil {
		return nil, unreadable(ctx, b, fmt.Errorf("read plan %s: %w", id, err))
	}
	if version == "" {
		return nil, fail.New(fail.Usage, fmt.Errorf("there is no plan %s in this cluster's repository", id), "steward plan list")
	}
	p, err := Decode(doc)
	if err == nil && p.ID != id {
		err = fail.Refused(fmt.Errorf("%w: plan %s lies under the name of plan %s", ErrTampered, p.ID, id), "nothing was done; find out who changed it")
	}
	if err != nil {
		return nil, &unreadableError{err}
	}
	return p, nil
}

// Newest is the ID of the plan that was opened last, which may be unfinished; "" when there is none.
func Newest(ctx context.Context, b Board) (string, error) {
	ptr, _, err := readPointer(ctx, b)
	return ptr.Plan, err
}

// Listed is one plan of a listing.
type Listed struct {
	*Plan
	State   *State // nil when it cannot be read
	Problem error
}

func (l Listed) unfinished() bool {
	return l.State == nil || l.State.Phase == Open || l.State.Phase == RollingBack
}

// List reads all plans: the unfinished ones first, then the newest. What cannot be read is in the list with its ID and the problem.
func List(ctx context.Context, b Board) ([]Listed, error) {
	names, err := b.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	var all []Listed
	for _, name := range names {
		id, leaf, _ := strings.Cut(name, "/")
		if leaf != planLeaf || !idForm.MatchString(id) {
			continue
		}
		p, st, err := Load(ctx, b, id)
		if err != nil && (b.Away(err) || ctx.Err() != nil) {
			return nil, err
		}
		if p == nil {
			p = &Plan{ID: id}
		}
		all = append(all, Listed{Plan: p, State: st, Problem: err})
	}
	slices.SortFunc(all, func(a, b Listed) int {
		switch {
		case a.unfinished() && !b.unfinished():
			return -1
		case b.unfinished() && !a.unfinished():
			return 1
		}
		return cmp.Or(b.Made.Compare(a.Made), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}
