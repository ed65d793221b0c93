// Package changestest makes the histories that the change log is tested with: a random workload of everything that etcd records,
// reproducible from its seed as far as the cluster's timing allows. It is for tests.
package changestest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Workload is a random sequence of changes. The zero weights leave kinds of changes out.
type Workload struct {
	Client *clientv3.Client
	Seed   uint64
	// Keys is the number of different keys; 0 means 2000. Values are up to ValueMax bytes long; 0 means 1000.
	Keys, ValueMax int
	// TxnMax is the largest number of operations in a transaction; 0 means 20. The server's --max-txn-ops must allow it.
	TxnMax int
	// Wide makes one in Wide changes a put of many keys or their range deletion; 0 means none. WideKeys is how many: 0 means 2000.
	Wide, WideKeys int
	// Leases turns leases on; their TTLs are TTL seconds; 0 means 3.
	Leases bool
	TTL    int64
	// Compact makes one in Compact changes a compaction of all but the last CompactKeep revisions; 0 means none.
	Compact     int
	CompactKeep int64
	// Disturb is called for one in DisturbEvery changes: to move the leader, to restart a member.
	Disturb      func(*rand.Rand)
	DisturbEvery int

	rng    *rand.Rand
	leases []clientv3.LeaseID
	rev    int64
}

// Run makes n changes and returns the last revision that it saw.
func (w *Workload) Run(ctx context.Context, n int) (int64, error) {
	if w.rng == nil {
		//nolint:gosec // the same seed must give the same changes
		w.rng = rand.New(rand.NewPCG(w.Seed, 0xc4a2))
		w.Keys, w.ValueMax, w.TxnMax = or(w.Keys, 2000), or(w.ValueMax, 1000), or(w.TxnMax, 20)
		w.WideKeys, w.TTL = or(w.WideKeys, 2000), int64(or(int(w.TTL), 3))
	}
	for i := range n {
		if err := w.retry(ctx, w.step); err != nil {
			return w.rev, fmt.Errorf("change %d of seed %d: %w", i, w.Seed, err)
		}
	}
	return w.rev, nil
}

func or(v, standard int) int {
	if v == 0 {
		return standard
	}
	return v
}

// retry does f again when the cluster was disturbed: what a client does that does not know whether its write was lost.
func (w *Workload) retry(ctx context.Context, f func(context.Context) error) error {
	for try := 0; ; try++ {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := f(one)
		cancel()
		if err == nil || try == 100 || ctx.Err() != nil || errors.Is(err, rpctypes.ErrTooManyOps) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *Workload) oneIn(n int) bool { return n > 0 && w.rng.IntN(n) == 0 }

func (w *Workload) step(ctx context.Context) error {
	switch {
	case w.Disturb != nil && w.oneIn(w.DisturbEvery):
		w.Disturb(w.rng)
		return nil
	case w.oneIn(w.Compact) && w.rev > w.CompactKeep+1:
		_, err := w.Client.Compact(ctx, w.rev-w.CompactKeep)
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil
		}
		return err
	case w.oneIn(w.Wide):
		return w.wide(ctx)
	case w.Leases && w.rng.IntN(20) == 0:
		return w.lease(ctx)
	}
	switch x := w.rng.IntN(100); {
	case x < 60:
		return w.do(ctx, w.put(w.key()))
	case x < 72:
		return w.do(ctx, clientv3.OpDelete(w.key()))
	case x < 75: // a few tombstones in one revision, or none
		return w.do(ctx, clientv3.OpDelete(w.key()[:len("/registry/kind-0/obj-00")], clientv3.WithPrefix()))
	default:
		return w.txn(ctx)
	}
}

func (w *Workload) do(ctx context.Context, op clientv3.Op) error {
	resp, err := w.Client.Do(ctx, op)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		w.leases = nil
	}
	if err != nil {
		return err
	}
	switch {
	case op.IsPut():
		w.saw(resp.Put().Header.Revision)
	case op.IsDelete():
		w.saw(resp.Del().Header.Revision)
	}
	return nil
}

func (w *Workload) saw(rev int64) { w.rev = max(w.rev, rev) }

func (w *Workload) key() string {
	i := w.rng.IntN(w.Keys)
	return fmt.Sprintf("/registry/kind-%d/obj-%06d", i%7, i)
}

func (w *Workload) value() string {
	n := w.rng.IntN(w.ValueMax)
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, `{"uid":"%016x"},`, w.rng.Uint64())
	}
	return b.String()
}

func (w *Workload) put(key string) clientv3.Op {
	if len(w.leases) > 0 && w.rng.IntN(8) == 0 {
		return clientv3.OpPut(key, w.value(), clientv3.WithLease(w.leases[w.rng.IntN(len(w.leases))]))
	}
	return clientv3.OpPut(key, w.value())
}

// txn touches distinct keys in no order, with a nested transaction now and then.
func (w *Workload) txn(ctx context.Context) error {
	seen := map[string]bool{}
	var ops []clientv3.Op
	for range 1 + w.rng.IntN(w.TxnMax-1) {
		key := w.key()
		if seen[key] {
			continue
		}
		seen[key] = true
		switch w.rng.IntN(5) {
		case 0:
			ops = append(ops, clientv3.OpDelete(key))
		case 1:
			ops = append(ops, clientv3.OpTxn(nil, []clientv3.Op{w.put("/nested" + key)}, nil))
		default:
			ops = append(ops, w.put(key))
		}
	}
	resp, err := w.Client.Txn(ctx).Then(ops...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		w.leases = nil
	}
	if err == nil {
		w.saw(resp.Header.Revision)
	}
	return err
}

// lease grants, revokes, or lets one expire by forgetting it.
func (w *Workload) lease(ctx context.Context) error {
	if len(w.leases) > 0 && w.rng.IntN(3) == 0 {
		i := w.rng.IntN(len(w.leases))
		id := w.leases[i]
		w.leases = slices.Delete(w.leases, i, i+1)
		if w.rng.IntN(2) == 0 {
			return nil
		}
		resp, err := w.Client.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		if err == nil {
			w.saw(resp.Header.Revision)
		}
		return err
	}
	resp, err := w.Client.Grant(ctx, w.TTL+w.rng.Int64N(w.TTL))
	if err == nil {
		w.leases = append(w.leases, resp.ID)
	}
	return err
}

// wide fills a prefix and deletes it: many tombstones in one revision.
func (w *Workload) wide(ctx context.Context) error {
	prefix := fmt.Sprintf("/wide/%d/", w.rng.IntN(3))
	if err := Fill(ctx, w.Client, prefix, w.WideKeys, 128); err != nil {
		return err
	}
	return w.do(ctx, clientv3.OpDelete(prefix, clientv3.WithPrefix()))
}

// Fill puts n small keys below a prefix, ops of them in a transaction.
func Fill(ctx context.Context, cli *clientv3.Client, prefix string, n, ops int) error {
	for i := 0; i < n; i += ops {
		var txn []clientv3.Op
		for k := i; k < min(i+ops, n); k++ {
			txn = append(txn, clientv3.OpPut(fmt.Sprintf("%s%07d", prefix, k), "v"))
		}
		if _, err := cli.Txn(ctx).Then(txn...).Commit(); err != nil {
			return fmt.Errorf("fill %s: %w", prefix, err)
		}
	}
	return nil
}
