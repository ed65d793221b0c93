package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// replay applies a log to nothing, as far as a revision, and compares with the cluster's keys at that revision: value, revisions, version and lease.
func (r *rig) replay(l *log, to int64) {
	r.t.Helper()
	have := map[string]string{}
	for rev := l.from; rev <= repo.Revision(to); rev++ {
		for _, rec := range l.records[rev] {
			kv, err := changes.ParseKeyValue([]byte(rec.Value))
			if err != nil {
				r.t.Fatal(err)
			}
			if len(rec.Key) == changes.TombstoneKeyLen {
				delete(have, string(kv.Key))
				continue
			}
			have[string(kv.Key)] = rec.Value
		}
	}
	resp, err := r.cli.Get(r.t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(to))
	if err != nil {
		r.t.Fatal(err)
	}
	if len(resp.Kvs) != len(have) {
		r.t.Fatalf("%d keys at revision %d, want %d", len(have), to, len(resp.Kvs))
	}
	for _, kv := range resp.Kvs {
		want := changes.AppendKeyValue(nil, changes.KeyValue{
			Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Value: kv.Value, Lease: kv.Lease,
		})
		if have[string(kv.Key)] != string(want) {
			r.t.Fatalf("key %s at revision %d differs", kv.Key, to)
		}
	}
}

// TestMembers: members die, restart and lose the lead, history is compacted, leases expire; the log stays whole.
func TestMembers(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{Members: 3})
	o := r.options()
	o.Stall = 2 * time.Second
	run := r.start(o)
	first := run.has(SignalFirst)
	s := lab.Seed(t)
	w := &changestest.Workload{
		Client: r.cli, Seed: s, Leases: true, TTL: 1, Wide: 300, Compact: 40, CompactKeep: 400, DisturbEvery: 120,
		Disturb: func(rng *rand.Rand) { r.disturb(run, rng) },
	}
	for range 2 {
		if _, err := w.Run(t.Context(), 450); err != nil {
			t.Fatal(err)
		}
		r.restart(r.watched(run), r.c.Kill) // whatever the seed, the watched member dies, also between writes
	}
	last := r.put(1)
	run.waitStored(last)
	if n := run.got(SignalGap) + run.got(SignalEnded); n != 0 {
		t.Fatalf("signals %+v", run.signals)
	}
	if run.Status().Reconnects == 0 {
		t.Error("the recorder never had to reconnect: the test shows little")
	}
	l := r.read(run.timeline())
	if l.from != first.To+1 {
		t.Fatalf("the log begins at %d, want %d", l.from, first.To+1)
	}
	r.replay(l, last)
}

// watches is the member that run watches, if it watches one.
func (r *rig) watches(run *running) (int, bool) {
	for i := range 3 {
		if r.c.Endpoint(i) == run.Status().Endpoint {
			return i, true
		}
	}
	return 0, false
}

// watched is the member that is watched, as soon as there is one.
func (r *rig) watched(run *running) (i int) {
	lab.Eventually(r.t, 20*time.Second, "a member is watched", func() error {
		var ok bool
		if i, ok = r.watches(run); !ok {
			return errors.New("none is")
		}
		return nil
	})
	return i
}

// restart ends a member and starts it again.
func (r *rig) restart(i int, end func(int)) {
	end(i)
	r.c.Restart(r.t, i)
	r.c.WaitHealthy(r.t)
}

// disturb kills or stops the member that is watched, or another, or moves the lead.
func (r *rig) disturb(run *running, rng *rand.Rand) {
	i := rng.IntN(3)
	if k, ok := r.watches(run); rng.IntN(2) == 0 && ok { // of several recorders in turn, this one may be in the wings
		i = k
	}
	switch rng.IntN(3) {
	case 0:
		r.restart(i, r.c.Kill)
	case 1:
		r.restart(i, r.c.Stop)
	case 2:
		leader := r.c.Leader(r.t)
		cli := r.c.ClientOf(r.t, leader)
		list, err := cli.MemberList(r.t.Context())
		if err != nil {
			return
		}
		st, err := cli.Status(r.t.Context(), r.c.Endpoint(leader))
		for _, m := range list.Members {
			if err == nil && m.ID != st.Leader {
				_, _ = cli.MoveLeader(r.t.Context(), m.ID)
				return
			}
		}
	}
}

