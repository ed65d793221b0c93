package lab

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// EtcdOptions say what kind of cluster a test needs. The zero value is one member of etcd 3.6 without TLS.
type EtcdOptions struct {
	Version       string   // "3.5", "3.6" or "3.7"; "" means "3.6"
	Members       int      // 0 means 1
	TLS           bool     // clients speak TLS and must show a certificate, as on a kubeadm master
	ServerPair    Pair     // with TLS, another certificate than one of the cluster's own CA (an expired one)
	Dir           string   // where the data directories are made; "" means a folder of the test's own
	UnsafeNoFsync bool     // for speed, where no power is cut
	Token         string   // --initial-cluster-token; "" means "lab"
	ExtraArgs     []string // appended for every member
	GOGC          string   // the servers' GOGC; "" means Go's default
}

// Cluster is a running etcd cluster on loopback.
type Cluster struct {
	Version string
	CA      *CA  // with TLS, who signed the servers' certificates
	Pair    Pair // with TLS, a client's certificate
	Members []*EtcdMember

	t    T
	opts EtcdOptions
}

// EtcdMember is one member. Name, DataDir and PeerURL are what a restore must know; the rest is filled in.
type EtcdMember struct {
	Name, DataDir, PeerURL string
	Endpoint               string // client URL
	Version                string // "" is the cluster's: it is in mid-upgrade otherwise
	Proc                   *Process
	args                   []string
}

// StartEtcd starts a new cluster and waits until every member answers linearizable reads.
func StartEtcd(t T, opts EtcdOptions) *Cluster {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	var members []*EtcdMember
	for i := range max(opts.Members, 1) {
		name := fmt.Sprintf("m%d", i)
		members = append(members, &EtcdMember{Name: name, DataDir: filepath.Join(opts.Dir, name), PeerURL: "http://" + FreeAddr(t)})
	}
	return StartEtcdMembers(t, opts, members)
}

// StartEtcdOn starts one member on an existing data directory, such as a restored one; args come last and so win. A
// directory of several members needs StartEtcdMembers.
func StartEtcdOn(t T, version, dataDir string, args ...string) *Cluster {
	t.Helper()
	m := &EtcdMember{Name: "default", DataDir: dataDir, PeerURL: "http://" + FreeAddr(t)}
	return StartEtcdMembers(t, EtcdOptions{Version: version, UnsafeNoFsync: true, ExtraArgs: args}, []*EtcdMember{m})
}

// StartEtcdMembers starts members whose Name, DataDir and PeerURL are given (they may have been restored together), and waits
// until each answers linearizable reads.
func StartEtcdMembers(t T, opts EtcdOptions, members []*EtcdMember) *Cluster {
	t.Helper()
	if opts.Version == "" {
		opts.Version = "3.6"
	}
	if opts.Token == "" {
		opts.Token = "lab"
	}
	c := &Cluster{Version: opts.Version, Members: members, t: t, opts: opts}
	if opts.TLS {
		c.CA = NewCA(t)
		c.Pair = c.CA.Issue(t, "client", time.Now().Add(Valid))
		if c.opts.ServerPair == (Pair{}) {
			c.opts.ServerPair = c.CA.Issue(t, "etcd", time.Now().Add(Valid))
		}
	}
	var initial []string
	for _, m := range members {
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	for _, m := range members {
		m.args = c.command(m, strings.Join(initial, ","), "new")
		c.launch(t, m)
	}
	// Nobody can talk to a server with a certificate that the test made invalid: then the test waits for itself.
	if opts.ServerPair == (Pair{}) {
		c.WaitHealthy(t)
	}
	return c
}

// command decides a member's arguments once, so that a restart is the same member again, on the same ports.
func (c *Cluster) command(m *EtcdMember, initial, state string) []string {
	c.t.Helper()
	scheme := "http://"
	var args []string
	if c.opts.TLS {
		scheme = "https://"
		args = []string{"--cert-file", c.opts.ServerPair.Cert, "--key-file", c.opts.ServerPair.Key, "--trusted-ca-file", c.CA.File, "--client-cert-auth"}
	}
	m.Endpoint = scheme + FreeAddr(c.t)
	args = append(args, "--name", m.Name, "--data-dir", m.DataDir, "--log-level", "error",
		"--listen-client-urls", m.Endpoint, "--advertise-client-urls", m.Endpoint,
		"--listen-peer-urls", m.PeerURL, "--initial-advertise-peer-urls", m.PeerURL,
		"--initial-cluster", initial, "--initial-cluster-state", state, "--initial-cluster-token", c.opts.Token)
	if c.opts.UnsafeNoFsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return append(args, c.opts.ExtraArgs...)
}

func (c *Cluster) launch(t T, m *EtcdMember) {
	t.Helper()
	version := cmp.Or(m.Version, c.Version)
	cmd := exec.Command(Tool(t, "etcd-"+version), m.args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "ETCD_") })
	if c.opts.GOGC != "" {
		cmd.Env = append(cmd.Env, "GOGC="+c.opts.GOGC)
	}
	m.Proc = Start(t, "etcd-"+version+"-"+m.Name, cmd)
}

