package membership

import (
	"context"
	"errors"
	"fmt"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// newOnly undoes what was done on the new machine, and refuses on a machine whose etcd has the data of another member: the new machine's part was taken over
// there, and undoing it would stop that member.
func (s *Site) newOnly(undo func(context.Context, *plan.Task) error) func(context.Context, *plan.Task) error {
	return func(ctx context.Context, t *plan.Task) error {
		b, err := BasisOf(*t.Plan)
		if err != nil {
			return err
		}
		if h := s.Host; h != nil {
			if err := h.notAnother(b); err != nil {
				return fail.Refused(err, fmt.Sprintf("undo it on its own machine; if that is gone for good: steward plan rollback %s --party %s --without %s --force REASON", t.Plan.ID, Operator, t.Step.Party))
			}
		}
		return undo(ctx, t)
	}
}

// notAnother is an error when this machine's etcd is a member that was there before the plan, and stays.
func (h *Host) notAnother(b Basis) error {
	e, err := h.etcd()
	if err != nil || e == nil {
		return nil //nolint:nilerr // which etcd is meant, undoing asks itself
	}
	id, err := h.Machine.Whose(e)
	if errors.Is(err, host.ErrNoIdentity) {
		return nil
	} else if err != nil {
		return err
	}
	for _, m := range b.Members {
		if m.ID == ID(id.Member) && b.ClusterID == ID(id.Cluster) && m.ID != b.Removes && !m.Learner {
			return fmt.Errorf("the etcd of this machine (%s) is the member %s, and not the new one", e.Name, m)
		}
	}
	return nil
}
