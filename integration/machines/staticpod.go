package machines

import (
	"fmt"
	"path/filepath"
	"strings"

	"etcd-steward/integration/lab"
)

func kubeadmFiles(string) Files {
	pair := func(name string) lab.Pair {
		return lab.Pair{Cert: "/etc/kubernetes/pki/etcd/" + name + ".crt", Key: "/etc/kubernetes/pki/etcd/" + name + ".key"}
	}
	const path = "/etc/kubernetes/manifests/etcd.yaml"
	return Files{
		Config: path, Manifest: path, CA: "/etc/kubernetes/pki/etcd/ca.crt",
		Server: pair("server"), Peer: pair("peer"), Client: pair("healthcheck-client"),
	}
}

func kubeadmExtra(version string) []setting {
	if version == "3.5" {
		return []setting{{"experimental-initial-corrupt-check", "true"}, {"listen-metrics-urls", "http://127.0.0.1:2381"}, {"experimental-watch-progress-notify-interval", "5s"}}
	}
	return []setting{{"feature-gates", "InitialCorruptCheck=true"}, {"listen-metrics-urls", "http://127.0.0.1:2381"}, {"watch-progress-notify-interval", "5s"}}
}

// manifest writes what kubeadm writes, as far as anything looks at it.
func manifest(t lab.T, m *Member, settings []setting) {
	t.Helper()
	var args strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&args, "    - %s\n", s.arg())
	}
	dirs := map[string]string{"etcd-data": m.DataDir, "etcd-certs": filepath.Dir(m.Files.CA)}
	if m.WALDir != "" {
		dirs["etcd-wal"] = filepath.Dir(m.WALDir)
	}
	var mounts, volumes strings.Builder
	for _, name := range []string{"etcd-data", "etcd-certs", "etcd-wal"} {
		if dir, ok := dirs[name]; ok {
			fmt.Fprintf(&mounts, "    - mountPath: %s\n      name: %s\n", dir, name)
			fmt.Fprintf(&volumes, "  - hostPath:\n      path: %s\n      type: DirectoryOrCreate\n    name: %s\n", dir, name)
		}
	}
	m.WriteFile(t, m.Files.Manifest, fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: %s
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
%s    image: registry.k8s.io/etcd
    imagePullPolicy: IfNotPresent
    livenessProbe:
      failureThreshold: 8
      httpGet:
        host: 127.0.0.1
        path: /livez
        port: 2381
        scheme: HTTP
    name: etcd
    resources:
      requests:
        cpu: 100m
        memory: 100Mi
    volumeMounts:
%s  hostNetwork: true
  priorityClassName: system-node-critical
  volumes:
%sstatus: {}
`, m.Endpoint, args.String(), mounts.String(), volumes.String()), 0o600, "")
}

// installKubelet installs the stand-in kubelet (integration/kubelet) and starts it, with nothing to run yet.
func installKubelet(t lab.T, _ *Cluster, m *Member) {
	t.Helper()
	m.Install(t, Program(t, "integration/kubelet"), "/usr/bin/kubelet")
	m.Mkdir(t, "/etc/kubernetes/manifests", 0o700, "")
	m.Mkdir(t, m.DataDir, 0o700, "") // as kubeadm does: the kubelet would make it 0755
	m.WriteFile(t, "/etc/systemd/system/kubelet.service", `[Unit]
Description=kubelet: a stand-in that runs static pods as plain processes

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
RestartSec=1s
# As with a real kubelet, what it runs outlives it.
KillMode=process

[Install]
WantedBy=multi-user.target
`, 0o644, "")
	m.Script(t, "systemctl daemon-reload; systemctl enable -q --now kubelet")
}
