package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
)

// said waits until a command has said something.
func (f *fleet) said(p *machines.Process, words string) {
	f.t.Helper()
	lab.Eventually(f.t, 2*time.Minute, "it says: "+words, func() error {
		if text := p.Tail(64 << 10); !strings.Contains(text, words) {
			return errors.New(text)
		}
		return nil
	})
}

// TestMachinesPartitioned: a new machine that swallows what comes from one voter is refused before anything is changed; one that is cut off from the leader afterwards, and then is gone, leaves no
// learner, and the operator ends the plan alone. The leader is cut off in the middle of another member's removal: nothing is changed until it is back. Whoever writes
// notices nothing of all this but the election.
func TestMachinesPartitioned(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4, 3, machines.EtcdOptions{})
	leader := f.c.Leader(t)
	var others []*machines.Member
	for _, m := range f.c.Members {
		if m != leader {
			others = append(others, m)
		}
	}
	by, goes := others[0], others[1]
	cli := f.c.Client(t, by.Endpoint)
	w := machines.Write(t, f.c.ClientConfig(t, by.Endpoint, goes.Endpoint), machines.WriterOptions{})
	f.blackHoled(by, goes, leader)
	f.want(cli, "etcd1", "etcd2", "etcd3")

	op := by.Exec(t, stewardArgs("member", "remove", goes.MemberName, "--force", "the test shrinks it", "--yes")...)
	f.said(op, "backup: take")
	leader.Cut(t)
	lab.Eventually(t, 3*time.Minute, "the removal says that it waits, or gives up", func() error {
		text := op.Tail(64 << 10)
		select {
		case <-op.Done():
			return nil
		default:
		}
		if !strings.Contains(text, "not now: ") {
			return errors.New(text)
		}
		return nil
	})
	f.want(cli, "etcd1", "etcd2", "etcd3")
	w.SetEndpoints(by.Endpoint)
	leader.Heal(t)
	select {
	case <-op.Done():
	case <-time.After(6 * time.Minute):
		t.Fatalf("it is not done:\n%s", op.Tail(8<<10))
	}
	text := op.Tail(64 << 10)
	t.Log(text)
	if op.Err() != nil { // it gave up while the leader was away
		if !strings.Contains(text, "hint: ") {
			t.Errorf("it says no way on:\n%s", text)
		}
		f.c.WaitHealthy(t)
		f.want(cli, "etcd1", "etcd2", "etcd3")
		f.run(0, by.Machine, "plan", "run", memberPlan.FindString(text), "--party", "operator", "--yes")
	}
	f.want(cli, by.MemberName, leader.MemberName)
	w.Finish(t, cli).Check(t, stallMax)
}

// blackHoled adds a machine that does not reach everybody: first not one voter, then not the leader, and in the end it is given up.
func (f *fleet) blackHoled(by, voter, leader *machines.Member) {
	f.t.Helper()
	mem := f.prepare("m4")
	mem.Blackhole(f.t, voter.IP)
	op, id := f.begin(by.Machine, "member", "add", mem.MemberName, mem.PeerURL)
	r := f.run(4, mem.Machine, "member", "join", id, "--yes")
	if !strings.Contains(r.Stderr, voter.MemberName) || !strings.Contains(r.Stderr, "cannot be reached as a peer") {
		f.t.Errorf("it does not say who cannot be reached: %s", r.Stderr)
	}
	<-op.Done()
	if text := op.Tail(64 << 10); op.Err() == nil || strings.Contains(text, "add-member: add") || !strings.Contains(text, "cannot be reached as a peer") {
		f.t.Errorf("the first machine says\n%s", text)
	}
	mem.Heal(f.t)
	join := mem.Exec(f.t, stewardArgs("member", "join", id, "--yes")...) // what had failed first
	f.said(join, "configure: waiting for operator")
	op = by.Exec(f.t, stewardArgs("plan", "run", id, "--party", "operator", "--yes")...)
	f.said(op, "add-member: add")
	mem.Blackhole(f.t, leader.IP)
	f.said(join, "wait-started: wait until")
	for _, p := range []*machines.Process{join, op} {
		if err := p.Signal(unix.SIGINT); err != nil {
			f.t.Fatal(err)
		}
		f.said(p, "steward: ")
	}
	f.run(4, mem.Machine, "plan", "rollback", id, "--party", "operator", "--without", mem.MemberName, "--force", "wrong machine", "--yes")
	r = f.run(0, by.Machine, "plan", "rollback", id, "--party", "operator", "--without", mem.MemberName, "--force", "its network is gone for good", "--yes")
	if !strings.Contains(r.Stderr, "left as it is on m4") || !strings.Contains(r.Stdout, "rolled back") {
		f.t.Errorf("it does not say what is left: %s%s", r.Stdout, r.Stderr)
	}
	mem.PowerCut(f.t)
}
