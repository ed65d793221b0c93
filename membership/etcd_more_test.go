package membership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// open seals a plan and makes it the open one.
func (r *rig) open(p plan.Plan, err error) (*plan.Plan, *plan.Runner) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	sealed, err := plan.New(p)
	if err != nil {
		r.t.Fatal(err)
	}
	op := r.runner("op", r.site().Actions())
	if err := op.Open(r.t.Context(), sealed); err != nil {
		r.t.Fatal(err)
	}
	return sealed, op
}

// TestEvict: a learner that never catches up is removed again, and everything can be rolled back; then the same member is added as if nothing had been.
func TestEvict(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{})
	cli := r.ClientOf(t, 0)
	n := r.newcomer("m1", "")
	p, op := r.open(r.origin("").Add(Newcomer{Name: "m1", PeerURL: n.peerURL}))
	acts := n.actions()
	started := acts[doStarted]
	acts[doStarted] = plan.Action{Do: func(ctx context.Context, task *plan.Task) (any, error) {
		out, err := started.Do(ctx, task)
		if err == nil {
			n.member.Proc.Kill() // it stalls as soon as it has started
		}
		return out, err
	}}
	host := r.runner("host-m1", acts)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := host.Run(t.Context(), p, "m1"); err != nil {
			t.Errorf("the new machine: %v", err)
		}
	})
	err := op.Run(t.Context(), p, Operator)
	wait.Wait()
	if err == nil || !strings.Contains(err.Error(), "made no progress for 3s") || !strings.Contains(err.Error(), "it was removed again") || !strings.Contains(fail.HintOf(err), "rollback "+p.ID) {
		t.Fatalf("got %v (hint %q), want an eviction", err, fail.HintOf(err))
	}
	r.want(cli, "m0")
	if err := op.Run(t.Context(), p, Operator); err == nil || !strings.Contains(err.Error(), "not a member any more") {
		t.Errorf("going on after the eviction: %v", err)
	}
	wait.Go(func() { // the last step that was begun is the operator's, so that each waits for the other
		if _, err := host.Rollback(t.Context(), p, "m1"); err != nil {
			t.Errorf("roll the new machine back: %v", err)
		}
	})
	if _, err := op.Rollback(t.Context(), p, Operator); err != nil {
		t.Errorf("roll back: %v", err)
	}
	wait.Wait()
	if _, st, err := plan.Load(t.Context(), op.Board, p.ID); err != nil || st.Phase != plan.RolledBack {
		t.Fatalf("the plan is not rolled back: %v", err)
	}
	r.Members = r.Members[:1]
	r.add("m1", false)
	r.want(cli, "m0", "m1")
}

// TestWithdraw: an addition for which no machine comes is rolled back, and leaves no learner; when the machine began and is gone, the learner goes all the same.
func TestWithdraw(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{})
	cli := r.ClientOf(t, 0)
	n := r.newcomer("m1", "")
	p, op := r.open(r.origin("").Add(Newcomer{Name: "m1", PeerURL: n.peerURL}))
	n.stall = true
	acts := n.actions()
	configure := acts[doConfigure]
	gone, cancel := context.WithCancel(t.Context())
	acts[doConfigure] = plan.Action{Do: func(ctx context.Context, task *plan.Task) (any, error) {
		if _, err := configure.Do(ctx, task); err != nil {
			return nil, err
		}
		r.want(cli, "m0", "*")
		cancel() // the machine loses its power in the middle of the step
		return nil, errors.New("power cut")
	}}
	var wait sync.WaitGroup
	ctx, broken := context.WithCancel(t.Context())
	wait.Go(func() {
		_ = r.runner("host-m1", acts).Run(gone, p, "m1")
		broken() // Ctrl-C
	})
	err := op.Run(ctx, p, Operator)
	wait.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want to be broken off", err)
	}
	short, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if _, err := op.Rollback(short, p, Operator); err == nil {
		t.Error("the rollback did not wait for the other machine")
	}
	if err := r.site().Evict(t.Context(), p, t.Logf); err != nil {
		t.Fatal(err)
	}
	r.want(cli, "m0")
}

