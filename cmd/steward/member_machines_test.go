package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
)

// fleet is real machines with systemd, steward as `make install` leaves it, and a store that all of them reach.
type fleet struct {
	t *testing.T
	n *machines.Net
	c *machines.Cluster
}

// newFleet boots machines, of which the first ones form a cluster; the others are prepared for one.
func newFleet(t *testing.T, count, members int, o machines.EtcdOptions) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines")
	}
	f := &fleet{t: t, n: machines.Start(t, machines.Options{Count: count, IPv6: o.IPv6})}
	o.Machines = f.n.Machines[:members]
	f.c = machines.Etcd(t, f.n, o)
	s3 := lab.StartS3(t, lab.S3Options{Host: f.n.HostIP})
	ca, err := os.ReadFile(s3.CA.File)
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range f.n.Machines {
		m.InstallSteward(t)
		m.WriteFile(t, "/etc/steward/s3-ca.pem", string(ca), 0o644, "")
		m.WriteFile(t, "/etc/steward/credentials/s3-access-key-id", s3.Access+"\n", 0o600, "")
		m.WriteFile(t, "/etc/steward/credentials/s3-secret-access-key", s3.Secret+"\n", 0o600, "")
		m.WriteFile(t, "/etc/steward/steward.yaml", fmt.Sprintf("store: %s\ns3: {endpoint: %q, ca_file: /etc/steward/s3-ca.pem}\nencryption: {recipients: [%s]}\n",
			s3.URL(), s3.Endpoint, id.Recipient()), 0o640, "")
	}
	return f
}

// prepare makes a machine one that could be a member: its tool has written a configuration, with certificates, and with the members as it imagines them.
func (f *fleet) prepare(machine string) *machines.Member {
	f.t.Helper()
	mem := machines.PrepareEtcd(f.t, f.c, f.n.Machine(machine))
	f.c.Configure(f.t, mem, "somebody=https://192.0.2.1:2380,"+mem.MemberName+"="+mem.PeerURL, "new")
	return mem
}

func stewardArgs(args ...string) []string {
	return append([]string{"env", "CREDENTIALS_DIRECTORY=/etc/steward/credentials", "steward"}, args...)
}

// run runs steward on a machine, and wants that exit code.
func (f *fleet) run(code int, m *machines.Machine, args ...string) machines.Result {
	f.t.Helper()
	r := m.Run(f.t.Context(), stewardArgs(args...)...)
	f.t.Logf("%s# steward %s\n%s%s", m.Name, strings.Join(args, " "), r.Stdout, r.Stderr)
	if r.Code != code {
		f.t.Fatalf("steward %s on %s: exit code %d, want %d", strings.Join(args, " "), m.Name, r.Code, code)
	}
	return r
}

var memberPlan = regexp.MustCompile(`member-[a-z]+-[0-9a-f]{16}`)

// begin runs a command that makes a plan in the background, and returns when the plan is open.
func (f *fleet) begin(m *machines.Machine, args ...string) (op *machines.Process, id string) {
	f.t.Helper()
	op = m.Exec(f.t, stewardArgs(append(args, "--yes")...)...)
	lab.Eventually(f.t, time.Minute, "a plan is open", func() error {
		id = memberPlan.FindString(op.Tail(64 << 10))
		select {
		case <-op.Done():
			f.t.Fatalf("steward %s: %v\n%s", strings.Join(args, " "), op.Err(), op.Tail(4<<10))
		default:
		}
		if id == "" || !strings.Contains(op.Tail(64<<10), "on the new machine") {
			return errors.New("none yet")
		}
		return nil
	})
	return op, id
}

// end waits until a command is done, which it must be without error.
func (f *fleet) end(op *machines.Process) {
	f.t.Helper()
	select {
	case <-op.Done():
	case <-time.After(4 * time.Minute):
		f.t.Fatalf("it is not done:\n%s", op.Tail(8<<10))
	}
	f.t.Log(op.Tail(8 << 10))
	if err := op.Err(); err != nil {
		f.t.Fatalf("%v", err)
	}
}

// bring has a command on one machine bring a new member in on another.
func (f *fleet) bring(by *machines.Machine, mem *machines.Member, args ...string) {
	f.t.Helper()
	op, id := f.begin(by, args...)
	f.run(0, mem.Machine, "member", "join", id, "--yes")
	f.end(op)
	if !slices.Contains(f.c.Members, mem) {
		f.c.Members = append(f.c.Members, mem)
	}
	f.c.WaitHealthy(f.t)
}

