package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const kubeadmPod = `apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://10.0.0.11:2379
  name: etcd
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.11:2379
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.11:2379
    - --listen-metrics-urls=http://127.0.0.1:2381
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.6.5-0
`

// From kubespray's etcd.env template.
const kubesprayEnv = `# Environment file for etcd 3.5.21
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.11:2379
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.11:2379,https://127.0.0.1:2379
# TLS settings
ETCD_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
# CLI settings
ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
ETCDCTL_CACERT=/etc/ssl/etcd/ssl/ca.pem
ETCDCTL_KEY=/etc/ssl/etcd/ssl/admin-node1-key.pem
ETCDCTL_CERT=/etc/ssl/etcd/ssl/admin-node1.pem
`

func TestDetect(t *testing.T) {
	healthcheck := TLS{
		CA: "/etc/kubernetes/pki/etcd/ca.crt", Cert: "/etc/kubernetes/pki/etcd/healthcheck-client.crt", Key: "/etc/kubernetes/pki/etcd/healthcheck-client.key",
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  Found
	}{
		"nothing": {nil, Found{}},
		"kubeadm": {
			map[string]string{"/etc/kubernetes/manifests/etcd.yaml": kubeadmPod},
			Found{[]string{"https://127.0.0.1:2379"}, healthcheck, "/etc/kubernetes/manifests/etcd.yaml"},
		},
		"kubespray": {
			map[string]string{"/etc/etcd.env": kubesprayEnv},
			Found{
				[]string{"https://127.0.0.1:2379"},
				TLS{CA: "/etc/ssl/etcd/ssl/ca.pem", Cert: "/etc/ssl/etcd/ssl/admin-node1.pem", Key: "/etc/ssl/etcd/ssl/admin-node1-key.pem"},
				"/etc/etcd.env",
			},
		},
		"a package, without TLS": {
			map[string]string{"/etc/default/etcd": "## etcd(1)\nETCD_NAME=\"x\"\nETCD_LISTEN_CLIENT_URLS=\"http://0.0.0.0:2379\"\nETCD_CERT_FILE=/unused\n"},
			Found{Endpoints: []string{"http://127.0.0.1:2379"}, Source: "/etc/default/etcd"},
		},
		"only on its address, with the server's pair": {
			map[string]string{"/etc/etcd/etcd.conf": "ETCD_LISTEN_CLIENT_URLS='https://10.0.0.11:2379'\nETCD_TRUSTED_CA_FILE=/ca\nETCD_CERT_FILE=/c\nETCD_KEY_FILE=/k\n"},
			Found{[]string{"https://10.0.0.11:2379"}, TLS{CA: "/ca", Cert: "/c", Key: "/k"}, "/etc/etcd/etcd.conf"},
		},
		"nonsense is passed over": {
			map[string]string{"/etc/kubernetes/manifests/etcd.yaml": "{{ not yaml", "/etc/etcd.env": "ETCD_NAME=x\n", "/etc/default/etcd": "ETCD_LISTEN_CLIENT_URLS=unix://x\n"},
			Found{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.want, Detect(root)); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDetection: what is detected stands behind what anybody said, and says so.
func TestDetection(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "etc/etcd.env")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(kubesprayEnv), 0o600); err != nil {
		t.Fatal(err)
	}
	const detected = " (detected in /etc/etcd.env)"
	for name, c := range map[string]struct {
		text          string
		flags         []Flag
		endpoints, ca string
	}{
		"nobody said":            {small, nil, "https://127.0.0.1:2379" + detected, "/etc/ssl/etcd/ssl/ca.pem" + detected},
		"endpoints in the file":  {small + "clusters:\n- endpoints: ['https://other:2379']\n", nil, "https://other:2379 (steward.yaml:4)", " (default)"},
		"endpoints as a flag":    {small, []Flag{{"--endpoints", "cluster.endpoints", "https://10.0.0.12:2379"}}, "https://10.0.0.12:2379 (--endpoints)", "/etc/ssl/etcd/ssl/ca.pem" + detected},
		"plain http as a flag":   {small, []Flag{{"--endpoints", "cluster.endpoints", "http://10.0.0.12:2379"}}, "http://10.0.0.12:2379 (--endpoints)", " (default)"},
		"TLS files as flags":     {small, []Flag{{"--cacert", "cluster.tls.ca", "/my/ca"}}, "https://127.0.0.1:2379" + detected, "/my/ca (--cacert)"},
		"TLS files, no endpoint": {small + "clusters:\n- tls: {ca: /my/ca}\n", nil, "https://127.0.0.1:2379" + detected, "/my/ca (steward.yaml:4)"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Resolve(Options{Path: write(t, c.text), Root: root, LookupEnv: noEnv, Flags: c.flags})
			if err != nil {
				t.Fatal(err)
			}
			got := settings(cfg)
			if got["clusters[0].endpoints"] != c.endpoints || got["clusters[0].tls.ca"] != c.ca {
				t.Errorf("got %s and %s, want %s and %s", got["clusters[0].endpoints"], got["clusters[0].tls.ca"], c.endpoints, c.ca)
			}
		})
	}
}
