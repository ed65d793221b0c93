package config

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// TestEtcd: what is wrong with a file of etcd's is found when the config is used first, with its line, and not when a tick is due.
func TestEtcd(t *testing.T) {
	ca := lab.NewCA(t)
	one, two := ca.Issue(t, "one", time.Now().Add(time.Hour)), ca.Issue(t, "two", time.Now().Add(time.Hour))
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	block := func(ca, cert, key string) string {
		return "clusters:\n- endpoints: ['https://a:2379']\n  tls:\n    ca: " + ca + "\n    cert: " + cert + "\n    key: " + key + "\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"good", block(ca.File, one.Cert, one.Key), ""},
		{"no CA", block("/nonexistent", one.Cert, one.Key), "4: clusters[0].tls.ca: open /nonexistent: no such file or directory"},
		{"junk for a CA", block(junk, one.Cert, one.Key), "4: clusters[0].tls.ca: " + junk + " holds no certificate in PEM"},
		{"no key", block(ca.File, one.Cert, "/nonexistent"), "6: clusters[0].tls.key: stat /nonexistent: no such file or directory"},
		{"another's key", block(ca.File, one.Cert, two.Key), "5: clusters[0].tls.cert: tls: private key does not match public key"},
		{"junk for a key", block(ca.File, one.Cert, junk), "5: clusters[0].tls.cert: tls: failed to find any PEM data in key input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := resolve(t, c.text, Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = cfg.Clusters[0].Etcd()
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasSuffix(err.Error(), "steward.yaml:"+c.want) || fail.ExitCode(err) != fail.Usage || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v (code %d), want %s", err, fail.ExitCode(err), c.want)
			}
		})
	}
}

// TestRenewedCertificate: a pair that was replaced is used at the next handshake, without a restart.
func TestRenewedCertificate(t *testing.T) {
	ca := lab.NewCA(t)
	pair := ca.Issue(t, "client", time.Now().Add(time.Hour))
	cfg, err := resolve(t, "clusters:\n- endpoints: ['https://a:2379']\n  tls: {ca: "+ca.File+", cert: "+pair.Cert+", key: "+pair.Key+"}\n", Options{})
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := cfg.Clusters[0].Etcd()
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		c, err := etcd.TLS.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Certificate[0])
	}
	before := shown()
	ca.Issue(t, "client", time.Now().Add(2*time.Hour)) // the same files
	if shown() == before {
		t.Error("the old certificate is still shown")
	}
	if err := os.Remove(pair.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.TLS.GetClientCertificate(&tls.CertificateRequestInfo{}); err == nil {
		t.Error("a missing key is no error")
	}
}

func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := resolve(t, "clusters:\n- endpoints: ['http://a:2379']\n  username: root\n  password_file: "+file+"\n  snapshot: {member: local}\n", Options{})
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := cfg.Clusters[0].Etcd()
	if err != nil || etcd.Username != "root" || etcd.Password != "hunter2" || !etcd.Local || etcd.TLS != nil {
		t.Errorf("got %+v, %v", etcd, err)
	}
}

// FuzzResolve: no text makes the parser panic, and whatever it accepts is complete.
func FuzzResolve(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{small, string(text), "clusters: [{name: a, tls: {ca: x}}]", "a: &a [*a]", "store: !!binary x", "? [a]\n: b", "clusters: [[]]", "{", "- - -"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "steward.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Resolve(Options{Path: path, Root: t.TempDir(), LookupEnv: noEnv})
		if err != nil {
			return
		}
		for i := range c.Clusters {
			c.Clusters[i].Schedules()
			if len(c.Clusters[i].Endpoints) == 0 || c.Clusters[i].Name == "" {
				t.Errorf("accepted without endpoints or name: %+v", c.Clusters[i])
			}
		}
		c.Effective()
	})
}
