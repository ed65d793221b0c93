package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
	"etcd-steward/internal/plan"
)

// blindRuns is how often a cluster is asked for its health of which two members swallow every packet.
const blindRuns = 5

// health measures how long `steward health` takes while two of five members swallow every packet.
func (b *bench) health() {
	n := machines.Start(b, machines.Options{Count: 5})
	c := machines.Etcd(b, n, machines.EtcdOptions{})
	for _, m := range n.Machines[3:] {
		m.Blackhole(b, n.HostIP)
	}
	var took []float64
	for range blindRuns {
		cmd := exec.Command(filepath.Join(lab.Root(), "bin", "steward"), "health", "-o", "json", "--endpoints", strings.Join(c.Endpoints(), ","),
			"--cacert", c.CA.File, "--cert", c.Pair.Cert, "--key", c.Pair.Key)
		start := time.Now()
		out, err := cmd.Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 {
			b.Fatalf("steward health: %v, want exit code 3: %s", err, out)
		}
		took = append(took, time.Since(start).Seconds())
	}
	b.limit("`steward health` of five members, two of which swallow every packet", 5, "s", took)
}

// master is a cluster of machines, of which the last loses its disk again and again.
type master struct {
	b    *bench
	c    *machines.Cluster
	lost *machines.Member
	n    int // how often it was lost
}

// replaceMB bounds the database: three machines share one disk.
const replaceMB = 2000

// replaces compares `steward member replace` and `member join` with the same steps typed as a script of etcdctl: snapshot, remove, add as a learner, configure, start, promote,
// until all are healthy. What steward does beyond that is part of its time: it watches for a minute whether the member is dead, proves the backup, sends it to S3,
// waits until the learner has caught up for ten seconds, and compares the data of all members.
func (b *bench) replaces() {
	n := machines.Start(b, machines.Options{Count: 3})
	c := machines.Etcd(b, n, machines.EtcdOptions{Settings: map[string]string{"quota-backend-bytes": "8589934592", "snapshot-count": "10000"}})
	m := &master{b: b, c: c, lost: c.Members[2]}
	m.equip(n)
	fill := min(b.mb, replaceMB)
	fmt.Fprintf(os.Stderr, "bench: loading %d MB into three members\n", fill)
	lab.Fill(b, c.Client(b), lab.FillOptions{Keys: fill * 1e6 / perKey, ValueSize: valueBytes, Seed: 1})
	var ours, script []float64
	var steps []map[string]float64
	for range max(1, b.rounds/2) {
		m.lose()
		total, each := m.steward()
		ours, steps = append(ours, total), append(steps, each)
		m.lose()
		script = append(script, m.script())
	}
	var r []float64
	for i := range ours {
		r = append(r, ours[i]/script[i])
	}
	b.add(figure{
		what: fmt.Sprintf("replacing a dead member, database of %d MB: `steward member replace` and `join`, against the same steps as a script of etcdctl", fill), target: "none",
		value: median(r), format: "%.2f", ok: true,
		detail: fmt.Sprintf("steward %s s (%s); script %s s; ratios %s", list(ours), longest(steps), list(script), list(r)),
	})
}

// equip installs steward on the machine that operates and on the one that is replaced, with a store in S3.
func (m *master) equip(n *machines.Net) {
	s3 := lab.StartS3(m.b, lab.S3Options{Host: n.HostIP})
	r := &rig{dir: m.b.TempDir()}
	r.newIdentity(m.b)
	ca, err := exec.Command("cat", s3.CA.File).Output()
	if err != nil {
		m.b.Fatalf("read the store's CA: %v", err)
	}
	for _, x := range []*machines.Machine{n.Machines[0], m.lost.Machine} {
		x.InstallSteward(m.b)
		x.WriteFile(m.b, "/etc/steward/s3-ca.pem", string(ca), 0o644, "")
		x.WriteFile(m.b, "/etc/steward/credentials/s3-access-key-id", s3.Access+"\n", 0o600, "")
		x.WriteFile(m.b, "/etc/steward/credentials/s3-secret-access-key", s3.Secret+"\n", 0o600, "")
		x.WriteFile(m.b, "/etc/steward/steward.yaml", fmt.Sprintf("store: %s\ns3: {endpoint: %q, ca_file: /etc/steward/s3-ca.pem}\nencryption: {recipients: [%s]}\n",
			s3.URL(), s3.Endpoint, r.recipient), 0o640, "")
	}
}

