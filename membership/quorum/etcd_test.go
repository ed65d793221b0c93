package quorum

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// TestEtcdAgrees: what the simulation says that etcd would refuse, a real one refuses, and what it says that etcd would take is taken.
func TestEtcdAgrees(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
			cli := c.ClientOf(t, 0)
			agree := func(what string, s Step) {
				t.Helper()
				before := observe(t, cli)
				why := before.asks(s)
				if why != "" {
					if err := ask(t, cli, s); !refusal(err) {
						t.Errorf("%s: etcd says %v, the simulation %q, of %+v", what, err, why, before)
					}
					return
				}
				lab.Eventually(t, 20*time.Second, "etcd takes "+what, func() error { // connections count when they are 5 s old
					err := ask(t, cli, s)
					if err != nil && !refusal(err) {
						t.Fatalf("%s: %v", what, err)
					}
					return err
				})
			}
			c.Kill(2)
			dead := lostMember(t, cli)
			agree("a learner beside a dead member of three", Step{AddLearner, 0, ""})
			agree("a voter beside a dead member of three", Step{AddVoter, 0, ""})
			agree("removal of a live member of three, one dead", Step{Remove, leaderOrOther(t, cli, dead), ""})
			agree("removal of the dead one", Step{Remove, dead, ""})
			agree("a learner for two", Step{AddLearner, 0, ""})
			agree("a second learner", Step{AddLearner, 0, ""})
		})
	}
}

// observe makes the simulation's cluster out of what one member says: a member is up when it answers.
func observe(t *testing.T, cli *clientv3.Client) Cluster {
	t.Helper()
	list, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := cli.Status(t.Context(), cli.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	c := Cluster{}
	if c.Rules, err = RulesOf(st.Version); err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Members {
		x := Member{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.ClientURLs) > 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := cli.Status(ctx, m.ClientURLs[0])
			cancel()
			x.Up = err == nil
		}
		c.Members = append(c.Members, x)
	}
	return c
}

// ports makes each peer URL another one.
var ports atomic.Int32

// refusal says whether an error is one of those that the simulation foresees.
func refusal(err error) bool {
	return errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) || errors.Is(err, rpctypes.ErrTooManyLearners)
}

// ask has etcd do it. The peer URLs lead nowhere.
func ask(t *testing.T, cli *clientv3.Client, s Step) error {
	t.Helper()
	var err error
	peer := []string{fmt.Sprintf("http://127.0.0.1:%d", ports.Add(1))} // nobody listens below 1024 here
	switch s.Kind {
	case AddLearner:
		_, err = cli.MemberAddAsLearner(t.Context(), peer)
	case AddVoter:
		_, err = cli.MemberAdd(t.Context(), peer)
	case Remove:
		_, err = cli.MemberRemove(t.Context(), s.ID)
	default:
		t.Fatalf("%s is not asked for", s.Kind)
	}
	return err
}

// lostMember waits until one of three does not answer, and its peers have noticed: etcd counts a peer as connected until its streams break.
func lostMember(t *testing.T, cli *clientv3.Client) (id uint64) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "a member is lost", func() error {
		for _, m := range observe(t, cli).Members {
			if !m.Up {
				id = m.ID
				return nil
			}
		}
		return errors.New("all answer")
	})
	return id
}

// leaderOrOther is a member that is alive, and not the one that is asked.
func leaderOrOther(t *testing.T, cli *clientv3.Client, dead uint64) uint64 {
	t.Helper()
	st, err := cli.Status(t.Context(), cli.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range observe(t, cli).Members {
		if m.ID != dead && m.ID != st.Header.MemberId {
			return m.ID
		}
	}
	t.Fatal("no other member is alive")
	return 0
}
