package machines

import (
	"context"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// TestEtcdUnits: each way of setting etcd up under systemd gives a cluster that accepts writes, on every version, and that is up again after a power cut.
func TestEtcdUnits(t *testing.T) {
	for _, o := range []EtcdOptions{
		{Flavour: Kubespray, Version: "3.6"},
		{Flavour: DropIn, Version: "3.5", IPv6: true},
		{Flavour: YAML, Version: "3.7", WALDir: "/srv/wal/etcd"},
		{Flavour: Kubespray, Version: "3.6", PlainHTTP: true},
	} {
		t.Run(string(o.Flavour)+" "+o.Version, func(t *testing.T) {
			t.Parallel()
			n := Start(t, Options{Count: 2, IPv6: o.IPv6})
			c := Etcd(t, n, o)
			m := c.Member("m1")
			if got := m.Property(t, "etcd", "User"); got != "etcd" {
				t.Errorf("etcd runs as %q", got)
			}
			if r := m.Run(t.Context(), "test", "-d", "/srv/wal/etcd"); (r.Code == 0) != (o.WALDir != "") {
				t.Errorf("the WAL folder: %+v", r)
			}
			put(t, c)
			m.PowerCut(t)
			m.Boot(t)
			c.WaitHealthy(t)
			put(t, c)
		})
	}
}

// TestEtcdStaticPod: the stand-in kubelet runs what kubeadm writes; without its manifest etcd stops, and with it it is back; it is there after a reboot, and
// outlives the kubelet.
func TestEtcdStaticPod(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{Count: 2})
	c := Etcd(t, n, EtcdOptions{Flavour: StaticPod, WALDir: "/srv/wal/etcd"})
	m := c.Member("m1")
	pid := m.Must(t, "pgrep", "-x", "etcd")
	m.Systemctl(t, "restart", "kubelet")
	put(t, c)
	if now := m.Must(t, "pgrep", "-x", "etcd"); now != pid {
		t.Errorf("etcd was %s and is %s: it did not outlive the kubelet", pid, now)
	}
	c.Stop(t, m)
	if !m.Exists(t, parked) || m.Exists(t, m.Files.Manifest) {
		t.Error("the manifest is not kept")
	}
	c.Start(t, m)
	c.WaitHealthy(t)
	m.Reboot(t)
	c.WaitHealthy(t)
	put(t, c)
}

// TestPrepareEtcd: a prepared machine has what a member needs and is none; what the cluster is told and Configure then makes it one.
func TestPrepareEtcd(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{Count: 2})
	c := Etcd(t, n, EtcdOptions{Flavour: YAML, Machines: n.Machines[:1]})
	m := PrepareEtcd(t, c, n.Machine("m2"))
	if m.Exists(t, m.Files.Config) || m.Exists(t, m.DataDir+"/member") || !m.Exists(t, m.Files.Server.Key) || m.Property(t, "etcd", "UnitFileState") != "disabled" {
		t.Errorf("the prepared machine is not one: %s", m.Script(t, "ls -laR /etc/etcd /var/lib/etcd"))
	}
	cli := c.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	added, err := cli.MemberAddAsLearner(ctx, []string{m.PeerURL})
	if err != nil {
		t.Fatal(err)
	}
	c.Members = append(c.Members, m)
	c.Configure(t, m, c.InitialCluster(), "existing")
	c.Start(t, m)
	lab.Eventually(t, 30*time.Second, "the learner is promoted", func() error {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := cli.MemberPromote(try, added.Member.ID)
		return err
	})
	c.WaitHealthy(t)
	put(t, c)
}

func put(t *testing.T, c *Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := c.Client(t).MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range resp.Members {
		names = append(names, m.Name+"="+strings.Join(m.PeerURLs, ","))
	}
	for _, m := range c.Members {
		if !strings.Contains(strings.Join(names, " "), m.MemberName+"="+m.PeerURL) {
			t.Errorf("the members are %v, without %s=%s", names, m.MemberName, m.PeerURL)
		}
	}
	if _, err := c.Client(t).Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
}
