package main

import (
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
)

// TestMachinesWithoutConfiguration: a new machine has etcd's program, its unit or the kubelet, and certificates, but nobody has configured it. It is set up as the first member is.
// Without certificates, or with one that is for another address, it is refused, and nothing changes.
func TestMachinesWithoutConfiguration(t *testing.T) {
	t.Parallel()
	for flavour, look := range map[machines.Flavour]string{
		machines.Kubespray: `sed -n 's/^ETCD_/--/p' /etc/etcd.env`,
		machines.StaticPod: `sed -n 's/^ *- --/--/p' /etc/kubernetes/manifests/etcd.yaml`,
		machines.YAML:      `awk '/^[a-z]/ {block = $1} /^[a-z].*: ./ {block = ""} /: / {sub(/^ */, ""); sub(/: /, "="); print "--" block $0}' /etc/etcd/etcd.conf.yml`,
		machines.DropIn:    `systemctl show -p ExecStart -p Environment etcd | grep -oE -- '(--|ETCD_)[^ ]*' | sed 's/^ETCD_/--/'`,
	} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, 1, machines.EtcdOptions{Flavour: flavour, Settings: map[string]string{"quota-backend-bytes": "3221225472", "auto-compaction-retention": "7"}})
			m1, first := f.n.Machines[0], f.c.Members[0]
			mem := machines.PrepareEtcd(t, f.c, f.n.Machine("m2"))
			mem.Must(t, "rmdir", mem.DataDir)
			r := f.run(0, m1, "member", "add", mem.MemberName, mem.PeerURL, "--no-wait", "--yes") // a refusal there would end the wait here
			id := memberPlan.FindString(r.Stderr)

			if flavour == machines.Kubespray || flavour == machines.StaticPod { // of the others it is known by now
				f.refusedWithoutCertificates(mem, id)
			}
			join := mem.Exec(t, stewardArgs("member", "join", id, "--yes")...)
			lab.Eventually(t, time.Minute, "the new machine is ready", func() error {
				if text := join.Tail(64 << 10); !strings.Contains(text, "waiting for operator") {
					return errors.New(text)
				}
				return nil
			})
			f.run(0, m1, "plan", "run", id, "--party", "operator", "--yes")
			f.end(join)
			f.c.Members = append(f.c.Members, mem)
			f.c.WaitHealthy(t)
			f.want(f.c.Client(t, first.Endpoint), first.MemberName, mem.MemberName)
			r = f.run(0, m1, "defrag", "--all", "--dry-run", "--force", "two members")
			if !strings.Contains(r.Stderr, "cannot be seen from here: "+mem.MemberName+"\n") {
				t.Errorf("defrag says of the disks: %s", r.Stderr)
			}

			own, other := flagsIn(mem.Must(t, "sh", "-c", look)), flagsIn(m1.Must(t, "sh", "-c", look))
			swap := strings.NewReplacer(first.IP, mem.IP, first.MemberName, mem.MemberName, "-"+m1.Name, "-"+mem.Name)
			for flag, value := range maps.Clone(other) {
				other[flag] = swap.Replace(value)
			}
			for _, flag := range []string{"initial-cluster", "initial-cluster-state"} {
				delete(own, flag)
				delete(other, flag)
			}
			if diff := cmp.Diff(other, own); diff != "" {
				t.Errorf("it is not set up as the first member is:\n%s", diff)
			}
			owner := "etcd:etcd 700"
			if flavour == machines.StaticPod {
				owner = "root:root 700"
			}
			if got := strings.TrimSpace(mem.Must(t, "stat", "-c", "%U:%G %a", mem.DataDir)); got != owner {
				t.Errorf("the data directory is %s, want %s", got, owner)
			}
			if flavour == machines.DropIn {
				f.electionIsRemembered(m1, mem)
			}
		})
	}
}

