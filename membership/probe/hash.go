package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	defaultHashTimeout = 30 * time.Second
	// hashRounds bounds how often all hashes are asked for again: because members are between two compactions, or because two hashes differ, which is
	// believed only when it shows twice.
	hashRounds = 3
)

// hashes asks the voters for their hash at the smallest revision that any of them has.
func (l *looker) hashes(ctx context.Context) {
	limit := l.options.HashTimeout
	if limit <= 0 {
		limit = defaultHashTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var voters []*asked
	seen := map[[2]uint64]bool{}
	for _, s := range l.all {
		id := [2]uint64{s.ClusterID, s.MemberID}
		switch {
		case s.Err != nil || seen[id]:
		case s.Learner:
			s.HashErr = errors.New("a learner does not tell its hash")
		default:
			seen[id] = true
			voters = append(voters, s)
		}
	}
	for round := range hashRounds {
		if round > 0 && !l.settle(ctx) {
			return
		}
		for _, cluster := range byCluster(voters) {
			hashOnce(ctx, cluster, round > 0)
		}
		if comparable, equal := compareHashes(voters); comparable && equal {
			return
		}
	}
}

func byCluster(voters []*asked) map[uint64][]*asked {
	out := map[uint64][]*asked{}
	for _, s := range voters {
		out[s.ClusterID] = append(out[s.ClusterID], s)
	}
	return out
}

// settle looks at the revisions anew, after a moment in which a compaction may end. A hash of an earlier round stays when there is no time for another.
func (l *looker) settle(ctx context.Context) bool {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		return false
	}
	l.again(ctx)
	return ctx.Err() == nil
}

// hashOnce asks each of a cluster's voters for its hash at their smallest revision. Whoever lags so far behind that the others have compacted its revision
// away cannot be compared, and the others go on without it.
func hashOnce(ctx context.Context, voters []*asked, again bool) {
	for len(voters) > 0 {
		at := slices.MinFunc(voters, func(a, b *asked) int { return cmp.Compare(a.newest, b.newest) }).newest
		same := !slices.ContainsFunc(voters, func(s *asked) bool { return s.newest != at })
		// Only where it cannot be done otherwise: each then hashes up to its own newest, and a busy cluster's would not be comparable.
		unnamed := same && again && slices.ContainsFunc(voters, func(s *asked) bool {
			return errors.Is(s.HashErr, rpctypes.ErrCompacted) || s.Hash != nil && s.Hash.Compact >= at
		})
		var wg sync.WaitGroup
		for _, s := range voters {
			wg.Go(func() { s.hash(ctx, at, same, unnamed) })
		}
		wg.Wait()
		compacted := slices.ContainsFunc(voters, func(s *asked) bool { return errors.Is(s.HashErr, rpctypes.ErrCompacted) })
		if same || !compacted {
			return
		}
		voters = slices.DeleteFunc(slices.Clone(voters), func(s *asked) bool {
			if s.newest == at {
				s.Hash, s.HashErr = nil, fmt.Errorf("it is at revision %d, which others have compacted away", at)
			}
			return s.newest == at
		})
	}
}

// hash asks for the hash at a revision. When all are there, it need not be named: 3.5 gives none for a revision at which it was compacted, and whoever was
// compacted there and not started again since still has the hash from before that, which the others cannot give any more.
func (s *asked) hash(ctx context.Context, at int64, same, unnamed bool) {
	var err error
	if !unnamed {
		err = s.hashAt(ctx, at)
	}
	if unnamed || errors.Is(err, rpctypes.ErrCompacted) && same {
		err = s.hashAt(ctx, 0)
	}
	s.HashErr = err
	if err != nil {
		s.Hash = nil
		s.refused(ctx, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		s.HashErr = errors.New("it did not compute its hash in the time that there was")
	}
}

func (s *asked) hashAt(ctx context.Context, at int64) error {
	return s.withUser(ctx, func(ctx context.Context) error {
		r, err := pb.NewMaintenanceClient(s.conn).HashKV(ctx, &pb.HashKVRequest{Revision: at})
		if err != nil {
			return err
		}
		if !s.same(r.GetHeader()) {
			return fmt.Errorf("another member, %016x, answered at %s", r.GetHeader().GetMemberId(), s.e.URL)
		}
		h := Hash{Revision: at, Compact: r.GetCompactRevision(), Sum: r.GetHash()}
		if at == 0 {
			h.Revision = r.GetHashRevision()
		}
		if h.Revision == 0 { // 3.5 does not say; it hashes up to what it has
			h.Revision = r.GetHeader().GetRevision()
		}
		s.Hash = &h
		return nil
	})
}

// compareHashes says whether all hashes that there are can be compared, and whether they are equal, cluster by cluster.
func compareHashes(voters []*asked) (comparable, equal bool) {
	comparable, equal = true, true
	first := map[uint64]*Hash{}
	for _, s := range voters {
		switch f := first[s.ClusterID]; {
		case s.Hash == nil:
		case f == nil:
			first[s.ClusterID] = s.Hash
		case f.Revision != s.Hash.Revision || f.Compact != s.Hash.Compact:
			comparable = false
		case f.Sum != s.Hash.Sum:
			equal = false
		}
	}
	return comparable, equal
}