// Endpoints are the members' client URLs.
func (c *Cluster) Endpoints() []string {
	var eps []string
	for _, m := range c.Members {
		eps = append(eps, m.Endpoint)
	}
	return eps
}

// Endpoint is member i's client URL.
func (c *Cluster) Endpoint(i int) string { return c.Members[i].Endpoint }

// PeerURL is member i's.
func (c *Cluster) PeerURL(i int) string { return c.Members[i].PeerURL }

// DataDir is member i's.
func (c *Cluster) DataDir(i int) string { return c.Members[i].DataDir }

// Kill ends member i at once, as a power cut would, and returns when it is gone.
func (c *Cluster) Kill(i int) { c.Members[i].Proc.Kill() }

// Stop asks member i to end, and returns when it is gone.
func (c *Cluster) Stop(i int) { c.Members[i].Proc.Stop() }

// Restart starts member i again, with the same ports and data directory. It does not wait: WaitHealthy does.
func (c *Cluster) Restart(t T, i int) {
	t.Helper()
	c.launch(t, c.Members[i])
}

// Pause stops member i's process without ending it; it still holds its connections. The returned function lets it go on; the
// end of the test does too.
func (c *Cluster) Pause(t T, i int) (resume func()) {
	t.Helper()
	p := c.Members[i].Proc
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("pause %s: %v", p.Name, err)
	}
	Eventually(t, 10*time.Second, p.Name+" stands still", func() error { // the signal arrives when it arrives
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			return err
		}
		if _, state, ok := strings.Cut(string(stat), ") "); !ok || !strings.HasPrefix(state, "T") {
			return fmt.Errorf("its state is %.8s", state)
		}
		return nil
	})
	resume = func() { _ = p.Signal(syscall.SIGCONT) }
	t.Cleanup(resume)
	return resume
}