// lose kills the last member and takes its disk away, and waits until the others agree on a leader.
func (m *master) lose() {
	m.n++
	m.lost.Script(m.b, fmt.Sprintf("systemctl kill -s KILL etcd || true; systemctl stop etcd; systemctl disable -q etcd; mv %s %s.lost%d", m.lost.DataDir, m.lost.DataDir, m.n))
	rest := m.c.Members[:2]
	m.c.WaitHealthy(m.b, rest...)
	lab.Eventually(m.b, time.Minute, "the others agree on a leader", func() error {
		var leaders []uint64
		for _, x := range rest {
			cli := m.c.Client(m.b, x.Endpoint)
			st, err := cli.Status(m.b.Context(), x.Endpoint)
			_ = cli.Close()
			if err != nil {
				return err
			}
			leaders = append(leaders, st.Leader)
		}
		if leaders[0] == 0 || leaders[0] != leaders[1] {
			return fmt.Errorf("%x", leaders)
		}
		return nil
	})
}

// steward replaces the member. It returns how long that took, and of it each step, in seconds.
func (m *master) steward() (total float64, steps map[string]float64) {
	start := time.Now()
	op := m.c.Members[0].Exec(m.b, "steward", "member", "replace", m.lost.MemberName, "--yes")
	id := ""
	lab.Eventually(m.b, 2*time.Minute, "a plan is open", func() error {
		select {
		case <-op.Done():
			m.b.Fatalf("member replace ended: %v\n%s", op.Err(), op.Tail(4<<10))
		default:
		}
		id = openPlan.FindString(op.Tail(4 << 10))
		if id == "" {
			return errors.New("none yet")
		}
		return nil
	})
	m.lost.Must(m.b, "steward", "member", "join", id, "--yes")
	<-op.Done()
	if err := op.Err(); err != nil {
		m.b.Fatalf("member replace: %v\n%s", err, op.Tail(4<<10))
	}
	total = time.Since(start).Seconds()
	doc := m.c.Members[0].Must(m.b, "steward", "plan", "status", id, "-o", "json")
	var status plan.Status
	if err := json.Unmarshal([]byte(doc), &status); err != nil {
		m.b.Fatalf("plan status: %v: %s", err, doc)
	}
	steps = map[string]float64{}
	for _, party := range status.Parties {
		for _, s := range party.Steps {
			steps[s.Name] = s.Ended.Sub(s.Began).Seconds()
		}
	}
	return total, steps
}

// longest are the steps that take more than a second, the longest first.
func longest(rounds []map[string]float64) string {
	of := func(name string) (all []float64) {
		for _, steps := range rounds {
			all = append(all, steps[name])
		}
		return all
	}
	var names []string
	for name := range rounds[0] {
		if median(of(name)) >= 1 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(median(of(b)), median(of(a))) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", name, list(of(name)))
	}
	return strings.Join(names, ", ")
}

// openPlan is the plan's ID in the command that is printed for the new machine.
var openPlan = regexp.MustCompile(`member-replace-[0-9a-f]{16}`)

// script is what people have in their runbooks.
func (m *master) script() float64 {
	start := time.Now()
	survivors := strings.Join(m.c.Endpoints()[:2], ",")
	etcdctl := func(args ...string) (string, error) {
		cmd := exec.Command(lab.Tool(m.b, "etcdctl"), append([]string{"--endpoints", survivors, "--cacert", m.c.CA.File, "--cert", m.c.Pair.Cert, "--key", m.c.Pair.Key}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		out, err := etcdctl(args...)
		if err != nil {
			m.b.Fatalf("etcdctl %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return out
	}
	if out, err := exec.Command(lab.Tool(m.b, "etcdctl"), "--endpoints", m.c.Endpoints()[0], "--cacert", m.c.CA.File, "--cert", m.c.Pair.Cert, "--key", m.c.Pair.Key,
		"snapshot", "save", filepath.Join(m.b.TempDir(), "before.db")).CombinedOutput(); err != nil {
		m.b.Fatalf("snapshot save: %v: %s", err, out)
	}
	old := ""
	for line := range strings.Lines(must("member", "list")) {
		if f := strings.Split(line, ", "); len(f) > 2 && f[2] == m.lost.MemberName {
			old = f[0]
		}
	}
	must("member", "remove", old)
	var added string
	lab.Eventually(m.b, time.Minute, "etcd takes a learner", func() (err error) { // it wants its members to have been connected for 5 s
		added, err = etcdctl("member", "add", m.lost.MemberName, "--learner", "--peer-urls", m.lost.PeerURL)
		return err
	})
	initial := regexp.MustCompile(`ETCD_INITIAL_CLUSTER="(.*)"`).FindStringSubmatch(added)
	id := regexp.MustCompile(`Member\s+([0-9a-f]+) added`).FindStringSubmatch(added)
	if initial == nil || id == nil {
		m.b.Fatalf("etcdctl member add printed %s", added)
	}
	m.lost.Script(m.b, "install -d -o etcd -g etcd -m 0700 "+m.lost.DataDir)
	m.c.Configure(m.b, m.lost, initial[1], "existing")
	m.c.Start(m.b, m.lost)
	lab.Eventually(m.b, 5*time.Minute, "the learner is promoted", func() error {
		out, err := etcdctl("member", "promote", id[1])
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	m.c.WaitHealthy(m.b)
	return time.Since(start).Seconds()
}
