package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/internal/fail"
)

// TestCreate: a machine without etcd is set up as it is prepared for, and can be as it was again.
func TestCreate(t *testing.T) {
	settings := map[string]string{
		"name": "m4", "initial-cluster": "m1=https://10.0.0.1:2380,m4=https://10.0.0.4:2380", "initial-cluster-state": "existing",
		"listen-peer-urls": "https://10.0.0.4:2380", "listen-client-urls": "https://10.0.0.4:2379,https://127.0.0.1:2379",
	}
	for name, c := range map[string]struct {
		files map[string]string
		image string
		file  string
		want  map[string]string // some settings
	}{
		"kubelet": {
			map[string]string{"etc/kubernetes/manifests/.keep": "", "etc/kubernetes/pki/etcd/ca.crt": "", "etc/kubernetes/pki/etcd/server.crt": "", "etc/kubernetes/pki/etcd/peer.crt": ""},
			"registry.k8s.io/etcd:3.6.5-0", "/etc/kubernetes/steward-parked/etcd.yaml",
			map[string]string{"cert-file": "/etc/kubernetes/pki/etcd/server.crt", "peer-key-file": "/etc/kubernetes/pki/etcd/peer.key"},
		},
		"binary": {
			map[string]string{
				"usr/local/bin/etcd": "", "etc/hostname": "node4\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\netcd:x:998:998::/:/bin/false\n",
				"etc/ssl/etcd/ssl/ca.pem": "", "etc/ssl/etcd/ssl/member-node4.pem": "", "etc/etcd.env": "# prepared\nETCD_QUOTA_BACKEND_BYTES=1\nETCD_NAME=x\n",
			},
			"", "/etc/systemd/system/etcd.service",
			map[string]string{"cert-file": "/etc/ssl/etcd/ssl/member-node4.pem", "peer-client-cert-auth": "true", "quota-backend-bytes": "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				put(t, root, path, text)
			}
			files := snapshot(t, root)
			m := Detect(root)
			places := m.Places()
			if len(places) != 1 {
				t.Fatalf("places: %+v", places)
			}
			e, edits, err := m.Create(places[0], settings, c.image, "t")
			if err != nil {
				t.Fatal(err)
			}
			if dir, err := e.DataDir(); err != nil || dir != "/var/lib/etcd" || e.File() != c.file || e.Held != (e.Kind == StaticPod) || len(edits) == 0 {
				t.Errorf("data in %s, %v; %s; held %v; %v", dir, err, e.File(), e.Held, edits)
			}
			for flag, want := range settings {
				if e.Value(flag) != want {
					t.Errorf("%s: got %s, want %s", flag, e.Value(flag), want)
				}
			}
			for flag, want := range c.want {
				if e.Value(flag) != want {
					t.Errorf("%s: got %s, want %s", flag, e.Value(flag), want)
				}
			}
			if _, again, err := m.Create(places[0], settings, c.image, "t"); err != nil || !slices.Equal(again, edits) {
				t.Errorf("again: %v, %v, want %v", again, err, edits)
			}
			if len(Detect(root).Places()) > 0 {
				t.Error("with an etcd it is still prepared for one")
			}
			if err := m.Undo(edits); err != nil {
				t.Fatal(err)
			}
			after := snapshot(t, root)
			for path := range after {
				if strings.Contains(path, ".steward-t") || strings.Contains(path, ".undone-t") {
					delete(after, path)
				}
			}
			if diff := cmp.Diff(files, after); diff != "" {
				t.Errorf("undone:\n%s", diff)
			}
		})
	}
	root := t.TempDir()
	put(t, root, "usr/bin/etcd", "")
	m := Detect(root)
	if _, _, err := m.Create(m.Places()[0], settings, "", "t"); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "no certificates") {
		t.Errorf("without certificates: got %v", err)
	}
	put(t, root, "var/lib/k0s/etcd/.keep", "")
	if places := Detect(root).Places(); places != nil {
		t.Errorf("on k0s: %v", places)
	}
}
