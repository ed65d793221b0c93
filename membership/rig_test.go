package membership

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// slow says why a test that starts servers does not run with -short.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
}

// hurry is the pace of tests on loopback.
var hurry = Pace{
	Poll: 50 * time.Millisecond, Hold: 300 * time.Millisecond, NoProgress: 3 * time.Second, Promote: 30 * time.Second, Retry: 30 * time.Second,
	Add: 20 * time.Second, Dead: 300 * time.Millisecond, Watch: 100 * time.Millisecond, Calm: 500 * time.Millisecond, Settle: 300 * time.Millisecond, Start: 30 * time.Second,
}

// rig is a real cluster, a real store, and machines that are folders.
type rig struct {
	*lab.Cluster
	t   *testing.T
	dir string // the store, and journals
	mu  sync.Mutex

	plans int // so that two of one second are not the same
}

func newRig(t *testing.T, o lab.EtcdOptions) *rig {
	t.Helper()
	o.UnsafeNoFsync = true
	return &rig{Cluster: lab.StartEtcd(t, o), t: t, dir: t.TempDir()}
}

func (r *rig) access() probe.Access {
	return probe.Access{Endpoints: r.Endpoints(), TLS: r.TLSConfig(r.t)}
}

func (r *rig) site() *Site {
	return &Site{Access: r.access(), Pace: hurry, Backup: func(context.Context, func(string, ...any)) (string, error) { return "taken by the test", nil }}
}

