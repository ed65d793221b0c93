package membership

import (
	"context"
	"fmt"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// othersMiss asks the others' metrics whether they are connected with a member: one that is silent only from here is not dead. Where nobody shows metrics, it
// is what is seen from here that counts, and that is said.
func (s *Site) othersMiss(ctx context.Context, t *plan.Task, c *Cluster, m Member) error {
	a := s.Access
	a.Endpoints = s.endpointsOf(c)
	v, err := probe.Look(ctx, a, probe.Options{Metrics: true})
	if err != nil {
		return err
	}
	told := 0
	for _, x := range v.Answering() {
		if x.Metrics == nil || x.Learner {
			continue
		}
		told++
		if x.Metrics.Peers[uint64(m.ID)] {
			by, _ := c.Member(ID(x.MemberID))
			return fail.New(fail.Failed, fmt.Errorf("%s does not answer here, but %s is connected with it: it is not dead", m.Spec, by.Spec),
				"find out why it cannot be reached from here (client port, firewall, certificates); or replace it all the same with a plan made with --force REASON")
		}
	}
	if told == 0 {
		t.Say("no member shows metrics: that it is dead is seen from here only")
	}
	return nil
}
