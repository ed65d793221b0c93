package machines

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"etcd-steward/integration/lab"
)

// EtcdOptions say what kind of cluster is set up. The zero value is etcd 3.6 with TLS, set up as kubespray does, on all machines.
type EtcdOptions struct {
	Version   string  // "3.5", "3.6" or "3.7"; "" means "3.6"
	Flavour   Flavour // "" means Kubespray
	PlainHTTP bool    // no TLS, neither for clients nor between members
	IPv6      bool    // members are reached by their IPv6 addresses
	Machines  []*Machine
	Token     string // --initial-cluster-token; "" means what the flavour's tool chooses
	WALDir    string // --wal-dir, in a folder of its own; "" means inside the data directory
	// Settings are added to, or replace, those that every member has, by etcd's flag names without dashes.
	Settings map[string]string
}

// Cluster is etcd on machines.
type Cluster struct {
	Members []*Member
	CA      *lab.CA  // with TLS: who signed everything
	Pair    lab.Pair // with TLS: a client's certificate, on the host
	Opts    EtcdOptions
}

// Member is one of a cluster's, or a machine that could be: see PrepareEtcd.
type Member struct {
	*Machine
	MemberName string // --name
	Endpoint   string // client URL
	PeerURL    string
	DataDir    string
	WALDir     string // "" means inside DataDir
	Files      Files  // where its flavour has what
}

// Etcd sets a new cluster up and waits until each member answers linearizable reads.
func Etcd(t lab.T, n *Net, opts EtcdOptions) *Cluster {
	t.Helper()
	if opts.Version == "" {
		opts.Version = "3.6"
	}
	if opts.Flavour == "" {
		opts.Flavour = Kubespray
	}
	if len(opts.Machines) == 0 {
		opts.Machines = n.Machines
	}
	if opts.Token == "" {
		opts.Token = flavours[opts.Flavour].token
	}
	c := &Cluster{Opts: opts}
	if !opts.PlainHTTP {
		c.CA = lab.NewCA(t)
		c.Pair = c.CA.Issue(t, "client", time.Now().Add(lab.Valid))
	}
	for _, m := range opts.Machines {
		c.Members = append(c.Members, PrepareEtcd(t, c, m))
	}
	initial := c.InitialCluster()
	for _, m := range c.Members {
		c.Configure(t, m, initial, "new")
	}
	for _, m := range c.Members {
		c.Start(t, m)
	}
	c.WaitHealthy(t)
	return c
}

// PrepareEtcd installs everything on a machine that a member of the cluster needs (program, user, certificates, unit or kubelet), but neither its configuration
// nor data: what a new master is before it joins. It does not become one of c.Members.
func PrepareEtcd(t lab.T, c *Cluster, m *Machine) *Member {
	t.Helper()
	f := flavours[c.Opts.Flavour]
	host := m.IP
	if c.Opts.IPv6 {
		host = m.IP6
	}
	scheme := "https://"
	if c.Opts.PlainHTTP {
		scheme = "http://"
	}
	mem := &Member{
		Machine: m, MemberName: strings.Replace(m.Name, "m", f.prefix, 1),
		Endpoint: scheme + net.JoinHostPort(host, "2379"), PeerURL: scheme + net.JoinHostPort(host, "2380"),
		DataDir: "/var/lib/etcd", WALDir: c.Opts.WALDir, Files: f.files(m.Name),
	}
	m.Install(t, lab.Tool(t, "etcd-"+c.Opts.Version), "/usr/local/bin/etcd")
	f.install(t, c, mem)
	if !c.Opts.PlainHTTP {
		c.Certify(t, mem)
	}
	return mem
}

// Certify gives a member new certificates, for all its addresses and names.
func (c *Cluster) Certify(t lab.T, m *Member) {
	t.Helper()
	hosts := []string{m.IP, m.Name, m.MemberName}
	if m.IP6 != "" {
		hosts = append(hosts, m.IP6)
	}
	until := time.Now().Add(lab.Valid)
	server, client := c.CA.IssueFor(t, m.Name, until, hosts...), c.CA.IssueFor(t, m.Name+"-client", until)
	owner := flavours[c.Opts.Flavour].owner
	copies := map[string]string{m.Files.CA: c.CA.File}
	for _, p := range []lab.Pair{m.Files.Server, m.Files.Peer} {
		copies[p.Cert], copies[p.Key] = server.Cert, server.Key
	}
	copies[m.Files.Client.Cert], copies[m.Files.Client.Key] = client.Cert, client.Key
	for path, from := range copies {
		m.WriteFile(t, path, readHost(t, from), 0o600, owner)
	}
}

