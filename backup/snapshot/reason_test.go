package snapshot

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// failing asks for a member where there can be none, and checks that the answer comes soon.
func failing(t *testing.T, c Cluster) error {
	t.Helper()
	begun := time.Now()
	_, _, err := Choose(t.Context(), c)
	if took := time.Since(begun); took > 3*c.timeout()+2*time.Second {
		t.Errorf("it took %v", took)
	}
	return err
}

// TestWrongWays: each usual mistake gives its own sentence and its own hint.
func TestWrongWays(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{TLS: true, UnsafeNoFsync: true})
	good := cluster(t, c)
	choose(t, good)
	other := lab.NewCA(t)
	with := func(change func(c *Cluster)) Cluster {
		bad := good
		bad.TLS, bad.DialTimeout = good.TLS.Clone(), 2*time.Second
		change(&bad)
		return bad
	}
	for _, tc := range []struct {
		name, words, hint string
		c                 Cluster
	}{
		{"wrong CA", "not signed by the given CA", "--cacert", with(func(c *Cluster) { c.TLS.RootCAs = lab.ClientTLS(t, other, lab.Pair{}).RootCAs })},
		{"no client certificate", "refuses the client certificate", "--cert", with(func(c *Cluster) { c.TLS.Certificates = nil })},
		{"client certificate of another CA", "refuses the client certificate", "--cert", with(func(c *Cluster) {
			c.TLS.Certificates = lab.ClientTLS(t, other, other.Issue(t, "stranger", time.Now().Add(time.Hour))).Certificates
		})},
		{"expired client certificate", "refuses the client certificate", "expired", with(func(cl *Cluster) {
			cl.TLS.Certificates = lab.ClientTLS(t, c.CA, c.CA.Issue(t, "late", time.Now().Add(-time.Hour))).Certificates
		})},
		{"wrong name", "not for this name", "in the certificate", with(func(c *Cluster) { c.TLS.ServerName = "elsewhere.example.net" })},
		{"http instead of https", "closed the connection", "https://", with(func(cl *Cluster) { cl.Endpoints = []string{"http" + c.Endpoint(0)[len("https"):]} })},
		{"nothing there", "connection refused", "etcd runs there", with(func(c *Cluster) { c.Endpoints = []string{"https://" + lab.FreeAddr(t)} })},
		{"no such name", "no such host", "endpoint", with(func(c *Cluster) { c.Endpoints = []string{"https://nowhere.invalid:2379"} })},
		{"no URL", "is no client URL", "https://host:2379", with(func(c *Cluster) { c.Endpoints = []string{"https://host/path"} })},
		{"no port", "is no client URL", "https://host:2379", with(func(c *Cluster) { c.Endpoints = []string{"host"} })},
		{"no endpoint", "no endpoint", "--endpoints", with(func(c *Cluster) { c.Endpoints = nil })},
	} {
		t.Run(tc.name, func(t *testing.T) { wantError(t, failing(t, tc.c), tc.words, tc.hint) })
	}
	t.Run("several", func(t *testing.T) {
		bad := with(func(c *Cluster) { c.Endpoints = []string{"https://" + lab.FreeAddr(t), "https://" + lab.FreeAddr(t)} })
		wantError(t, failing(t, bad), "no member can be backed up", "etcd runs there")
	})
}

// TestExpiredServer: etcd's own certificate has expired.
func TestExpiredServer(t *testing.T) {
	slow(t)
	ca := lab.NewCA(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{TLS: true, ServerPair: ca.Issue(t, "expired", time.Now().Add(-time.Hour)), UnsafeNoFsync: true})
	bad := Cluster{Endpoints: c.Endpoints(), TLS: lab.ClientTLS(t, ca, c.Pair), DialTimeout: 2 * time.Second}
	lab.Eventually(t, 20*time.Second, "etcd listens", func() error {
		conn, err := net.Dial("tcp", c.Endpoint(0)[len("https://"):])
		if err == nil {
			conn.Close()
		}
		return err
	})
	wantError(t, failing(t, bad), "its certificate expired at", "renew")
}

// TestPlainServer: the endpoint says https, but etcd does not.
func TestPlainServer(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	bad := Cluster{Endpoints: []string{"https" + c.Endpoint(0)[len("http"):]}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, DialTimeout: 2 * time.Second}
	wantError(t, failing(t, bad), "during the TLS handshake", "http://")
}

// TestSilentServer: something accepts connections and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, scheme := range []string{"http://", "https://"} {
		bad := Cluster{Endpoints: []string{scheme + l.Addr().String()}, DialTimeout: 300 * time.Millisecond}
		wantError(t, failing(t, bad), "no answer in time", "stuck")
	}
}

// TestAuth: a cluster with authentication gives snapshots to root, by password or by the name in a certificate, and to nobody else.
func TestAuth(t *testing.T) {
	slow(t)
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 1, TLS: true, UnsafeNoFsync: true})
			enableAuth(t, c.Client(t))
			as := func(cert, user, password string) Cluster {
				pair := c.CA.Issue(t, cert, time.Now().Add(time.Hour))
				return Cluster{Endpoints: c.Endpoints(), TLS: lab.ClientTLS(t, c.CA, pair), Username: user, Password: password}
			}
			take := func(c Cluster) error {
				m, _, err := Choose(t.Context(), c)
				if err != nil {
					return err
				}
				dir := t.TempDir()
				s, err := Stream(t.Context(), c, m, SpoolOptions{Dir: dir})
				if err != nil {
					noFiles(t, dir)
					return err
				}
				info, err := s.Prove(t.Context())
				if err != nil || !info.AuthEnabled || info.AuthRevision == 0 {
					t.Errorf("the snapshot has %+v, want authentication in it (%v)", info, err)
				}
				return s.Close()
			}
			if err := take(as("nobody", "root", "secret-of-root")); err != nil {
				t.Errorf("root with a password: %v", err)
			}
			if err := take(as("root", "", "")); err != nil {
				t.Errorf("root by certificate: %v", err)
			}
			wantError(t, take(as("nobody", "root", "wrong-password")), "password of user root is wrong", "password")
			wantError(t, take(as("nobody", "reader", "secret-of-reader")), "may not take snapshots", "role root")
			wantError(t, take(as("reader", "", "")), "may not take snapshots", "role root")
			wantError(t, take(as("nobody", "", "")), "is no user", "role root")
		})
	}
}

// enableAuth makes root and a user who may read, and turns authentication on.
func enableAuth(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := context.Background()
	for _, step := range []func() error{
		func() error { _, err := cli.UserAdd(ctx, "root", "secret-of-root"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := cli.UserAdd(ctx, "reader", "secret-of-reader"); return err },
		func() error { _, err := cli.RoleAdd(ctx, "reads"); return err },
		func() error {
			_, err := cli.RoleGrantPermission(ctx, "reads", "\x00", "\x00", clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := cli.UserGrantRole(ctx, "reader", "reads"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}
