package lab

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// FillOptions say what Fill puts. The same options give the same keys and values, always.
type FillOptions struct {
	Keys      int    // 0 means 1000
	ValueSize int    // bytes of each value; 0 means 1024
	Seed      uint64 // of the values
	Prefix    string // of the keys; "" means "/registry/"
	First     int    // index of the first key
}

const (
	// Both below etcd's own limits (--max-txn-ops 128, --max-request-bytes 1.5 MiB).
	fillTxnOps   = 128
	fillTxnBytes = 1 << 20
	fillWriters  = 8
)

// Fill puts keys with values like those of a Kubernetes cluster. About 40 MB/s into one member with UnsafeNoFsync on two cores.
func Fill(t T, cli *clientv3.Client, o FillOptions) {
	t.Helper()
	if o.Keys == 0 {
		o.Keys = 1000
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	work := make(chan [2]int)
	var wg sync.WaitGroup
	for range fillWriters {
		wg.Go(func() {
			for r := range work {
				if err := fillTxn(ctx, cli, o, r[0], r[1]); err != nil {
					cancel(fmt.Errorf("fill: %w", err))
				}
			}
		})
	}
	step := max(1, min(fillTxnOps, fillTxnBytes/(o.valueSize()+256)))
	for i := 0; i < o.Keys && ctx.Err() == nil; i += step {
		select {
		case work <- [2]int{o.First + i, o.First + min(i+step, o.Keys)}:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatalf("%v", err)
	}
}

func fillTxn(ctx context.Context, cli *clientv3.Client, o FillOptions, from, to int) error {
	ops := make([]clientv3.Op, 0, to-from)
	for i := from; i < to; i++ {
		ops = append(ops, clientv3.OpPut(o.Key(i), string(o.Value(i))))
	}
	for try := 0; ; try++ {
		_, err := cli.Txn(ctx).Then(ops...).Commit()
		if err == nil || try == 50 || ctx.Err() != nil {
			return err
		}
		// "too many requests", or an election: the writer is faster than a member. The puts are the same whenever they come.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (o FillOptions) valueSize() int {
	if o.ValueSize == 0 {
		return 1024
	}
	return o.ValueSize
}

// Key is the name of key i.
func (o FillOptions) Key(i int) string {
	prefix := o.Prefix
	if prefix == "" {
		prefix = "/registry/"
	}
	kinds := [...]string{"pods", "configmaps", "secrets", "events", "leases", "replicasets", "endpointslices", "serviceaccounts"}
	return fmt.Sprintf("%s%s/namespace-%03d/object-%08d", prefix, kinds[i%len(kinds)], i/64%400, i)
}

// Value is the value of key i: JSON with a share of text that repeats and a share that does not (identifiers, times, and for every
// eighth key base64 of random bytes), so that zstd makes about a fifth of it.
func (o FillOptions) Value(i int) []byte {
	rng := rand.New(rand.NewPCG(o.Seed, uint64(i)))
	v := make([]byte, 0, o.valueSize()+256)
	v = fmt.Appendf(v, `{"apiVersion":"v1","kind":"Object","metadata":{"name":"object-%08d","namespace":"namespace-%03d","uid":"%08x-%04x-4%03x","resourceVersion":"%d","creationTimestamp":"2026-%02d-%02dT%02d:%02d:%02dZ"},"data":{`,
		i, i/64%400, rng.Uint32(), rng.Uint32N(1<<16), rng.Uint32N(1<<12), rng.Uint32(),
		1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60))
	var noise [48]byte
	for len(v) < o.valueSize() {
		for j := 0; j < len(noise); j += 8 {
			n := rng.Uint64()
			for k := range 8 {
				noise[j+k] = byte(n >> (8 * k))
			}
		}
		if i%8 == 2 {
			v = base64.StdEncoding.AppendEncode(v, noise[:])
			continue
		}
		v = fmt.Appendf(v, `"image":"registry.example.net/team-%02d/service@sha256:%x","resources":{"limits":{"cpu":"%dm","memory":"%dMi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent",`,
			noise[0]%40, noise[8:24], 50*(1+int(noise[1])%20), 64*(1+int(noise[2])%16))
	}
	return append(v[:o.valueSize()-2], '}', '}')
}
