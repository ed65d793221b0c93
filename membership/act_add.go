package membership

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/quorum"
)

// Added is what came of an addition, for the new machine.
type Added struct {
	ID ID `json:"id"`
	// InitialCluster is what the new member is to be started with: every member, by the peer URLs that the cluster knows.
	InitialCluster string `json:"initial_cluster"`
}

// backup is taken before anything is changed, by the function that the program has for it.
func (s *Site) backup(ctx context.Context, t *plan.Task) (any, error) {
	if _, _, err := s.look(ctx, t.Plan); err != nil {
		return nil, err
	}
	if s.Backup == nil {
		return nil, fail.New(fail.Usage, errors.New("no backup can be taken here"), "name a store with --store URL")
	}
	id, err := s.Backup(ctx, t.Say)
	if err != nil {
		return nil, fmt.Errorf("take a backup before anything is changed: %w", err)
	}
	return map[string]string{"backup": id}, nil
}

// add adds the new member, or finds that it is there.
func (s *Site) add(ctx context.Context, t *plan.Task) (any, error) {
	var out Added
	err := s.until(ctx, t.Say, s.Pace.filled().Add, "add the member", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return true, err
		}
		n := *b.Adds
		if m, ok := b.newcomer(c.specs()); ok {
			if !m.Learner && !n.Voter && m.Name == "" {
				return true, outdated("%s was added as a voter", m)
			}
			out = Added{ID: m.ID, InitialCluster: initialCluster(c.specs(), m.ID, n.Name)}
			return true, nil
		}
		kind := quorum.AddLearner
		if n.Voter {
			kind = quorum.AddVoter
		}
		if _, err := s.may(ctx, t.Plan, quorum.Step{Kind: kind, ID: newID, Name: n.Name}); err != nil {
			return false, err
		}
		err = s.change(ctx, c, func(ctx context.Context, cli pb.ClusterClient) error {
			_, err := cli.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{n.PeerURL}, IsLearner: !n.Voter})
			return err
		})
		// etcd makes an ID of the URL and the second: it is that of a member which was removed in this very second.
		if err != nil && !passing(err) && !errors.Is(err, rpctypes.ErrMemberNotFound) {
			return true, err
		}
		return false, err // the list will tell
	})
	return out, err
}

// initialCluster names every member by the URLs that the cluster knows; etcd compares the URLs, and wants as many members as there are.
func initialCluster(members []Spec, id ID, name string) string {
	out := ""
	for _, m := range members {
		as := m.Name
		switch {
		case m.ID == id:
			as = name
		case as == "":
			as = "unstarted-" + m.ID.String()
		}
		for _, u := range m.PeerURLs {
			if out != "" {
				out += ","
			}
			out += as + "=" + u
		}
	}
	return out
}

// evict takes the new member away again: an addition that does not come to its end leaves no learner behind.
func (s *Site) evict(ctx context.Context, t *plan.Task) error { return s.Evict(ctx, t.Plan, t.Say) }

// Evict removes the member that a plan has added, as long as it is a learner or never started. It is what rolling back does, for when the new machine is not
// there to do its part of that.
func (s *Site) Evict(ctx context.Context, p *plan.Plan, say func(format string, a ...any)) error {
	return s.until(ctx, say, s.Pace.filled().Retry, "remove the learner again", func() (bool, error) {
		c, b, err := s.see(ctx, p) // also when somebody else changed the cluster meanwhile: the learner is ours
		if err != nil {
			return false, err
		}
		if b.Adds == nil || c.ID != b.ClusterID {
			return true, b.Outdated(c.ID, b.Members)
		}
		m, ok := b.newcomer(c.specs())
		if !ok {
			return true, nil
		}
		if !m.Learner && !b.Adds.Voter {
			return true, fail.Refused(fmt.Errorf("%s is a voter already", m), "remove it with a plan of its own: steward member remove "+m.ID.String())
		}
		if !m.Learner {
			if _, err := s.may(ctx, p, quorum.Step{Kind: quorum.Remove, ID: uint64(m.ID)}); err != nil {
				return false, err
			}
		}
		say("remove %s again", m)
		return s.drop(ctx, c, m.ID)
	})
}

// drop asks for a removal. Whether it is done, the next look tells.
func (s *Site) drop(ctx context.Context, c *Cluster, id ID) (bool, error) {
	err := s.change(ctx, c, func(ctx context.Context, cli pb.ClusterClient) error {
		_, err := cli.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: uint64(id)})
		return err
	})
	if errors.Is(err, rpctypes.ErrMemberNotFound) { // an answer was lost, and the next member knows that it is gone
		return false, err
	}
	return err != nil && !passing(err), err
}
