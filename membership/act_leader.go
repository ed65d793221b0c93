package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// MoveLeader moves the leadership to a member, or to the best one when none is named. It returns who leads then. Nothing else is changed, so that it needs no plan.
func (s *Site) MoveLeader(ctx context.Context, to string, say func(format string, a ...any)) (Spec, error) {
	c, err := s.at(ctx, s.Access.Endpoints)
	if err != nil {
		return Spec{}, err
	}
	if c.Leader == 0 {
		return Spec{}, refuse(c.led(scope{}), "")
	}
	var target ID
	if to != "" {
		m, err := c.Find(to)
		if err != nil {
			return Spec{}, err
		}
		if target = m.ID; target == c.Leader {
			say("%s leads already", m.Spec)
			return m.Spec, nil
		}
	}
	if err := s.handOver(ctx, say, c, c.Leader, target); err != nil {
		return Spec{}, err
	}
	after, err := s.at(ctx, s.endpointsOf(c))
	if err != nil {
		return Spec{}, err
	}
	leader, _ := after.Member(after.Leader)
	if target != 0 && leader.ID != target {
		return leader.Spec, fail.New(fail.Failed, fmt.Errorf("%s was elected instead", leader.Spec), "type the same command again")
	}
	return leader.Spec, nil
}

// moveLeaderAway is asked also when another leads.
func (s *Site) moveLeaderAway(ctx context.Context, t *plan.Task) (any, error) {
	c, b, err := s.look(ctx, t.Plan)
	if err != nil {
		return nil, err
	}
	if c.Leader != b.Removes || len(c.Members) < 2 {
		return nil, nil
	}
	if err := s.handOver(ctx, t.Say, c, b.Removes, 0); err != nil {
		return nil, err
	}
	if c, _, err = s.look(ctx, t.Plan); err != nil {
		return nil, err
	}
	return map[string]uint64{"term": c.Term()}, nil
}

// handOver moves the leadership from one member to another (0: the best), and waits until it stays there.
func (s *Site) handOver(ctx context.Context, say func(string, ...any), c *Cluster, from, to ID) error {
	target, err := c.heir(from, to)
	if err != nil {
		return err
	}
	leader, _ := c.Member(from)
	if leader.Answer == nil {
		return fail.New(fail.Failed, fmt.Errorf("the leader %s does not answer from here", leader.Spec), "run this where it can be reached")
	}
	say("move the leadership from %s to %s", leader.short(), target.short())
	err = s.ask(ctx, leader.Answer.Endpoint, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewMaintenanceClient(conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: uint64(target.ID)})
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrNotLeader) {
		return s.told(ctx, leader.Answer.Endpoint, err)
	}
	return s.settled(ctx, say, s.endpointsOf(c), from)
}

// heir is the voter that shall lead: the one that is asked for, or the one that has applied most.
func (c *Cluster) heir(from, to ID) (Member, error) {
	var best Member
	for _, m := range c.Members {
		switch {
		case m.Learner || m.ID == from || !c.Up(m) || to != 0 && m.ID != to:
		case m.Answer.Index > m.Answer.Applied+lagMax:
		case best.Answer == nil || m.Answer.Applied > best.Answer.Applied:
			best = m
		}
	}
	if best.Answer == nil {
		if m, ok := c.Member(to); ok {
			return best, refuse([]Gate{{Rule: "only a healthy voter that has caught up can lead", Evidence: m.String() + " is none", Safe: "name another one: steward member list"}}, "")
		}
		return best, refuse([]Gate{{Rule: "only a healthy voter that has caught up can lead", Evidence: "there is no other one", Safe: "bring another voter back, or add one"}}, "")
	}
	return best, nil
}

// settled waits until all that answer follow one leader, which is not `gone`, for a while.
func (s *Site) settled(ctx context.Context, say func(string, ...any), endpoints []string, gone ID) error {
	pace := s.Pace.filled()
	var leader ID
	var since time.Time
	return s.until(ctx, say, pace.Start, "wait for a stable leader", func() (bool, error) {
		c, err := s.at(ctx, endpoints)
		if err != nil {
			return false, err
		}
		for _, m := range c.Members {
			if m.Answer != nil && !c.Up(m) && m.ID != gone {
				since = time.Time{}
				return false, fmt.Errorf("%s does not follow the leader", m.Spec)
			}
		}
		switch {
		case c.Leader == 0 || c.Leader == gone:
			since = time.Time{}
			return false, errors.New("there is no other leader yet")
		case c.Leader != leader || since.IsZero():
			leader, since = c.Leader, time.Now()
		case time.Since(since) >= pace.Settle:
			return true, nil
		}
		return false, fmt.Errorf("%s leads only since %v", leader, time.Since(since).Round(time.Second))
	})
}

// endpointsOf is where a cluster that was read is read again.
func (s *Site) endpointsOf(c *Cluster) []string {
	all := slices.Clone(s.Access.Endpoints)
	for _, m := range c.Members {
		if m.Answer != nil && !slices.Contains(all, m.Answer.Endpoint) {
			all = append(all, m.Answer.Endpoint)
		}
	}
	return all
}
