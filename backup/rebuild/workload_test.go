package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// workload changes a cluster at random: puts, deletions, ranges, transactions, leases that are revoked or expire, compactions,
// defragmentations and, with several members, changes of leader. Its choices come from a seed; their order does not, as the
// writers run side by side.
type workload struct {
	t       *testing.T
	cluster *lab.Cluster
	cli     *clientv3.Client
	rec     *recorder
	keys    int
	burst   int // the most keys that are put and deleted at once
	widest  atomic.Int64
	rev     atomic.Int64
	compact atomic.Int64

	mu     sync.Mutex
	leases []clientv3.LeaseID
	notes  []note
}

// note is what a member said of itself.
type note struct {
	rev, compact int64
	hash         uint32
}

// maxTxnOps is what the lab's members are told to allow.
const maxTxnOps = 10_000

// run goes on until the cluster is at a revision, and notes the hash at about as many random revisions as asked for.
func (w *workload) run(rng *rand.Rand, until int64, notes int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	start := w.rev.Load()
	var wg sync.WaitGroup
	for range 6 {
		r := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
		wg.Go(func() {
			for w.rev.Load() < until && ctx.Err() == nil {
				w.step(ctx, r)
			}
		})
	}
	r := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
	wg.Go(func() { // one is as wide as it may be
		if w.widest.Load() >= int64(w.burst)/2 {
			return
		}
		if err := w.wide(ctx, r, w.burst); err != nil && ctx.Err() == nil && len(w.cluster.Members) == 1 {
			w.t.Error("workload: ", err)
		}
	})
	for i := 0; i < notes && !w.t.Failed(); i++ {
		next := start + (until-start)*int64(i+1)/int64(notes)
		lab.Eventually(w.t, 5*time.Minute, fmt.Sprintf("the workload reaches revision %d", next), func() error {
			if now := w.rev.Load(); now < next {
				return fmt.Errorf("at %d", now)
			}
			return nil
		})
		w.note(rng)
		if i%10 == 5 {
			w.rec.look(w.t)
		}
	}
	cancel()
	wg.Wait()
	w.rec.look(w.t)
}

func (w *workload) key(r *rand.Rand) string {
	i := r.IntN(w.keys)
	return fmt.Sprintf("/registry/%02d/key-%05d", i%20, i)
}

func (w *workload) value(r *rand.Rand) string {
	return strings.Repeat(fmt.Sprint(r.Uint64(), " "), r.IntN(20))
}

func (w *workload) put(r *rand.Rand, key string) clientv3.Op {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.leases); n > 0 && r.IntN(8) == 0 {
		return clientv3.OpPut(key, w.value(r), clientv3.WithLease(w.leases[r.IntN(n)]))
	}
	return clientv3.OpPut(key, w.value(r))
}

func (w *workload) step(ctx context.Context, r *rand.Rand) {
	var err error
	switch x := r.IntN(1000); {
	case x < 600:
		err = w.do(ctx, w.put(r, w.key(r)))
	case x < 780:
		err = w.do(ctx, clientv3.OpDelete(w.key(r)))
	case x < 785: // a range
		err = w.do(ctx, clientv3.OpDelete(fmt.Sprintf("/registry/%02d/key-%02d", r.IntN(20), r.IntN(100)), clientv3.WithPrefix()))
	case x < 945:
		err = w.txn(ctx, r, 1+r.IntN(6))
	case x < 947:
		err = w.txn(ctx, r, 1+r.IntN(min(maxTxnOps, w.keys/2)))
	case x < 970:
		err = w.grant(ctx, r)
	case x < 985:
		err = w.revoke(ctx, r)
	case x < 986:
		err = w.compaction(ctx, r)
	case x == 988 && r.IntN(10) == 0:
		err = w.wide(ctx, r, 1+r.IntN(2000))
	case x == 986 && r.IntN(10) == 0:
		_, err = w.cli.Defragment(ctx, w.cluster.Endpoint(r.IntN(len(w.cluster.Members))))
	case x == 987 && r.IntN(10) == 0:
		err = w.moveLeader(ctx, r)
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, rpctypes.ErrLeaseNotFound), errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrTooManyRequests):
	case len(w.cluster.Members) > 1: // whatever a change of leader does to a request; it may have been done all the same
	default:
		w.t.Error("workload: ", err)
	}
}

func (w *workload) do(ctx context.Context, op clientv3.Op) error {
	resp, err := w.cli.Do(ctx, op)
	if err != nil {
		return err
	}
	if p := resp.Put(); p != nil {
		w.seen(p.Header.Revision)
	} else if d := resp.Del(); d != nil {
		w.seen(d.Header.Revision)
	}
	return nil
}