// WaitHealthy waits until each of the given members (all, when none is given) answers a linearizable read.
func (c *Cluster) WaitHealthy(t T, members ...int) {
	t.Helper()
	if len(members) == 0 {
		for i := range c.Members {
			members = append(members, i)
		}
	}
	for _, i := range members {
		m := c.Members[i]
		cli := c.ClientOf(t, i)
		Eventually(t, 60*time.Second, m.Name+" answers a linearizable read", func() error {
			if err := m.Proc.alive(); err != nil {
				t.Fatalf("%v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := cli.Get(ctx, "health")
			if errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrPermissionDenied) {
				return nil // it had a quorum's consent to refuse
			}
			return err
		})
		_ = cli.Close()
	}
}

// Client connects to all members until the test ends.
func (c *Cluster) Client(t T) *clientv3.Client {
	return c.client(t, clientv3.Config{Endpoints: c.Endpoints()})
}

// ClientOf connects to member i alone.
func (c *Cluster) ClientOf(t T, i int) *clientv3.Client {
	return c.client(t, clientv3.Config{Endpoints: []string{c.Endpoint(i)}})
}

// ClientAs connects to all members as a user.
func (c *Cluster) ClientAs(t T, user, password string) *clientv3.Client {
	return c.client(t, clientv3.Config{Endpoints: c.Endpoints(), Username: user, Password: password, DialTimeout: 5 * time.Second})
}

func (c *Cluster) client(t T, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cfg.TLS, cfg.Logger = c.TLSConfig(t), zap.NewNop()
	cli, err := clientv3.New(cfg)
	if err != nil {
		t.Fatalf("connect to %v: %v", cfg.Endpoints, err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// TLSConfig is what a client needs; nil without TLS.
func (c *Cluster) TLSConfig(t T) *tls.Config {
	t.Helper()
	if c.CA == nil {
		return nil
	}
	return ClientTLS(t, c.CA, c.Pair)
}

// ClientTLS is the configuration of a client that trusts ca and shows pair.
func ClientTLS(t T, ca *CA, pair Pair) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatalf("read the CA: %v", err)
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	cfg.RootCAs.AppendCertsFromPEM(pem)
	if pair != (Pair{}) {
		cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatalf("read the client's certificate: %v", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg
}

// HashKV asks member i for its hash at rev; 0 is the newest revision.
func (c *Cluster) HashKV(t T, i int, rev int64) *clientv3.HashKVResponse {
	t.Helper()
	cli := c.ClientOf(t, i)
	defer func() { _ = cli.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	resp, err := cli.HashKV(ctx, c.Endpoint(i), rev)
	if err != nil {
		t.Fatalf("HashKV of %s at %d: %v", c.Members[i].Name, rev, err)
	}
	return resp
}

// Leader is the index of the member that leads.
func (c *Cluster) Leader(t T) int {
	t.Helper()
	leader := -1
	Eventually(t, 30*time.Second, "a leader", func() error {
		for i, m := range c.Members {
			cli := c.ClientOf(t, i)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			st, err := cli.Status(ctx, m.Endpoint)
			cancel()
			_ = cli.Close()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				leader = i
				return nil
			}
		}
		return errors.New("none says that it leads")
	})
	return leader
}

// AddLearner adds a member as a learner, starts it and returns its index. It waits until the learner has caught up so far that
// it answers.
func (c *Cluster) AddLearner(t T) int {
	t.Helper()
	i := len(c.Members)
	name := fmt.Sprintf("m%d", i)
	m := &EtcdMember{Name: name, DataDir: filepath.Join(c.opts.Dir, name), PeerURL: "http://" + FreeAddr(t)}
	cli := c.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	Eventually(t, 30*time.Second, "the cluster accepts a learner", func() error {
		_, err := cli.MemberAddAsLearner(ctx, []string{m.PeerURL})
		return err
	})
	initial := []string{m.Name + "=" + m.PeerURL}
	for _, o := range c.Members {
		initial = append(initial, o.Name+"="+o.PeerURL)
	}
	c.Join(t, m, strings.Join(initial, ","))
	one := c.ClientOf(t, i)
	Eventually(t, 30*time.Second, "the learner answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := one.Get(ctx, "health", clientv3.WithSerializable())
		return err
	})
	return i
}

// Join starts a member that was added already, by the members that it is told of, and does not wait for it.
func (c *Cluster) Join(t T, m *EtcdMember, initial string) {
	t.Helper()
	m.args = c.command(m, initial, "existing")
	c.launch(t, m)
	c.Members = append(c.Members, m)
}

// Readdress starts member i, which has ended, at another peer URL.
func (c *Cluster) Readdress(t T, i int, peerURL string) {
	t.Helper()
	m := c.Members[i]
	for _, flag := range []string{"--listen-peer-urls", "--initial-advertise-peer-urls"} {
		m.args[slices.Index(m.args, flag)+1] = peerURL
	}
	m.PeerURL = peerURL
	c.launch(t, m)
}

// Etcdutl runs etcdutl and returns its output.
func Etcdutl(t T, args ...string) string {
	t.Helper()
	out, err := exec.Command(Tool(t, "etcdutl"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdutl %v: %v\n%s", args, err, out)
	}
	return string(out)
}
