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
	"etcd-steward/membership/quorum"
)

// subject is the learner that a plan is about: the one that it adds, or the one that it promotes.
func (b Basis) subject(c *Cluster) (Member, bool) {
	id := b.Promotes
	if b.Adds != nil {
		m, ok := b.newcomer(c.specs())
		if !ok {
			return Member{}, false
		}
		id = m.ID
	}
	return c.Member(id)
}

func learnerGone() error {
	return fail.New(fail.Failed, errors.New("the learner is not a member any more: it was removed"), "roll this plan back (steward plan rollback PLAN), and add the member anew")
}

// catchUp waits until the learner has all that the leader has. One that makes no progress is removed again: it would only be in the way of the next change.
func (s *Site) catchUp(ctx context.Context, t *plan.Task) (any, error) {
	pace := s.Pace.filled()
	p := pursuit{hold: pace.Hold, noProgress: pace.NoProgress}
	var told time.Time
	for {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil && c == nil && ctx.Err() == nil { // nobody answers just now
			err = pause(ctx, pace.Poll)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		m, ok := b.subject(c)
		switch {
		case !ok:
			return nil, learnerGone()
		case !m.Learner:
			return nil, nil // it was promoted before a crash
		}
		leader, _ := c.Member(c.Leader)
		x := sample{at: time.Now()}
		if m.Answer != nil {
			x.learner = m.Answer.Applied
		}
		if leader.Answer != nil {
			x.leader = max(leader.Answer.Index, leader.Answer.Applied)
		} else {
			x.leader = ^uint64(0) // not known: nobody is near
		}
		ready, stalled, text := p.add(x)
		switch {
		case ready:
			return map[string]uint64{"leader": x.leader, "learner": x.learner}, nil
		case stalled:
			return nil, s.giveUp(ctx, t, m, b, text)
		case time.Since(told) > sayEvery:
			t.Say("%s: %s", m.short(), text)
			told = time.Now()
		}
		if err := pause(ctx, pace.Poll); err != nil {
			return nil, err
		}
	}
}

// giveUp removes the learner that the plan has added.
func (s *Site) giveUp(ctx context.Context, t *plan.Task, m Member, b Basis, text string) error {
	err := fmt.Errorf("the learner %s made no progress for %v: %s", m.Spec, s.Pace.filled().NoProgress, text)
	if b.Adds == nil {
		return fail.New(fail.Failed, err, "look at its log; remove it with: steward member remove "+m.ID.String())
	}
	if evicted := s.evict(ctx, t); evicted != nil {
		return errors.Join(err, fmt.Errorf("remove it again: %w", evicted))
	}
	return fail.New(fail.Failed, fmt.Errorf("%w; it was removed again", err),
		"look at its log and at the network between the members; then roll this plan back (steward plan rollback "+t.Plan.ID+"), and make a new one")
}

// promote makes the learner a voter: when etcd agrees that it has caught up, and every voter is there.
func (s *Site) promote(ctx context.Context, t *plan.Task) (any, error) {
	pace := s.Pace.filled()
	slow := *s
	slow.Pace.Poll = min(2*time.Second, 2*pace.Poll)
	return nil, slow.until(ctx, t.Say, pace.Promote, "promote the learner", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return c != nil, err
		}
		m, ok := b.subject(c)
		switch {
		case !ok:
			return true, learnerGone()
		case !m.Learner:
			return true, nil
		}
		if _, err := s.may(ctx, t.Plan, quorum.Step{Kind: quorum.Promote, ID: uint64(m.ID)}); err != nil {
			return false, err
		}
		err = s.change(ctx, c, func(ctx context.Context, cli pb.ClusterClient) error {
			_, err := cli.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: uint64(m.ID)})
			return err
		})
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return false, err // the list will tell
		}
		return err != nil && !passing(err), err
	})
}

// verify compares what all members say: who the members are, that no alarm is raised, and the hash of all keys at one revision.
func (s *Site) verify(ctx context.Context, t *plan.Task) (any, error) {
	var out struct {
		Revision int64  `json:"revision"`
		Hash     string `json:"hash"`
		Members  int    `json:"members"`
	}
	err := s.until(ctx, t.Say, s.Pace.filled().Start, "compare the members", func() (bool, error) {
		c, _, err := s.look(ctx, t.Plan)
		if err != nil {
			return c != nil, err
		}
		for _, m := range c.Members {
			if !m.Learner && !c.Up(m) {
				return false, fmt.Errorf("%s does not follow the leader", m.Spec)
			}
		}
		gates := slices.Concat(c.agree(scope{}), c.alarms(scope{}))
		for _, g := range gates {
			return false, errors.New(g.String())
		}
		rev, sum, done, err := s.sameHash(ctx, c)
		out.Revision, out.Hash, out.Members = rev, fmt.Sprintf("%08x", sum), len(c.Members)
		return done, err
	})
	if err == nil {
		t.Say("all %d members have the hash %s at revision %d", out.Members, out.Hash, out.Revision)
	}
	return out, err
}

// sameHash asks all voters for the hash of all keys at the oldest revision that any of them is at.
func (s *Site) sameHash(ctx context.Context, c *Cluster) (rev int64, sum uint32, done bool, err error) {
	for _, m := range c.Members {
		if m.Answer != nil && (rev == 0 || m.Answer.Revision < rev) {
			rev = m.Answer.Revision
		}
	}
	var first *pb.HashKVResponse
	var by Member
	for _, m := range c.Members {
		if m.Learner {
			continue
		}
		var got *pb.HashKVResponse
		err := s.ask(ctx, m.Answer.Endpoint, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			got, err = pb.NewMaintenanceClient(conn).HashKV(ctx, &pb.HashKVRequest{Revision: rev})
			return err
		})
		switch {
		case err != nil:
			return rev, 0, false, s.told(ctx, m.Answer.Endpoint, err) // compacted meanwhile, or slow: again
		case first == nil:
			first, by = got, m
		case got.GetCompactRevision() != first.GetCompactRevision():
			return rev, 0, false, errors.New("a compaction is under way")
		case got.GetHash() != first.GetHash():
			return rev, 0, true, fail.New(fail.Wanting, fmt.Errorf("the members' data differ at revision %d: %s has the hash %08x, %s %08x", rev, by.Spec, first.GetHash(), m.Spec, got.GetHash()),
				"find out which one differs from the majority: steward health")
		}
	}
	return rev, first.GetHash(), true, nil
}
