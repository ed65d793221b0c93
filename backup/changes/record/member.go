package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
)

// member is a connection to one member that has a quorum.
type member struct {
	snapshot.Member
	cli  *clientv3.Client
	rev  repo.Revision // the cluster's, by a linearizable read
	term uint64
	all  []snapshot.Member // every member that answered
}

func (m *member) close() { _ = m.cli.Close() }

// Windows of a watch's connection: what the server may have under way. Set, so that they do not grow to gRPC's 16 MiB.
const (
	streamWindow = 1 << 20
	connWindow   = 2 << 20
)

// askTimeout bounds one question to a member.
const askTimeout = 5 * time.Second

// connect finds a voter that has a quorum: of the given endpoints the first, then any other; after a failure the one behind the
// last that was tried.
func (r *Recorder) connect(ctx context.Context) (*member, error) {
	_, seen, err := snapshot.Choose(ctx, r.o.Cluster)
	voters := slices.DeleteFunc(slices.Clone(seen), func(m snapshot.Member) bool { return m.ID == 0 || m.Learner || !m.Quorum })
	if len(voters) == 0 {
		return nil, errors.Join(errors.New("no voter with a quorum to watch"), err)
	}
	rank := func(m snapshot.Member) int {
		if i := slices.Index(r.o.Cluster.Endpoints, m.Endpoint); i >= 0 {
			return i
		}
		return len(r.o.Cluster.Endpoints)
	}
	slices.SortStableFunc(voters, func(a, b snapshot.Member) int { return rank(a) - rank(b) })
	var last uint64
	r.status.set(func(s *Status) {
		if s.State == Reconnecting {
			last = s.Member
		}
	})
	if i := slices.IndexFunc(voters, func(m snapshot.Member) bool { return m.ID == last }); i >= 0 {
		voters = append(slices.Clone(voters[i+1:]), voters[:i+1]...)
	}
	for _, v := range voters {
		m, dialErr := r.dial(ctx, v)
		if dialErr == nil {
			m.all = seen
			r.status.set(func(s *Status) { s.Endpoint, s.Member, s.Version = v.Endpoint, v.ID, v.Version })
			return m, nil
		}
		err = errors.Join(err, dialErr)
	}
	return nil, err
}

// dial connects to one member and asks it, through a quorum, where the cluster is.
func (r *Recorder) dial(ctx context.Context, v snapshot.Member) (*member, error) {
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: []string{v.Endpoint}, TLS: r.o.Cluster.TLS, Username: r.o.Cluster.Username, Password: r.o.Cluster.Password,
		DialTimeout: askTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, Logger: zap.NewNop(), Context: context.WithoutCancel(ctx),
		DialOptions: []grpc.DialOption{grpc.WithNoProxy(), grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow)},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", v.Endpoint, err)
	}
	m := &member{Member: v, cli: cli}
	if m.rev, m.term, err = m.now(ctx); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// now is the cluster's newest revision and its raft term, as a quorum confirms them.
func (m *member) now(ctx context.Context) (repo.Revision, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := m.cli.Get(ctx, "\x00")
	if err != nil {
		return 0, 0, fmt.Errorf("ask %s for the newest revision: %w", m.Endpoint, err)
	}
	if id := repo.ClusterID(resp.Header.ClusterId); id != m.ClusterID {
		return 0, 0, fmt.Errorf("%s answers for cluster %s, and before for %s", m.Endpoint, id, m.ClusterID)
	}
	return repo.Revision(resp.Header.Revision), resp.Header.RaftTerm, nil
}

// holds says whether the member can still give the key space at a revision.
func (m *member) holds(ctx context.Context, rev repo.Revision) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := m.cli.Get(ctx, "\x00", clientv3.WithRev(int64(rev)))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask %s for revision %d: %w", m.Endpoint, rev, err)
	}
	return true, nil
}
