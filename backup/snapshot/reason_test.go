package snapshot

import (
	"context"
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
	if took := time.Since(begun); took > 3*c.access().Bound()+2*time.Second {
		t.Errorf("it took %v", took)
	}
	return err
}

// TestWrongEndpoints: what is wrong with the whole list; what is wrong with one endpoint is internal/endpoint's.
func TestWrongEndpoints(t *testing.T) {
	other := func() string { return "https://" + lab.FreeAddr(t) }
	for name, tc := range map[string]struct {
		words, hint string
		endpoints   []string
	}{
		"none":    {"no endpoint", "--endpoints", nil},
		"no URL":  {"is no client URL", "https://host:2379", []string{"https://host/path"}},
		"one":     {"connection refused", "etcd runs there", []string{other()}},
		"several": {"no member can be backed up", "etcd runs there", []string{other(), other()}},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, failing(t, Cluster{Endpoints: tc.endpoints, DialTimeout: 2 * time.Second}), tc.words, tc.hint)
		})
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
