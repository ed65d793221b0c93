package membership

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"etcd-steward/internal/plan"
	"etcd-steward/membership/quorum"
)

// remove removes the member that the plan is about, when it does not lead and the others can do without.
func (s *Site) remove(ctx context.Context, t *plan.Task) (any, error) {
	var was Spec
	err := s.until(ctx, t.Say, s.Pace.filled().Retry, "remove the member", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return true, err
		}
		m, ok := c.Member(b.Removes)
		if !ok {
			return true, nil
		}
		was = m.Spec
		if c, err = s.may(ctx, t.Plan, quorum.Step{Kind: quorum.Remove, ID: uint64(b.Removes)}); err != nil {
			return false, err
		}
		if c.Leader == m.ID && len(c.Members) > 1 {
			if err := s.handOver(ctx, t.Say, c, m.ID, 0); err != nil {
				return false, err
			}
			return false, errors.New("it led until now")
		}
		return s.drop(ctx, c, m.ID)
	})
	return map[string]ID{"removed": was.ID}, err
}

// gone waits until no member knows the removed one any more, takes its alarms away, which etcd does not, and waits for a stable leader.
func (s *Site) gone(ctx context.Context, t *plan.Task) (any, error) {
	err := s.until(ctx, t.Say, s.Pace.filled().Start, "wait until no member knows it any more", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return true, err
		}
		alarms := map[string]*pb.AlarmRequest{}
		for _, m := range c.Members {
			if m.ID == b.Removes {
				return false, fmt.Errorf("%s is still there", m.Spec)
			}
			if m.Answer == nil {
				continue
			}
			for _, x := range m.Answer.Members {
				if ID(x.ID) == b.Removes {
					return false, fmt.Errorf("%s still knows it", m.Spec)
				}
			}
			for _, a := range m.Answer.Alarms {
				if ID(a.Member) == b.Removes {
					alarms[a.Kind] = &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.Member, Alarm: pb.AlarmType(pb.AlarmType_value[a.Kind])}
				}
			}
		}
		for kind, req := range alarms {
			t.Say("take the alarm %s of the removed member away", kind)
			if err := s.disarm(ctx, c, req); err != nil {
				return false, err
			}
		}
		return len(alarms) == 0, nil
	})
	if err != nil {
		return nil, err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	return nil, s.settled(ctx, t.Say, s.endpoints(b), b.Removes)
}

func (s *Site) disarm(ctx context.Context, c *Cluster, req *pb.AlarmRequest) error {
	leader, _ := c.Member(c.Leader)
	if leader.Answer == nil {
		return errors.New("the leader does not answer from here")
	}
	err := s.ask(ctx, leader.Answer.Endpoint, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewMaintenanceClient(conn).Alarm(ctx, req)
		return err
	})
	if err != nil {
		return s.told(ctx, leader.Answer.Endpoint, err)
	}
	return nil
}