// names are the members', learners with a star.
func (f *fleet) want(cli *clientv3.Client, want ...string) {
	f.t.Helper()
	list, err := cli.MemberList(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, m := range list.Members {
		name := m.Name
		if m.IsLearner {
			name += "*"
		}
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.t.Errorf("the members are %q, want %q", got, want)
	}
}

// stallMax is how long nothing may be written: an election, on a machine that has better to do.
const stallMax = 8 * time.Second

// TestMachinesGrowAndShrink: one kubespray master becomes three and then one again, while somebody writes.
func TestMachinesGrowAndShrink(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 1, machines.EtcdOptions{})
	m1 := f.n.Machines[0]
	cli := f.c.Client(t, f.c.Members[0].Endpoint)
	w := machines.Write(t, f.c.ClientConfig(t), machines.WriterOptions{})
	late := f.brokenOff(m1, f.prepare("m2"))
	f.want(cli, "etcd1")
	for i, name := range []string{"m2", "m3"} {
		mem := late
		if i > 0 {
			mem = f.prepare(name)
		}
		f.bring(m1, mem, "member", "add", mem.MemberName, mem.PeerURL)
		f.want(cli, []string{"etcd1", "etcd2", "etcd3"}[:i+2]...)
		w.SetEndpoints(f.c.Endpoints()...)
	}
	f.run(4, m1, "member", "remove", "etcd3", "--yes")
	r := f.run(0, m1, "member", "remove", "etcd3", "--force", "the test shrinks it", "--yes")
	w.SetEndpoints(f.c.Endpoints()[:2]...)
	f.run(0, f.n.Machine("m2"), "member", "remove", "etcd2", "--yes") // on its own machine
	w.SetEndpoints(f.c.Endpoints()[:1]...)
	f.want(cli, "etcd1")
	m3 := f.n.Machine("m3") // late, but its data tell that it is still what the plan removed
	f.run(0, m3, "plan", "run", memberPlan.FindString(r.Stderr), "--party", "etcd3", "--yes")
	m3.Must(t, "sh", "-c", "test ! -e /var/lib/etcd/member && ls -d /var/lib/etcd.bak-* && ! systemctl is-active etcd")
	w.Finish(t, cli).Check(t, stallMax)
}

// brokenOff begins an addition whose new machine cannot start etcd and loses its power, and breaks it off with Ctrl-C: no learner is left. Then the machine comes back, and
// is as it was.
func (f *fleet) brokenOff(by *machines.Machine, mem *machines.Member) *machines.Member {
	f.t.Helper()
	before := mem.ReadFile(f.t, mem.Files.Config)
	mem.Script(f.t, "mv /usr/local/bin/etcd /usr/local/bin/etcd.good; cp -L /bin/false /usr/local/bin/etcd")
	op, id := f.begin(by, "member", "add", mem.MemberName, mem.PeerURL)
	join := mem.Exec(f.t, stewardArgs("member", "join", id, "--yes")...)
	lab.Eventually(f.t, time.Minute, "the new machine waits for its etcd", func() error {
		if text := join.Tail(64 << 10); !strings.Contains(text, "wait-started: wait until") {
			return errors.New(text)
		}
		return nil
	})
	mem.PowerCut(f.t)
	if err := op.Signal(unix.SIGINT); err != nil {
		f.t.Fatal(err)
	}
	lab.Eventually(f.t, time.Minute, "the learner is removed again", func() error { // the signal ends nsenter at once, and steward later
		if text := op.Tail(64 << 10); !strings.Contains(text, "steward: interrupted") || !strings.Contains(text, "the learner was removed again; ") {
			return errors.New(text)
		}
		return nil
	})
	mem.Boot(f.t)
	back := mem.Exec(f.t, stewardArgs("plan", "rollback", id, "--party", mem.MemberName, "--yes")...) // its first step was before the operator's: each waits for the other
	f.run(0, by, "plan", "rollback", id, "--party", "operator", "--yes")
	f.end(back)
	if after := mem.ReadFile(f.t, mem.Files.Config); after != before {
		f.t.Errorf("the configuration is\n%s\nand was\n%s", after, before)
	}
	mem.Script(f.t, "mv /usr/local/bin/etcd.good /usr/local/bin/etcd")
	return mem
}

// wipe makes a machine lose its disk, and its etcd start again and again with the old identity and no data.
func (f *fleet) wipe(m *machines.Member) {
	f.t.Helper()
	f.c.Stop(f.t, m)
	m.Script(f.t, fmt.Sprintf("mv %s %s.lost", m.DataDir, m.DataDir))
	f.c.Start(f.t, m)
}

