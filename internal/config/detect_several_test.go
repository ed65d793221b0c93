package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/internal/fail"
)

// pair is a machine with two etcds.
func pair(t *testing.T) string {
	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/systemd/system/etcd.service":        "[Service]\nExecStart=/usr/bin/etcd --listen-client-urls=https://127.0.0.1:2379 --trusted-ca-file=/ca\n",
		"etc/systemd/system/etcd-events.service": "[Service]\nExecStart=/usr/bin/etcd --listen-client-urls=http://127.0.0.1:2381\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestSeveralEtcds: on a machine with two etcds none is taken for the other. Only who needs etcd is asked which one.
func TestSeveralEtcds(t *testing.T) {
	root := pair(t)
	for name, c := range map[string]struct {
		text, etcd string
		flags      []Flag
		want       []string // endpoints of each cluster; "?" when the question is asked
	}{
		"nobody said":             {small, "", nil, []string{"?"}},
		"the flag says":           {small, "etcd-events", nil, []string{"http://127.0.0.1:2381"}},
		"endpoints say":           {small, "", []Flag{{"--endpoints", "cluster.endpoints", "http://10.0.0.1:2379"}}, []string{"http://10.0.0.1:2379"}},
		"the cluster's name says": {small + "clusters:\n- name: etcd-events\n", "", nil, []string{"http://127.0.0.1:2381"}},
		"each cluster's name":     {small + "clusters:\n- name: etcd-events\n- name: etcd\n", "", nil, []string{"http://127.0.0.1:2381", "https://127.0.0.1:2379"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Resolve(Options{Path: write(t, c.text), Root: root, LookupEnv: noEnv, Flags: c.flags, Etcd: c.etcd})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				cl := &cfg.Clusters[i]
				if want != "?" {
					if got := strings.Join(cl.Endpoints, ","); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
					continue
				}
				_, err := cl.Etcd()
				if err == nil || !strings.Contains(err.Error(), "etcd-events (etcd-events.service)") || fail.ExitCode(err) != fail.Usage || !strings.Contains(fail.HintOf(err), "--etcd") {
					t.Errorf("got %v with hint %q, want a question that names both", err, fail.HintOf(err))
				}
				if ps := cfg.checkDaemon(); len(ps) != 1 || !strings.Contains(ps.Error(), "2 etcds") {
					t.Errorf("the daemon says %v, want that there are two etcds", ps)
				}
			}
		})
	}
	_, err := Resolve(Options{Path: write(t, small), Root: root, LookupEnv: noEnv, Etcd: "etcd-evnts"})
	if err == nil || !strings.Contains(err.Error(), "etcd (etcd.service), etcd-events") {
		t.Errorf("a wrong name: got %v, want the names there are", err)
	}
}

// TestK3s: a distribution's etcd can be backed up as any other's.
func TestK3s(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "var/lib/rancher/k3s/server/db/etcd"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := Detect(root)
	if len(f.Endpoints) != 1 || f.Endpoints[0] != "https://127.0.0.1:2379" || f.TLS.Cert != "/var/lib/rancher/k3s/server/tls/etcd/client.crt" {
		t.Errorf("found %+v", f)
	}
}
