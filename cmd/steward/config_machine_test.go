package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/internal/host"
)

// TestShowMachine: `config show` tells what etcd is on a machine, where its data lies and whose it is, and what a distribution's own commands are.
func TestShowMachine(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/systemd/system/etcd.service":           "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n",
		"etc/etcd.env":                              "ETCD_NAME=m1\nETCD_DATA_DIR=/var/lib/etcd\nETCD_CERT_FILE=/pki/m1.pem\nETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:2379\n",
		"etc/systemd/system/kube-apiserver.service": "[Service]\nExecStart=/usr/bin/kube-apiserver --etcd-servers=https://10.0.0.1:2379,https://10.0.0.2:2379\n",
		"etc/systemd/system/k3s.service":            "[Service]\nExecStart=/usr/local/bin/k3s server\n",
		"var/lib/rancher/k3s/server/db/etcd/config": "{}",
		"var/lib/etcd/member/snap/db":               "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := showMachine(host.Detect(root))
	var text bytes.Buffer
	if err := out.write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"etcd: systemd unit etcd.service", "m1\n", "/etc/systemd/system/etcd.service, /etc/etcd.env", "/var/lib/etcd, ", "mode 0700",
		"https://10.0.0.1:2379, https://127.0.0.1:2379", "client: /pki/m1.pem, no such file", "asks https://10.0.0.1:2379, https://10.0.0.2:2379",
		"k3s owns this machine's etcd", "k3s etcd-snapshot save",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("nothing says %q in:\n%s", want, text.String())
		}
	}
	if doc, err := json.Marshal(out); err != nil || !bytes.Contains(doc, []byte(`"from":"/etc/etcd.env"`)) {
		t.Errorf("JSON: %v\n%s", err, doc)
	}
}

// TestPrintable: `config show` promises to print no secret.
func TestPrintable(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"discovery-password", "hush", "(not shown)"},
		{"discovery-password", "", ""},
		{"discovery-proxy", "http://me:hush@proxy:3128", "http://me:xxxxx@proxy:3128"},
		{"initial-cluster", "a=https://10.0.0.1:2380,b=https://[fd00::1]:2380", "a=https://10.0.0.1:2380,b=https://[fd00::1]:2380"},
		{"listen-client-urls", "https://10.0.0.1:2379,https://127.0.0.1:2379", "https://10.0.0.1:2379,https://127.0.0.1:2379"},
		{"auth-token", "jwt,pub-key=/a,priv-key=/b", "jwt,pub-key=/a,priv-key=/b"},
		{"name", "m1", "m1"},
	} {
		if got := printable(c.flag, c.value); got != c.want {
			t.Errorf("%s: got %q, want %q", c.flag, got, c.want)
		}
	}
}
