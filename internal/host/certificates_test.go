package host_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/host"
)

// TestCertificates: a bundle is told by the authority that ends first, a pair by its leaf, and what is none says so.
func TestCertificates(t *testing.T) {
	root := t.TempDir()
	ca := lab.NewCA(t)
	soon := time.Now().Add(12 * time.Hour)
	pair := ca.Issue(t, "m1", soon)
	read := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, text := range map[string][]byte{
		"etc/systemd/system/etcd.service": []byte("[Service]\nExecStart=/usr/bin/etcd --cert-file=/pki/m1.pem --key-file=/pki/m1.key --trusted-ca-file=/pki/bundle.pem --peer-cert-file=/pki/none.pem --peer-trusted-ca-file=/pki/junk.pem\n"),
		"pki/m1.pem":                      slices.Concat(read(pair.Cert), read(ca.File)),
		"pki/bundle.pem":                  slices.Concat(read(ca.File), read(pair.Cert)),
		"pki/junk.pem":                    []byte("junk"),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := host.Detect(root)
	e := the(t, m)
	got := map[string]host.Certificate{}
	for _, c := range m.Certificates(e) {
		got[c.Use] = c
	}
	if c := got["client"]; c.NotAfter.Unix() != soon.Unix() || c.Key != "/pki/m1.key" || !c.Server || !c.Client || !slices.Contains(c.Names, "127.0.0.1") || c.Err != "" {
		t.Errorf("client: %+v", c)
	}
	if c := got["client CA"]; c.NotAfter.Unix() != soon.Unix() {
		t.Errorf("a bundle: %+v, want what ends first", c)
	}
	if got["peer"].Err == "" || got["peer CA"].Err == "" || len(got) != 4 {
		t.Errorf("missing and junk: %+v", got)
	}
}