// origin is what plans are made from, now.
func (r *rig) origin(force string) Origin {
	r.t.Helper()
	v, err := probe.Settled(r.t.Context(), r.access(), probe.Options{Hash: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.plans++
	return Origin{View: v, At: Now(), Host: fmt.Sprint("test-", r.plans), Force: force, Lookup: lookup}
}

// runner is a machine of that name.
func (r *rig) runner(machine string, actions plan.Actions) *plan.Runner {
	r.t.Helper()
	return runnerAt(r.t, r.dir, machine, actions, func(line string) { r.t.Logf("%s: %s", machine, line) })
}

type fataler interface {
	Helper()
	Fatal(a ...any)
	Context() context.Context
}

func runnerAt(t fataler, dir, machine string, actions plan.Actions, say func(string)) *plan.Runner {
	t.Helper()
	where := filepath.Join(dir, "store")
	if err := os.MkdirAll(where, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + where})
	if err != nil {
		t.Fatal(err)
	}
	rp, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	m := plan.Machine{ID: fmt.Sprintf("%032x", machine), Host: machine}
	return &plan.Runner{Board: rp.Plans(plan.DocumentKind), Lock: &leaseLock{st, m}, Dir: filepath.Join(dir, "machines", machine), Machine: m, Actions: actions, Say: say, Poll: 20 * time.Millisecond}
}

// leaseLock is what cmd/steward gives a runner.
type leaseLock struct {
	st      store.Store
	machine plan.Machine
}

func (l *leaseLock) Hold(ctx context.Context, name string) (context.Context, func(), error) {
	here := l.machine.ID + " process "
	taken, outcome, err := lease.Take(ctx, l.st, "coordination/plans/"+name+".lease.json", lease.Claim{
		Holder: fmt.Sprint(here, os.Getpid()), Tick: time.Now(), TTL: 10 * time.Second, Gone: func(holder string) bool { return strings.HasPrefix(holder, here) },
	})
	if err != nil {
		return nil, nil, err
	}
	if outcome != lease.Mine {
		return nil, nil, &plan.HeldError{By: taken.Status().Holder, Until: taken.Status().Until}
	}
	held, stop := taken.Hold(ctx)
	return held, func() {
		stop()
		_ = taken.Release(context.WithoutCancel(ctx))
	}, nil
}

// newcomer is the machine of a new member, on which the lab is what systemd is elsewhere.
type newcomer struct {
	*rig
	disk          string // where its data is
	name, peerURL string
	version       string
	member        *lab.EtcdMember
	// stall: etcd is not started, or stopped as soon as it has.
	stall bool
}

func (n *newcomer) actions() plan.Actions {
	s := n.site()
	all := s.Actions()
	all[doStopOld] = plan.Action{Do: func(context.Context, *plan.Task) (any, error) { return nil, nil }}
	all[doCheck] = all[doStopOld]
	all[doConfigure] = plan.Action{Do: func(_ context.Context, t *plan.Task) (any, error) {
		var added Added
		if ok, err := t.Result(doAdd, &added); err != nil || !ok {
			return nil, fmt.Errorf("not added: %w", err)
		}
		return added.InitialCluster, nil
	}}
	all[doStart] = plan.Action{
		Do: func(_ context.Context, t *plan.Task) (any, error) {
			var initial string
			if _, err := t.Result(doConfigure, &initial); err != nil {
				return nil, err
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.member == nil && !n.stall {
				n.member = &lab.EtcdMember{Name: n.name, PeerURL: n.peerURL, DataDir: filepath.Join(n.disk, n.name), Version: n.version}
				n.Join(n.t, n.member, initial)
			}
			return nil, nil
		},
		Undo: func(context.Context, *plan.Task) error {
			if n.member != nil {
				n.member.Proc.Stop()
			}
			return nil
		},
	}
	return all
}

// newcomer is a machine with an empty disk. Its peer URL is a new one, if none is given.
func (r *rig) newcomer(name, peerURL string) *newcomer {
	if peerURL == "" {
		peerURL = "http://" + lab.FreeAddr(r.t)
	}
	return &newcomer{rig: r, name: name, peerURL: peerURL, disk: r.t.TempDir()}
}

// do seals a plan, opens it, and runs the operator's part and, beside it, the new machine's.
func (r *rig) do(p plan.Plan, err error, n *newcomer) (*plan.Plan, error) {
	r.t.Helper()
	if err != nil {
		return nil, err
	}
	sealed, err := plan.New(p)
	if err != nil {
		r.t.Fatal(err)
	}
	op := r.runner("op", r.site().Actions())
	if err := op.Open(r.t.Context(), sealed); err != nil {
		return sealed, err
	}
	var wait sync.WaitGroup
	var errs [2]error
	if n != nil {
		wait.Go(func() { errs[1] = r.runner("host-"+n.name, n.actions()).Run(r.t.Context(), sealed, n.name) })
	}
	wait.Go(func() { errs[0] = op.Run(r.t.Context(), sealed, Operator) })
	wait.Wait()
	return sealed, errors.Join(errs[:]...)
}

// add adds a member with all that belongs to it, and returns when it is one.
func (r *rig) add(name string, voter bool) *newcomer {
	r.t.Helper()
	n := r.newcomer(name, "")
	p, err := r.origin("").Add(Newcomer{Name: name, PeerURL: n.peerURL, Voter: voter})
	if _, err := r.do(p, err, n); err != nil {
		r.t.Fatalf("add %s: %v", name, err)
	}
	return n
}

// want compares who the members are: their names, with a star for learners.
func (r *rig) want(cli *clientv3.Client, names ...string) {
	r.t.Helper()
	list, err := cli.MemberList(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var got []string
	for _, m := range list.Members {
		name := m.Name
		if m.IsLearner {
			name += "*"
		}
		got = append(got, name)
	}
	if g, w := sorted(got), sorted(names); g != w {
		r.t.Errorf("the members are %s, want %s", g, w)
	}
}

func sorted(names []string) string {
	all := strings.Fields(strings.Join(names, " "))
	for i := range all { // a handful
		for j := range i {
			if all[i] < all[j] {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	return strings.Join(all, " ")
}

// write writes to all members that there are now, until it is finished.
func (r *rig) write() *machines.Writer {
	r.t.Helper()
	return machines.Write(r.t, clientv3.Config{Endpoints: r.Endpoints(), TLS: r.TLSConfig(r.t)}, machines.WriterOptions{})
}

// stallMax is how long an election on a busy machine may keep everybody from writing.
const stallMax = 10 * time.Second
