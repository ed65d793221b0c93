package host

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
)

// newManifest is a static pod as kubeadm writes it. Its annotation is where kubeadm looks for the members' client URLs.
func newManifest(name, image string, s map[string]string) []byte {
	var b strings.Builder
	b.WriteString("# Written by steward.\napiVersion: v1\nkind: Pod\nmetadata:\n")
	if u := s["advertise-client-urls"]; u != "" {
		b.WriteString("  annotations:\n    kubeadm.kubernetes.io/etcd.advertise-client-urls: " + scalar(u) + "\n")
	}
	b.WriteString("  labels:\n    component: etcd\n    tier: control-plane\n  name: " + name + "\n  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - etcd\n")
	for _, flag := range slices.Sorted(maps.Keys(s)) {
		b.WriteString("    - " + scalar("--"+flag+"="+s[flag]) + "\n")
	}
	b.WriteString("    image: " + scalar(image) + "\n    imagePullPolicy: IfNotPresent\n" + probe("livenessProbe", s, "/health?exclude=NOSPACE&serializable=true", 8) +
		"    name: " + name + "\n    resources:\n      requests:\n        cpu: 100m\n        memory: 100Mi\n" + probe("startupProbe", s, "/health?serializable=false", 24))
	dirs := podFolders(s)
	b.WriteString("    volumeMounts:\n")
	for _, volume := range slices.Sorted(maps.Keys(dirs)) {
		b.WriteString("    - mountPath: " + scalar(dirs[volume]) + "\n      name: " + volume + "\n")
	}
	b.WriteString("  hostNetwork: true\n  priority: 2000001000\n  priorityClassName: system-node-critical\n  securityContext:\n    seccompProfile:\n      type: RuntimeDefault\n  volumes:\n")
	for _, volume := range slices.Sorted(maps.Keys(dirs)) {
		b.WriteString("  - hostPath:\n      path: " + scalar(dirs[volume]) + "\n      type: DirectoryOrCreate\n    name: " + volume + "\n")
	}
	b.WriteString("status: {}\n")
	return []byte(b.String())
}

// podFolders are the folders of the machine that a pod with these settings needs, by the names of their volumes. None lies in another one.
func podFolders(s map[string]string) map[string]string {
	dirs := map[string]string{"etcd-data": s["data-dir"]}
	have := func(dir string) bool {
		for _, d := range dirs {
			if dir == d || strings.HasPrefix(dir, d+"/") {
				return true
			}
		}
		return false
	}
	if s["wal-dir"] != "" && !have(path.Dir(s["wal-dir"])) {
		dirs["etcd-wal"] = path.Dir(s["wal-dir"]) // etcd makes it anew, which it cannot with a mount point
	}
	name := "etcd-certs"
	for _, flag := range pkiFlags {
		if dir := path.Dir(s[flag]); s[flag] != "" && !have(dir) {
			dirs[name] = dir
			name = fmt.Sprintf("etcd-certs-%d", len(dirs))
		}
	}
	return dirs
}

// probe asks etcd where it serves metrics without TLS on loopback; where it does not, the pod has none.
func probe(kind string, s map[string]string, at string, failures int) string {
	for _, raw := range splitList(s["listen-metrics-urls"]) {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "" {
			continue
		}
		return fmt.Sprintf(`    %s:
      failureThreshold: %d
      httpGet:
        host: 127.0.0.1
        path: %s
        port: %s
        scheme: HTTP
      initialDelaySeconds: 10
      periodSeconds: 10
      timeoutSeconds: 15
`, kind, failures, at, u.Port())
	}
	return ""
}