// refusedWithoutCertificates: without certificates, and with some that are for another address, nothing is changed on a new machine.
func (f *fleet) refusedWithoutCertificates(mem *machines.Member, id string) {
	f.t.Helper()
	before := mem.Must(f.t, "find", "/etc", "/var/lib", "-path", "*etcd*", "-not", "-path", "*/steward/*")
	mem.Script(f.t, "mv "+mem.Files.Server.Cert+" /root/hidden")
	r := f.run(4, mem.Machine, "member", "join", id, "--yes")
	for _, want := range []string{"no certificates for the new member", mem.Files.Server.Cert, mem.IP, "127.0.0.1", mem.Files.CA} {
		if !strings.Contains(r.Stderr, want) {
			f.t.Errorf("without certificates: %q is not said", want)
		}
	}
	mem.Script(f.t, "mv /root/hidden "+mem.Files.Server.Cert)
	if after := mem.Must(f.t, "find", "/etc", "/var/lib", "-path", "*etcd*", "-not", "-path", "*/steward/*"); after != before {
		f.t.Errorf("changed:\n%s", cmp.Diff(before, after))
	}
	f.certifyFor(mem, "192.0.2.9")
	r = f.run(4, mem.Machine, "member", "join", id, "--yes")
	if !strings.Contains(r.Stderr, "is not for "+mem.IP) {
		f.t.Errorf("a certificate for another address: %s", r.Stderr)
	}
	if after := mem.Must(f.t, "find", "/etc", "/var/lib", "-path", "*etcd*", "-not", "-path", "*/steward/*"); after != before {
		f.t.Errorf("changed:\n%s", cmp.Diff(before, after))
	}
	f.c.Certify(f.t, mem)
}

// electionIsRemembered: what stewardd on this machine has seen of an election, no single look can see: for a minute nobody is added.
func (f *fleet) electionIsRemembered(by *machines.Machine, other *machines.Member) {
	f.t.Helper()
	add := stewardArgs("member", "add", "m9", "https://10.255.255.9:2380", "--dry-run")
	by.Script(f.t, "printf 'clusters: [{name: main, health: {interval: 1s}}]\n' >> /etc/steward/steward.yaml")
	daemon := by.Exec(f.t, "env", "CREDENTIALS_DIRECTORY=/etc/steward/credentials", "stewardd")
	lab.Eventually(f.t, time.Minute, "stewardd has looked", func() error {
		r := by.Run(f.t.Context(), "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/7379; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; grep ^steward_health_raft_term <&3`)
		if r.Code != 0 {
			return errors.New(r.Stdout + r.Stderr + daemon.Tail(4<<10))
		}
		return nil
	})
	f.run(0, by, add[3:]...)
	to := other.MemberName
	if f.c.Leader(f.t) == other {
		to = f.c.Members[0].MemberName
	}
	f.run(0, by, "member", "move-leader", to)
	if r := f.run(4, by, add[3:]...); !strings.Contains(r.Stderr, "no change of leader within 1m0s") {
		f.t.Errorf("it is refused for something else: %s", r.Stderr)
	}
}

// certifyFor gives a member certificates that are for another address.
func (f *fleet) certifyFor(m *machines.Member, address string) {
	f.t.Helper()
	pair := f.c.CA.IssueFor(f.t, "elsewhere", time.Now().Add(time.Hour), address)
	owner := strings.TrimSpace(m.Must(f.t, "stat", "-c", "%U", m.Files.Server.Cert))
	for path, from := range map[string]string{m.Files.Server.Cert: pair.Cert, m.Files.Server.Key: pair.Key, m.Files.Peer.Cert: pair.Cert, m.Files.Peer.Key: pair.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			f.t.Fatal(err)
		}
		m.WriteFile(f.t, path, string(text), 0o600, owner)
	}
}

// flagsIn reads lines such as --name=m1 and --NAME=m1.
func flagsIn(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "--"), "=")
		all[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] = strings.Trim(value, `"'`)
	}
	return all
}
