package health

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/membership/probe"
)

// TestHandovers: while the leadership goes from member to member, and writes and compactions go on, nothing critical but a read that failed in passing is
// found, and nothing certain of two histories.
func TestHandovers(t *testing.T) {
	slow(t)
	// With fsync: how long a new leader tells the old term is how long its disk takes.
	c := start(t, lab.EtcdOptions{Members: 3})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	cli := c.Client(t)
	wg.Go(func() { // what fails while nobody leads is not the matter here
		for i := 0; ctx.Err() == nil; i++ {
			once, done := context.WithTimeout(ctx, time.Second)
			if r, err := cli.Put(once, fmt.Sprint("k", i%7), fmt.Sprint(i)); err == nil && i%50 == 0 {
				_, _ = cli.Compact(once, r.Header.Revision-int64(i%3))
			}
			done()
		}
	})
	clients := []*clientv3.Client{c.ClientOf(t, 0), c.ClientOf(t, 1), c.ClientOf(t, 2)}
	var moved atomic.Int64
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			once, done := context.WithTimeout(ctx, time.Second)
			if st, err := clients[i%3].Status(once, c.Endpoint(i%3)); err == nil && st.Leader == st.Header.MemberId {
				to, err := clients[(i+1)%3].Status(once, c.Endpoint((i+1)%3))
				if err == nil {
					if _, err = clients[i%3].MoveLeader(once, to.Header.MemberId); err == nil {
						moved.Add(1)
					}
				}
			}
			done()
		}
	})
	begun, looks := time.Now(), 0
	for ; time.Since(begun) < 5*time.Second || moved.Load() < 20; looks++ {
		if time.Since(begun) > time.Minute {
			t.Fatalf("only %d handovers in a minute", moved.Load())
		}
		once, done := context.WithTimeout(ctx, 5*time.Second)
		v, err := probe.Look(once, probe.Access{Endpoints: c.Endpoints()}, probe.Options{Hash: looks%4 == 0})
		done()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range Judge(Input{Now: time.Now(), View: v}) {
			switch f.Kind {
			case Divergence, LeaderDiffers, ClusterDiffers, MembersDiffer, WentBack:
				if f.Severity == Critical {
					t.Errorf("after %d handovers: %+v", moved.Load(), f)
				}
			}
		}
	}
	t.Logf("%d looks, %d handovers", looks, moved.Load())
}