// TestMachinesReplace: a master that lost its disk is replaced at its own address, and loses its power in the middle; one that is gone for good is replaced at another address, by
// another name, and comes back too late; somebody writes all the while.
func TestMachinesReplace(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4, 3, machines.EtcdOptions{Flavour: machines.DropIn})
	m1, lost, burnt := f.n.Machines[0], f.c.Members[2], f.c.Members[1]
	cli := f.c.Client(t, f.c.Members[0].Endpoint)
	w := machines.Write(t, f.c.ClientConfig(t, f.c.Endpoints()[:2]...), machines.WriterOptions{})
	f.wipe(lost)
	lab.Eventually(t, time.Minute, "the wiped member does not answer", func() error {
		if r := m1.Run(t.Context(), stewardArgs("member", "replace", "m3", "--dry-run")...); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	op, id := f.begin(m1, "member", "replace", "m3")
	join := lost.Exec(t, stewardArgs("member", "join", id, "--yes")...)
	lab.Eventually(t, 3*time.Minute, "the learner is added", func() error {
		if text := join.Tail(64 << 10); !strings.Contains(text, "start: start etcd") {
			return errors.New(text)
		}
		return nil
	})
	lost.PowerCut(t)
	lost.Boot(t)
	f.run(0, lost.Machine, "member", "join", id, "--yes")
	<-op.Done()
	if op.Err() != nil { // power does not go everywhere at once: what of the machine still lived may have told that its step failed
		if text := op.Tail(64 << 10); !strings.Contains(text, "failed on m3") {
			t.Fatalf("member replace: %v\n%s", op.Err(), text)
		}
		f.run(0, m1, "plan", "run", id, "--party", "operator", "--yes")
	}
	f.c.WaitHealthy(t)
	f.want(cli, "m1", "m2", "m3")

	burnt.PowerCut(t)
	w.SetEndpoints(f.c.Endpoints()[0], f.c.Endpoints()[2])
	mem := f.prepare("m4")
	f.c.Members = []*machines.Member{f.c.Members[0], lost}
	lab.Eventually(t, time.Minute, "the dead member is missed", func() error {
		if r := m1.Run(t.Context(), stewardArgs("member", "replace", "m2", "--peer-url", mem.PeerURL, "--dry-run")...); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	op, id = f.begin(m1, "member", "replace", burnt.PeerURL, "--peer-url", mem.PeerURL, "--name", "m4")
	f.run(0, mem.Machine, "member", "join", id, "--yes")
	f.end(op)
	f.c.Members = append(f.c.Members, mem)
	f.c.WaitHealthy(t)
	f.want(cli, "m1", "m3", "m4")
	burnt.Boot(t) // it finds that it was removed, and ends; until it is told, systemd starts it again and again
	f.run(0, burnt.Machine, "plan", "run", id, "--party", "old-m2", "--yes")
	if state := burnt.Property(t, "etcd", "ActiveState"); state != "inactive" {
		t.Errorf("etcd of the removed member is %s", state)
	}
	burnt.Must(t, "sh", "-c", "test ! -e /var/lib/etcd/member && ls -d /var/lib/etcd.bak-*")
	w.Finish(t, cli).Check(t, stallMax)
}

// TestMachinesStaticPods: kubeadm masters with IPv6: one is replaced although it lives, by force and at its own address; and removed, which the API server of
// the machine where that is typed is told.
func TestMachinesStaticPods(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 3, machines.EtcdOptions{Flavour: machines.StaticPod, IPv6: true})
	m1, sick := f.n.Machines[0], f.c.Members[2]
	cli := f.c.Client(t, f.c.Members[0].Endpoint)
	w := machines.Write(t, f.c.ClientConfig(t, f.c.Endpoints()[:2]...), machines.WriterOptions{})
	r := f.run(4, m1, "member", "replace", sick.MemberName, "--yes")
	if !strings.Contains(r.Stderr, "only a dead member is replaced") || !strings.Contains(r.Stderr, "--force") {
		t.Errorf("a live member is replaced: %s", r.Stderr)
	}
	f.bring(m1, sick, "member", "replace", sick.MemberName, "--force", "its disk is slow")
	f.want(cli, "m1", "m2", "m3")
	m1.WriteFile(t, "/etc/kubernetes/manifests/kube-apiserver.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver, namespace: kube-system}
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.33.0
    command:
    - kube-apiserver
    # all masters
    - --etcd-servers=%s,%s
    - --secure-port=6443
`, f.c.Members[0].Endpoint, sick.Endpoint), 0o600, "")
	f.run(0, m1, "member", "remove", sick.MemberName, "--force", "the test shrinks it", "--yes")
	if text := m1.ReadFile(t, "/etc/kubernetes/manifests/kube-apiserver.yaml"); strings.Contains(text, sick.Endpoint) || !strings.Contains(text, "--etcd-servers="+f.c.Members[0].Endpoint) {
		t.Errorf("the API server asks %s", text)
	}
	w.Finish(t, cli).Check(t, stallMax)
}
