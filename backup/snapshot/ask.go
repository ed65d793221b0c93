package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/endpoint"
)

// maxMembers bounds what one cluster can make us ask: etcd itself is not meant for more than seven voters.
const maxMembers = 64

// answer is what one endpoint said.
type answer struct {
	Member
	members   []*pb.Member // as far as it knows; nil when it does not say
	grade     grade
	committed uint64 // the last raft entry that it knows a quorum to have
}

// askAll asks endpoints, all at once.
func (c Cluster) askAll(ctx context.Context, endpoints []endpoint.Endpoint) []answer {
	answers := make([]answer, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() { answers[i] = c.ask(ctx, e) })
	}
	wg.Wait()
	return answers
}

// ask gets a member's status, its list of members, and whether it has a quorum. When it does not answer, or lets nobody in, the answer
// has an error.
func (c Cluster) ask(ctx context.Context, e endpoint.Endpoint) answer {
	failed := func(err error) answer {
		return answer{Member: Member{Endpoint: e.URL, err: fmt.Errorf("%s: %w", e.URL, c.reason(ctx, e, err))}}
	}
	conn, err := c.access().Dial(e)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = conn.Close() }()
	asking, cancel := context.WithTimeout(ctx, c.access().Bound())
	defer cancel()
	// First without a user: etcd needs a quorum to check a password, and most versions none to tell their status.
	a, err := describe(asking, e, conn)
	authed := asking
	if err == nil || endpoint.NeedsUser(err) {
		token, loginErr := c.access().Token(asking, conn)
		if errors.Is(loginErr, rpctypes.ErrAuthFailed) {
			return failed(loginErr)
		}
		authed = endpoint.WithToken(asking, token)
	}
	if endpoint.NeedsUser(err) {
		a, err = describe(authed, e, conn)
	}
	if err != nil {
		return failed(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// Not linearizable: it must answer without a quorum, too. Servers before 3.5 know no difference.
		if list, err := pb.NewClusterClient(conn).MemberList(authed, &pb.MemberListRequest{Linearizable: false}); err == nil {
			a.members = list.GetMembers()[:min(len(list.GetMembers()), maxMembers)]
		}
	})
	var quorum bool
	wg.Go(func() {
		// Whoever may not read the key was told so in agreement with a quorum.
		_, err := pb.NewKVClient(conn).Range(authed, &pb.RangeRequest{Key: []byte("etcd-steward/quorum"), CountOnly: true})
		quorum = err == nil || endpoint.NeedsUser(endpoint.Error(err))
	})
	wg.Wait()
	a.Quorum = quorum && !a.Learner
	return a
}

// describe asks for a member's status.
func describe(ctx context.Context, e endpoint.Endpoint, conn *grpc.ClientConn) (answer, error) {
	st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return answer{}, endpoint.Error(err)
	}
	h := st.GetHeader()
	alarms, _ := endpoint.Alarms(st.GetErrors())
	return answer{
		Member: Member{
			Endpoint: e.URL, ID: h.GetMemberId(), Version: st.GetVersion(), ClusterID: repo.ClusterID(h.GetClusterId()),
			Leader: st.GetLeader() == h.GetMemberId(), Learner: st.GetIsLearner(),
			DBSize: st.GetDbSize(), DBSizeInUse: st.GetDbSizeInUse(), Revision: repo.Revision(h.GetRevision()),
			RaftTerm: st.GetRaftTerm(), RaftIndex: st.GetRaftAppliedIndex(),
			alarms: alarms,
		},
		committed: st.GetRaftIndex(),
	}, nil
}
