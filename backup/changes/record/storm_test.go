package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// stormSteps is how many bad things happen at least; STEWARD_SOAK asks for more.
const stormSteps = 8

// TestStorm: while a cluster works, the recorder is killed, the store goes away and comes back, members die and restart, history is
// compacted. In the end the log is whole, from its first revision on, and replays to the cluster's keys.
func TestStorm(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{Members: 3})
	rng := rand.New(rand.NewPCG(lab.Seed(t), 0))
	spool, away := t.TempDir(), false
	move := func() {
		from, to := r.dir, r.dir+".away"
		if away {
			from, to = to, from
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		away = !away
	}
	child := r.child(t, spool, "quick")
	lab.Eventually(t, 30*time.Second, "the recorder begins", func() error {
		c, err := r.repo.Catalog(t.Context())
		if err == nil && len(c.Recorded) == 0 {
			err = errors.New("no mark")
		}
		return err
	})
	rev := r.put(1)
	lab.Eventually(t, 30*time.Second, "the first segment", func() error { return r.reached(rev) })
	w := &changestest.Workload{Client: r.cli, Seed: rng.Uint64(), Leases: true, TTL: 2, Wide: 200, Compact: 60, CompactKeep: 5000}
	until := time.Now().Add(changestest.Soak(t, time.Millisecond))
	for step := 0; step < stormSteps || time.Now().Before(until); step++ {
		if _, err := w.Run(t.Context(), 20+rng.IntN(60)); err != nil {
			t.Fatal(err)
		}
		switch rng.IntN(4) {
		case 0:
			move()
		case 1:
			r.disturb(&running{Recorder: &Recorder{queue: &queue{}}}, rng)
		default:
			child.Kill()
			child = r.child(t, spool, "quick")
		}
	}
	if away {
		move()
	}
	last := r.put(1)
	lab.Eventually(t, 60*time.Second, "everything is stored", func() error { return r.reached(last) })
	child.Kill()
	c, err := r.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := r.read(c.Segments[0].Timeline)
	t.Logf("%d segments, revisions %d to %d", len(l.segments), l.from, l.to)
	r.replay(l, last)
}

// reached says whether a revision is in the store.
func (r *rig) reached(rev int64) error {
	c, err := r.repo.Catalog(r.t.Context())
	if err != nil {
		return err
	}
	var last repo.Revision
	for _, s := range c.Segments {
		last = max(last, s.Last)
	}
	if int64(last) < rev {
		return fmt.Errorf("the store has revision %d of %d", last, rev)
	}
	return nil
}

// TestHuge: the deletion of 150,000 keys is one revision of one segment.
func TestHuge(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{ExtraArgs: []string{"--max-txn-ops", "20000"}})
	run := r.start(r.options())
	first := run.has(SignalFirst)
	const n = 150000
	if err := changestest.Fill(t.Context(), r.cli, "/huge/", n, 15000); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := r.cli.Delete(ctx, "/huge/", clientv3.WithPrefix())
	if err == nil && resp.Deleted != n {
		err = errors.New(strconv.FormatInt(resp.Deleted, 10))
	}
	if err != nil {
		t.Fatalf("delete: %v", err)
	}
	last := r.put(1)
	run.waitStored(last)
	_ = run.stop()
	l := r.read(run.timeline())
	if l.from != first.To+1 {
		t.Fatalf("the log begins at %d", l.from)
	}
	if got := len(l.records[repo.Revision(resp.Header.Revision)]); got != n {
		t.Fatalf("%d tombstones, want %d", got, n)
	}
	r.replay(l, last)
}
