package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"etcd-steward/integration/lab"
)

// writer puts, deletes and leases keys until it is stopped.
type writer struct {
	cancel context.CancelFunc
	done   chan int
}

func (w *writer) stop() int { w.cancel(); return <-w.done }

func (s *show) startWriter() *writer {
	s.say("Writing to etcd all the while: puts, deletes, transactions, keys with leases.")
	ctx, cancel := context.WithCancel(s.Context())
	w := &writer{cancel: cancel, done: make(chan int, 1)}
	cli := s.etcd.Client(s)
	lease, err := cli.Grant(ctx, 3600)
	s.must(err)
	go func() {
		r, n := rand.New(rand.NewPCG(1, 1)), 0
		for ctx.Err() == nil {
			if err := write(ctx, cli, r, lease.ID); err == nil {
				n++
			}
			time.Sleep(2 * time.Millisecond) // a pace, not a wait: about 300 writes/s
		}
		w.done <- n
	}()
	return w
}

func write(ctx context.Context, cli *clientv3.Client, r *rand.Rand, lease clientv3.LeaseID) error {
	key := func() string { return fmt.Sprintf("/registry/things/%05d", r.IntN(5000)) }
	value := fmt.Sprintf("%0*x", 64+r.IntN(960), r.Uint64())
	var err error
	switch r.IntN(10) {
	case 0:
		_, err = cli.Delete(ctx, key())
	case 1:
		_, err = cli.Put(ctx, key(), value, clientv3.WithLease(lease))
	case 2:
		_, err = cli.Txn(ctx).Then(clientv3.OpPut("/registry/a/"+key(), value), clientv3.OpPut("/registry/b/"+key(), value)).Commit()
	default:
		_, err = cli.Put(ctx, key(), value)
	}
	return err
}

// waitForWrites waits for n more revisions and returns the newest.
func (s *show) waitForWrites(n int64) (revision int64) {
	cli := s.etcd.Client(s)
	var first int64
	lab.Eventually(s, 60*time.Second, "more writes", func() error {
		r, err := cli.Get(s.Context(), "\x00")
		if err != nil {
			return err
		}
		if revision = r.Header.Revision; first == 0 {
			first = revision
		}
		if revision < first+n {
			return fmt.Errorf("%d", revision-first)
		}
		return nil
	})
	return revision
}

// mistake deletes most of what there is, and compacts history, as Kubernetes does every five minutes: from then on no snapshot can go back behind it.
func (s *show) mistake() {
	r, err := s.etcd.Client(s).Delete(s.Context(), "/registry/things", clientv3.WithPrefix())
	s.must(err)
	_, err = s.etcd.Client(s).Compact(s.Context(), r.Header.Revision)
	s.must(err)
	s.say("%d keys are gone at revision %d, and etcd's history before it is compacted.", r.Deleted, r.Header.Revision)
}

// content is everything that a client can see of a cluster at one revision.
type content struct {
	hash []uint32 // of each member
	keys map[string]*mvccpb.KeyValue
}

func (s *show) observe(revision int64) content {
	c := content{keys: map[string]*mvccpb.KeyValue{}}
	for i := range s.etcd.Members {
		c.hash = append(c.hash, s.etcd.HashKV(s, i, revision).Hash)
	}
	cli := s.etcd.Client(s)
	for from := "\x00"; ; {
		r, err := cli.Get(s.Context(), from, clientv3.WithFromKey(), clientv3.WithRev(revision), clientv3.WithLimit(2000))
		s.must(err)
		for _, kv := range r.Kvs {
			c.keys[string(kv.Key)] = kv
			from = string(kv.Key) + "\x00"
		}
		if !r.More {
			break
		}
	}
	s.say("HashKV %08x, %d keys.", c.hash, len(c.keys))
	return c
}

// compare ends the demo when a hash, a key or any field of a key differs.
func (s *show) compare(before, after content) {
	if len(before.keys) == 0 {
		s.Fatalf("demo: nothing was written, so nothing is proven")
	}
	for _, h := range append(before.hash, after.hash...) {
		if h != before.hash[0] {
			s.Fatalf("demo: HashKV differs: before %08x, after %08x", before.hash, after.hash)
		}
	}
	if len(before.keys) != len(after.keys) {
		s.Fatalf("demo: %d keys before, %d after", len(before.keys), len(after.keys))
	}
	for k, b := range before.keys {
		a := after.keys[k]
		if !proto.Equal(a, b) {
			s.Fatalf("demo: %s differs: before %v, after %v", k, b, a)
		}
	}
	s.say("HashKV of all three members is %08x before and after; all %d keys are equal: value, create and mod revision, version, lease.", before.hash[0], len(before.keys))
}