func (w *workload) seen(rev int64) {
	for old := w.rev.Load(); old < rev && !w.rev.CompareAndSwap(old, rev); old = w.rev.Load() {
	}
}

// txn is a transaction of distinct keys, with a nested one now and then.
func (w *workload) txn(ctx context.Context, r *rand.Rand, n int) error {
	seen := map[string]bool{}
	var ops, nested []clientv3.Op
	for range n {
		k := w.key(r)
		if seen[k] {
			continue
		}
		seen[k] = true
		op := clientv3.OpDelete(k)
		if r.IntN(3) > 0 {
			op = w.put(r, k)
		}
		if r.IntN(5) == 0 && n < 10 {
			nested = append(nested, op)
		} else {
			ops = append(ops, op)
		}
	}
	if len(nested) > 0 {
		ops = append(ops, clientv3.OpTxn(nil, nested, nil))
	}
	resp, err := w.cli.Txn(ctx).Then(ops...).Commit()
	if err == nil {
		w.seen(resp.Header.Revision)
	}
	return err
}

// wide puts n keys, many in a transaction, and deletes them all in one revision.
func (w *workload) wide(ctx context.Context, r *rand.Rand, n int) error {
	prefix := fmt.Sprintf("/wide/%x/", r.Uint64())
	for i := 0; i < n; i += maxTxnOps {
		var ops []clientv3.Op
		for j := i; j < min(i+maxTxnOps, n); j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%06d", prefix, j), "v"))
		}
		resp, err := w.cli.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return err
		}
		w.seen(resp.Header.Revision)
	}
	resp, err := w.cli.Delete(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	w.seen(resp.Header.Revision)
	for old := w.widest.Load(); old < resp.Deleted && !w.widest.CompareAndSwap(old, resp.Deleted); old = w.widest.Load() {
	}
	return nil
}

// grant makes a lease; some are so short that they expire while the workload runs.
func (w *workload) grant(ctx context.Context, r *rand.Rand) error {
	ttl := []int64{2, 60, 600, 3600}[r.IntN(4)]
	resp, err := w.cli.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases = append(w.leases, resp.ID); len(w.leases) > 50 {
		w.leases = w.leases[1:] // its keys stay attached
	}
	return nil
}

func (w *workload) revoke(ctx context.Context, r *rand.Rand) error {
	w.mu.Lock()
	if len(w.leases) < 10 {
		w.mu.Unlock()
		return nil
	}
	i := r.IntN(len(w.leases))
	id := w.leases[i]
	w.leases = append(w.leases[:i:i], w.leases[i+1:]...)
	w.mu.Unlock()
	resp, err := w.cli.Revoke(ctx, id)
	if err == nil {
		w.seen(resp.Header.Revision)
	}
	return err
}

// compaction leaves at least the newest 500 revisions, which notes may ask for.
func (w *workload) compaction(ctx context.Context, r *rand.Rand) error {
	at := w.rev.Load() - 500 - r.Int64N(2000)
	if at <= w.compact.Load() {
		return nil
	}
	_, err := w.cli.Compact(ctx, at)
	if err == nil {
		w.compact.Store(at)
	}
	return err
}

func (w *workload) moveLeader(ctx context.Context, r *rand.Rand) error {
	if len(w.cluster.Members) == 1 {
		return nil
	}
	for i := range w.cluster.Members {
		st, err := w.cli.Status(ctx, w.cluster.Endpoint(i))
		if err != nil || st.Leader != st.Header.MemberId {
			continue
		}
		to, err := w.cli.Status(ctx, w.cluster.Endpoint((i+1+r.IntN(len(w.cluster.Members)-1))%len(w.cluster.Members)))
		if err != nil {
			return err
		}
		cli := w.cluster.ClientOf(w.t, i)
		defer cli.Close()
		_, err = cli.MoveLeader(ctx, to.Header.MemberId)
		return err
	}
	return nil
}

// note asks a random member for its hash at a random revision that it has.
func (w *workload) note(rng *rand.Rand) {
	w.t.Helper()
	lab.Eventually(w.t, 5*time.Minute, "a member gives its hash", func() error {
		lo, hi := w.compact.Load(), w.rev.Load()
		rev := max(lo, hi-3000, 1)
		rev += rng.Int64N(hi - rev + 1)
		resp, err := w.cli.HashKV(w.t.Context(), w.cluster.Endpoint(rng.IntN(len(w.cluster.Members))), rev)
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes = append(w.notes, note{rev, max(resp.CompactRevision, 0), resp.Hash})
		return nil
	})
}
