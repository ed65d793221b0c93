package membership

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/internal/plan"
)

// update tells the cluster a member's new peer URLs.
func (s *Site) update(ctx context.Context, t *plan.Task) (any, error) {
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	return nil, s.readdressIn(ctx, t, b.Updates.PeerURLs)
}

// updateBack tells it the old ones again.
func (s *Site) updateBack(ctx context.Context, t *plan.Task) error {
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return err
	}
	for _, m := range b.Members {
		if m.ID == b.Updates.ID {
			return s.readdressIn(ctx, t, m.PeerURLs)
		}
	}
	return fmt.Errorf("plan %s does not know the member that it is about", t.Plan.ID)
}

func (s *Site) readdressIn(ctx context.Context, t *plan.Task, urls []string) error {
	return s.until(ctx, t.Say, s.Pace.filled().Add, "tell the cluster the peer URL", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return c != nil, err
		}
		m, ok := c.Member(b.Updates.ID)
		if !ok || sameURLs(m.PeerURLs, urls) {
			return true, nil // Outdated has refused when it is not there
		}
		err = s.change(ctx, c, func(ctx context.Context, cli pb.ClusterClient) error {
			_, err := cli.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: uint64(m.ID), PeerURLs: urls})
			return err
		})
		return err != nil && !passing(err), err
	})
}