// TestOthersInterfere: what another person changed meanwhile stops a plan before its next change; of two operators one may open a plan.
func TestOthersInterfere(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{})
	cli := r.ClientOf(t, 0)
	n := r.newcomer("m1", "")
	p, op := r.open(r.origin("").Add(Newcomer{Name: "m1", PeerURL: n.peerURL}))
	second, err := r.origin("").Add(Newcomer{Name: "m9", PeerURL: "http://" + lab.FreeAddr(t)})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := plan.New(second)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "a second operator", r.runner("op2", r.site().Actions()).Open(t.Context(), sealed), fail.Unsafe, "one plan at a time", p.ID)
	if _, err := cli.MemberAddAsLearner(t.Context(), []string{"http://" + lab.FreeAddr(t)}); err != nil {
		t.Fatal(err)
	}
	if err := r.runner("host-m1", n.actions()).Run(within(t, 5*time.Second), p, "m1"); err == nil {
		t.Error("the new machine went on")
	}
	err = op.Run(within(t, 20*time.Second), p, Operator)
	if err == nil || !strings.Contains(err.Error(), "the cluster changed since the plan was made") {
		t.Errorf("got %v, want an outdated plan", err)
	}
	r.want(cli, "m0", "*")
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestSmallChanges: an orphan learner is promoted or taken up again, the leadership moves, a peer URL is updated; in a cluster in mid-upgrade with TLS for clients.
func TestSmallChanges(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{Version: "3.5", TLS: true, Members: 1})
	cli := r.ClientOf(t, 0)
	// A learner that somebody else has added at that URL and that never started is taken up.
	n := r.newcomer("m1", "")
	n.version = "3.6"
	if _, err := cli.MemberAddAsLearner(t.Context(), []string{n.peerURL}); err != nil {
		t.Fatal(err)
	}
	p, err := r.origin("").Add(Newcomer{Name: "m1", PeerURL: n.peerURL})
	if _, err := r.do(p, err, n); err != nil {
		t.Fatalf("take the orphan up: %v", err)
	}
	r.want(cli, "m0", "m1")
	w := r.write()
	if _, err := r.origin("").Promote("m1"); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "voter already") {
		t.Errorf("a voter is promoted: %v", err)
	}
	i := lateLearner(t, r)
	p, err = r.origin("versions differ on purpose").Promote(r.Members[i].Name)
	if _, err := r.do(p, err, nil); err != nil {
		t.Fatalf("promote: %v", err)
	}
	r.want(cli, "m0", "m1", "m2")
	site := r.site()
	for _, to := range []string{"m2", "m2", ""} {
		leader, err := site.MoveLeader(t.Context(), to, t.Logf)
		if err != nil || to != "" && leader.Name != to || to == "" && leader.Name == "m2" {
			t.Errorf("move the leadership to %q: %v, %v", to, leader, err)
		}
	}
	if _, err := site.MoveLeader(t.Context(), "m7", t.Logf); fail.ExitCode(err) != fail.Usage {
		t.Errorf("to a member that is not there: %v", err)
	}
	r.updateURL(w.Report().Acknowledged > 0)
	w.Finish(t, cli).Check(t, stallMax)
}

// lateLearner adds a learner of the newer version by other means.
func lateLearner(t *testing.T, r *rig) int {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "the members have been connected for a while", func() error {
		list, err := r.ClientOf(t, 0).MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"})
		if err != nil {
			return err
		}
		_, err = r.ClientOf(t, 0).MemberRemove(t.Context(), list.Member.ID)
		return err
	})
	return r.AddLearner(t)
}

// updateURL gives m1 another peer URL, at which it listens then.
func (r *rig) updateURL(writes bool) {
	r.t.Helper()
	if !writes {
		r.t.Error("nothing was written meanwhile")
	}
	m := r.Members[1]
	url := "http://" + lab.FreeAddr(r.t)
	p, err := r.origin("versions differ on purpose").Update(m.Name, []string{url}, false)
	if err != nil {
		r.t.Fatal(err)
	}
	sealed, op := r.open(p, nil)
	acts := r.site().Actions()
	acts[doReaddress] = plan.Action{Do: func(context.Context, *plan.Task) (any, error) {
		m.Proc.Stop()
		m.PeerURL = url
		r.Readdress(r.t, 1, url)
		return nil, nil
	}}
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := r.runner("host-m1", acts).Run(r.t.Context(), sealed, "m1"); err != nil {
			r.t.Errorf("the member's machine: %v", err)
		}
	})
	if err := op.Run(r.t.Context(), sealed, Operator); err != nil {
		r.t.Errorf("update: %v", err)
	}
	wait.Wait()
	list, err := r.ClientOf(r.t, 0).MemberList(r.t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(list.Members), url) {
		r.t.Errorf("the members are %v (%v), want one at %s", list, err, url)
	}
}