// TestCutOff: a member that hangs is left for another one.
func TestCutOff(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{Members: 3})
	o := r.options()
	o.Stall = time.Second
	run := r.start(o)
	first := run.has(SignalFirst)
	run.waitStored(r.put(5))
	was := run.Status().Endpoint
	for i := range 3 {
		if r.c.Endpoint(i) == was {
			defer r.c.Pause(t, i)()
		}
	}
	var rest []string
	for _, e := range r.c.Endpoints() {
		if e != was {
			rest = append(rest, e)
		}
	}
	cli, err := clientv3.New(clientv3.Config{Endpoints: rest})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cli.Close() }()
	r.cli = cli
	var last int64
	lab.Eventually(t, 30*time.Second, "the other members elect a leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp, err := cli.Put(ctx, "key", "value")
		if err == nil {
			last = resp.Header.Revision
		}
		return err
	})
	run.waitStored(last)
	if now := run.Status(); now.Endpoint == was || now.Reconnects == 0 {
		t.Fatalf("status %+v: it watches the member that hangs", now)
	}
	r.mustEqual(r.read(run.timeline()), int64(first.To)+1, last)
}

// TestKilled: a recorder that is killed again and again loses nothing and repeats nothing that disagrees.
func TestKilled(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	spool := t.TempDir()
	rng := rand.New(rand.NewPCG(lab.Seed(t), 0))
	from := r.put(1)
	stop := make(chan struct{})
	wrote := make(chan int64)
	w := &changestest.Workload{Client: r.cli, Seed: rng.Uint64(), Leases: true}
	go func() {
		for {
			last, err := w.Run(t.Context(), 10)
			if err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				wrote <- last
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	for range 5 {
		child := r.child(t, spool, "quick")
		time.Sleep(time.Duration(1000+rng.IntN(2000)) * time.Millisecond) // a kill comes at any moment: there is nothing to wait for
		child.Kill()
	}
	close(stop)
	<-wrote
	run := r.start(func() Options { o := r.options(); o.SpoolDir = spool; return o }())
	run.waitState(Recording)
	last := r.put(1)
	run.waitStored(last)
	l := r.read(run.timeline())
	if int64(l.from) < from || len(l.segments) < 3 {
		t.Fatalf("%d segments from revision %d", len(l.segments), l.from)
	}
	r.mustEqual(l, int64(l.from), last)
}

const childEnv = "STEWARD_TEST_RECORD"

// child starts this test binary as a process that records.
func (r *rig) child(t lab.T, spool, pace string) *lab.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	recipient := r.ids[0].(*age.X25519Identity).Recipient().String()
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{pace, r.dir, spool, recipient}, r.c.Endpoints()...), " "))
	return lab.Start(t, "recorder", cmd)
}

// TestMain makes the processes of TestKilled out of this binary.
func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(childEnv)); len(args) >= 5 {
		fmt.Println(recordAsChild(args))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// openPatiently opens a repository whose store may be away.
func openPatiently(ctx context.Context, dir string) (*repo.Repo, error) {
	for try := 0; ; try++ {
		st, err := store.Open(ctx, store.Config{URL: "file://" + dir})
		if err == nil {
			var rp *repo.Repo
			if rp, err = repo.Open(ctx, st, "test"); err == nil {
				return rp, nil
			}
		}
		if try == 1000 {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// recordAsChild records until it is killed.
func recordAsChild(args []string) error {
	ctx := context.Background()
	quick := args[0] == "quick"
	args = args[1:]
	rp, err := openPatiently(ctx, args[0])
	if err != nil {
		return err
	}
	recipient, err := age.ParseX25519Recipient(args[2])
	if err != nil {
		return err
	}
	o := Options{Repo: rp, Cluster: snapshot.Cluster{Endpoints: args[3:]}, Recipients: []age.Recipient{recipient}, SpoolDir: args[1], Host: "child"}
	if quick {
		o.Flush, o.SegmentSize, o.Progress, o.MarkEvery, o.TurnTTL = 200*time.Millisecond, 20<<10, 100*time.Millisecond, 200*time.Millisecond, time.Second
	}
	rec, err := New(o)
	if err != nil {
		return err
	}
	return rec.Run(ctx)
}