// InitialCluster is the --initial-cluster of all members.
func (c *Cluster) InitialCluster() string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.MemberName+"="+m.PeerURL)
	}
	return strings.Join(all, ",")
}

// Configure writes a member's configuration; it takes effect with Start.
func (c *Cluster) Configure(t lab.T, m *Member, initialCluster, state string) {
	t.Helper()
	flavours[c.Opts.Flavour].configure(t, m, c.settings(m, initialCluster, state))
}

// Start starts a member, from now on at each boot, and does not wait until it is up.
func (c *Cluster) Start(t lab.T, m *Member) {
	t.Helper()
	if m.Files.Manifest != "" {
		m.Script(t, "if [ -e "+parked+" ]; then mv "+parked+" "+m.Files.Manifest+"; fi; systemctl enable -q --now kubelet")
		return
	}
	m.Script(t, "systemctl daemon-reload; systemctl enable -q etcd; systemctl start --no-block etcd")
}

// parked is where Stop puts the manifest of a static pod: another name in the same folder would not do.
const parked = "/etc/kubernetes/etcd.yaml.parked"

// Stop stops a member in order, and waits until it is gone. A static pod's manifest is out of the kubelet's sight until Start.
func (c *Cluster) Stop(t lab.T, m *Member) {
	t.Helper()
	if m.Files.Manifest == "" {
		m.Systemctl(t, "stop", "etcd")
		return
	}
	m.Must(t, "mv", m.Files.Manifest, parked)
	lab.Eventually(t, 60*time.Second, "the kubelet ends etcd on "+m.Name, func() error {
		if r := m.Run(t.Context(), "pgrep", "-x", "etcd"); r.Code == 0 {
			return errors.New("it still runs")
		}
		return nil
	})
}

// Member is the one on this machine.
func (c *Cluster) Member(machine string) *Member {
	for _, m := range c.Members {
		if m.Name == machine {
			return m
		}
	}
	panic("there is no member on " + machine)
}

// Endpoints are the members' client URLs.
func (c *Cluster) Endpoints() []string {
	var eps []string
	for _, m := range c.Members {
		eps = append(eps, m.Endpoint)
	}
	return eps
}

// ClientConfig is that of a client on the host, of all members when no endpoints are given.
func (c *Cluster) ClientConfig(t lab.T, endpoints ...string) clientv3.Config {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	cfg := clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithNoProxy()}}
	if c.CA != nil {
		cfg.TLS = lab.ClientTLS(t, c.CA, c.Pair)
	}
	return cfg
}

// Client connects from the host until the test ends.
func (c *Cluster) Client(t lab.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(c.ClientConfig(t, endpoints...))
	if err != nil {
		t.Fatalf("connect to etcd: %v", err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// WaitHealthy waits until each of the given members (all, when none is given) answers a linearizable read.
func (c *Cluster) WaitHealthy(t lab.T, members ...*Member) {
	t.Helper()
	if len(members) == 0 {
		members = c.Members
	}
	for _, m := range members {
		cli := c.Client(t, m.Endpoint)
		lab.Eventually(t, 60*time.Second, "etcd on "+m.Name+" answers a linearizable read", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := cli.Get(ctx, "health")
			return err
		})
		_ = cli.Close()
	}
}

// Leader is the member that leads.
func (c *Cluster) Leader(t lab.T) *Member {
	t.Helper()
	var leader *Member
	lab.Eventually(t, 30*time.Second, "a leader", func() error {
		for _, m := range c.Members {
			cli := c.Client(t, m.Endpoint)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			st, err := cli.Status(ctx, m.Endpoint)
			cancel()
			_ = cli.Close()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				leader = m
				return nil
			}
		}
		return errors.New("none says that it leads")
	})
	return leader
}