// TestWrongCluster: endpoints of two clusters, and a plan for another one, are refused.
func TestWrongCluster(t *testing.T) {
	slow(t)
	t.Parallel()
	r, other := newRig(t, lab.EtcdOptions{}), newRig(t, lab.EtcdOptions{Token: "other"})
	v, err := probe.Look(t.Context(), probe.Access{Endpoints: append(r.Endpoints(), other.Endpoints()...)}, probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Origin{View: v}.Add(Newcomer{Name: "m1", PeerURL: "http://" + lab.FreeAddr(t)})
	wantRefused(t, "two clusters", err, fail.Unsafe, "belong to different clusters", "one cluster")
	p, op := r.open(r.origin("").Add(Newcomer{Name: "m1", PeerURL: "http://" + lab.FreeAddr(t)}))
	p.Steps[0].Party = Operator // never mind the seal: the action is asked alone
	task := &plan.Task{Plan: p, Step: p.Steps[1]}
	s := other.site()
	if _, err := s.backup(t.Context(), task); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "different clusters") {
		t.Errorf("a plan of another cluster: %v", err)
	}
	r.Stop(0)
	if _, err := s.backup(t.Context(), task); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "the plan is for cluster") {
		t.Errorf("a plan of another cluster that is down: %v", err)
	}
	_ = op
}

// TestNoRights: a user without rights changes nothing, and is told so in one sentence.
func TestNoRights(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{})
	cli := r.ClientOf(t, 0)
	for _, f := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := cli.RoleAdd(ctx, "root"); return err },
		func(ctx context.Context) error { _, err := cli.UserAdd(ctx, "root", "pw"); return err },
		func(ctx context.Context) error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func(ctx context.Context) error { _, err := cli.UserAdd(ctx, "nobody", "pw"); return err },
		func(ctx context.Context) error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for user, want := range map[string]string{"": "no user was given", "nobody": "refuses", "root": ""} {
		a := r.access()
		a.Username, a.Password = user, map[bool]string{true: "pw"}[user != ""]
		v, err := probe.Look(t.Context(), a, probe.Options{Hash: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Origin{View: v}.Add(Newcomer{Name: "m1", PeerURL: "http://" + lab.FreeAddr(t)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || fail.HintOf(err) == "" || strings.Contains(err.Error(), "\n")) {
			t.Errorf("user %q: %v (hint %q)", user, err, fail.HintOf(err))
		}
	}
	r.want(r.ClientAs(t, "root", "pw"), "m0")
}

// TestVoterLostMidway: a voter that is cut off after the learner has caught up holds the promotion up, and nothing else; when it is back, the plan goes on.
func TestVoterLostMidway(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{Members: 3})
	cli := r.ClientOf(t, r.Leader(t))
	w := r.write()
	follower := (r.Leader(t) + 1) % 3
	n := r.newcomer("m3", "")
	p, op := r.open(r.origin("").Add(Newcomer{Name: "m3", PeerURL: n.peerURL}))
	catchUp := op.Actions[doCatchUp]
	held := make(chan struct{})
	op.Actions[doCatchUp] = plan.Action{Do: func(ctx context.Context, task *plan.Task) (any, error) {
		out, err := catchUp.Do(ctx, task)
		resume := r.Pause(t, follower)
		time.AfterFunc(6*time.Second, func() {
			r.want(cli, "m0", "m1", "m2", "m3*") // all the while it is a learner
			resume()
			close(held)
		})
		return out, err
	}}
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := r.runner("host-m3", n.actions()).Run(t.Context(), p, "m3"); err != nil {
			t.Errorf("the new machine: %v", err)
		}
	})
	err := op.Run(t.Context(), p, Operator)
	wait.Wait()
	<-held
	if err != nil {
		t.Fatal(err)
	}
	r.want(cli, "m0", "m1", "m2", "m3")
	w.Finish(t, cli).Check(t, stallMax)
}
