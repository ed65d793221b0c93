package endpoint

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// slow says why a test that starts servers does not run with -short.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
}

// askStatus asks a member for its status.
func askStatus(t *testing.T, a Access, url string) error {
	t.Helper()
	begun := time.Now()
	e, err := a.Parse(url)
	if err != nil {
		return err
	}
	conn, err := a.Dial(e)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), a.Bound())
	defer cancel()
	_, err = pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	err = a.Reason(t.Context(), e, Error(err))
	if took := time.Since(begun); took > 2*a.Bound()+2*time.Second {
		t.Errorf("it took %v", took)
	}
	return err
}

// wantError checks an error's words and its hint, and that it is one sentence for people.
func wantError(t *testing.T, err error, words, hint string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("no error, want one that says %q", words)
	case !strings.Contains(err.Error(), words):
		t.Errorf("got %q, want an error that says %q", err, words)
	case strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "rpc error"):
		t.Errorf("got %q, want one sentence for people", err)
	case !strings.Contains(fail.HintOf(err), hint) || fail.HintOf(err) == "":
		t.Errorf("%q has the hint %q, want one that says %q", err, fail.HintOf(err), hint)
	}
}

// TestWrongWays: each usual mistake gives its own sentence and its own hint.
func TestWrongWays(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{TLS: true, UnsafeNoFsync: true})
	good := Access{TLS: c.TLSConfig(t), Timeout: 2 * time.Second}
	if err := askStatus(t, good, c.Endpoint(0)); err != nil {
		t.Fatal(err)
	}
	other := lab.NewCA(t)
	with := func(change func(conf *tls.Config)) Access {
		bad := good
		bad.TLS = good.TLS.Clone()
		change(bad.TLS)
		return bad
	}
	showing := func(pair lab.Pair) Access {
		return with(func(conf *tls.Config) { conf.Certificates = lab.ClientTLS(t, c.CA, pair).Certificates })
	}
	url := c.Endpoint(0)
	for _, tc := range []struct {
		name, words, hint string
		a                 Access
		url               string
	}{
		{"wrong CA", "not signed by the given CA", "--cacert", with(func(conf *tls.Config) { conf.RootCAs = lab.ClientTLS(t, other, lab.Pair{}).RootCAs }), url},
		{"no client certificate", "refuses the client certificate", "--cert", with(func(conf *tls.Config) { conf.Certificates = nil }), url},
		{"client certificate of another CA", "refuses the client certificate", "--cert", showing(other.Issue(t, "stranger", time.Now().Add(time.Hour))), url},
		{"expired client certificate", "refuses the client certificate", "expired", showing(c.CA.Issue(t, "late", time.Now().Add(-time.Hour))), url},
		{"wrong name", "not for this name", "in the certificate", with(func(conf *tls.Config) { conf.ServerName = "elsewhere.example.net" }), url},
		{"http instead of https", "closed the connection", "https://", good, "http" + url[len("https"):]},
		{"nothing there", "connection refused", "etcd runs there", good, "https://" + lab.FreeAddr(t)},
		{"no such name", "no such host", "endpoint", good, "https://nowhere.invalid:2379"},
		{"no URL", "is no client URL", "https://host:2379", good, "https://host/path"},
		{"no port", "is no client URL", "https://host:2379", good, "host"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantError(t, askStatus(t, tc.a, tc.url), tc.words, tc.hint) })
	}
}

// TestExpiredServer: etcd's own certificate has expired; it is seen all the same.
func TestExpiredServer(t *testing.T) {
	slow(t)
	ca := lab.NewCA(t)
	until := time.Now().Add(-time.Hour)
	c := lab.StartEtcd(t, lab.EtcdOptions{TLS: true, ServerPair: ca.Issue(t, "expired", until), UnsafeNoFsync: true})
	a := Access{TLS: lab.ClientTLS(t, ca, c.Pair), Timeout: 2 * time.Second}
	lab.Eventually(t, 20*time.Second, "etcd listens", func() error {
		conn, err := net.Dial("tcp", c.Endpoint(0)[len("https://"):])
		if err == nil {
			conn.Close()
		}
		return err
	})
	wantError(t, askStatus(t, a, c.Endpoint(0)), "its certificate expired at", "renew")
	e, err := a.Parse(c.Endpoint(0))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := a.Handshake(t.Context(), e)
	if err == nil || len(shown) == 0 || !shown[0].NotAfter.Equal(until.UTC().Truncate(time.Second)) {
		t.Errorf("the handshake shows %d certificates (%v), want the expired one", len(shown), err)
	}
}

// TestPlainServer: the endpoint says https, but etcd does not.
func TestPlainServer(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	a := Access{TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Timeout: 2 * time.Second}
	wantError(t, askStatus(t, a, "https"+c.Endpoint(0)[len("http"):]), "during the TLS handshake", "http://")
}

// TestSilentServer: something accepts connections and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, scheme := range []string{"http://", "https://"} {
		wantError(t, askStatus(t, Access{Timeout: 300 * time.Millisecond}, scheme+l.Addr().String()), "no answer in time", "stuck")
	}
}

// TestAlarms: the ways in which versions of protobuf print an alarm.
func TestAlarms(t *testing.T) {
	got, rest := Alarms([]string{"etcdserver: no leader", "memberID:7 alarm:CORRUPT ", "memberID:8  alarm:NOSPACE", "alarm:CORRUPT "})
	want := []Alarm{{7, "CORRUPT"}, {8, "NOSPACE"}, {0, "CORRUPT"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || len(rest) != 1 || rest[0] != "etcdserver: no leader" {
		t.Errorf("got %v and %q, want %v", got, rest, want)
	}
}
