package config

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Found is how the etcd of this machine is reached, as its own configuration says.
type Found struct {
	Endpoints []string
	TLS       TLS
	Source    string // the file that said so; "" when nothing was found
}

// maxDetect bounds a file that detection reads.
const maxDetect = 1 << 20

// environmentFiles are where installers put etcd's settings: kubespray, Debian, Red Hat.
var environmentFiles = []string{"/etc/etcd.env", "/etc/default/etcd", "/etc/etcd/etcd.conf"}

// kubeadm's static pod, and the client pair that it makes for the pod's own probe
// (kubernetes.io/docs/setup/best-practices/certificates).
const (
	kubeadmManifest = "/etc/kubernetes/manifests/etcd.yaml"
	kubeadmPair     = "/etc/kubernetes/pki/etcd/healthcheck-client"
	kubeadmCA       = "/etc/kubernetes/pki/etcd/ca.crt"
)

// Detect looks below root ("/" or a test's folder) for an etcd that kubeadm, kubespray or a package installed. The paths that it
// returns are without root. What cannot be read is passed over.
func Detect(root string) Found {
	if f, ok := detectKubeadm(root); ok {
		return f
	}
	for _, path := range environmentFiles {
		if f, ok := detectEnvironment(root, path); ok {
			return f
		}
	}
	return Found{}
}

func detectKubeadm(root string) (Found, bool) {
	text, err := readSmall(filepath.Join(root, kubeadmManifest))
	if err != nil {
		return Found{}, false
	}
	var pod struct {
		Spec struct {
			Containers []struct {
				Command []string `yaml:"command"`
				Args    []string `yaml:"args"`
			} `yaml:"containers"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(text, &pod); err != nil {
		return Found{}, false
	}
	flags := map[string]string{}
	for _, c := range pod.Spec.Containers {
		for _, arg := range append(c.Command, c.Args...) {
			if name, value, ok := strings.Cut(arg, "="); ok {
				flags[strings.TrimLeft(name, "-")] = value
			}
		}
	}
	f := Found{Endpoints: nearestURL(flags["listen-client-urls"]), Source: kubeadmManifest}
	if f.Endpoints == nil {
		return Found{}, false
	}
	if strings.HasPrefix(f.Endpoints[0], "https:") {
		f.TLS = TLS{CA: kubeadmCA, Cert: kubeadmPair + ".crt", Key: kubeadmPair + ".key"}
		if ca := flags["trusted-ca-file"]; ca != "" {
			f.TLS.CA = ca
		}
	}
	return f, true
}

// detectEnvironment reads an EnvironmentFile= of an etcd.service. kubespray writes etcdctl's variables into it as well; elsewhere
// the server's own pair is tried, which is a client's too on most hosts.
func detectEnvironment(root, path string) (Found, bool) {
	text, err := readSmall(filepath.Join(root, path))
	if err != nil {
		return Found{}, false
	}
	env := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if ok && !strings.HasPrefix(name, "#") {
			env[strings.TrimPrefix(name, "export ")] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	first := func(names ...string) string {
		for _, n := range names {
			if env[n] != "" {
				return env[n]
			}
		}
		return ""
	}
	f := Found{Endpoints: nearestURL(first("ETCDCTL_ENDPOINTS", "ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS")), Source: path}
	if f.Endpoints == nil {
		return Found{}, false
	}
	if strings.HasPrefix(f.Endpoints[0], "https:") {
		f.TLS.CA = first("ETCDCTL_CACERT", "ETCDCTL_CA_FILE", "ETCD_TRUSTED_CA_FILE")
		f.TLS.Cert = first("ETCDCTL_CERT", "ETCDCTL_CERT_FILE", "ETCD_CERT_FILE")
		f.TLS.Key = first("ETCDCTL_KEY", "ETCDCTL_KEY_FILE", "ETCD_KEY_FILE")
	}
	return f, true
}

// nearestURL is, of URLs that etcd listens on, the one by which this machine reaches it best: loopback before others.
// An address for all interfaces is reached on loopback.
func nearestURL(list string) []string {
	var best string
	for url := range strings.SplitSeq(list, ",") {
		url = strings.TrimSpace(url)
		if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
			continue
		}
		url = strings.NewReplacer("//0.0.0.0:", "//127.0.0.1:", "//[::]:", "//127.0.0.1:").Replace(url)
		local := strings.Contains(url, "//127.") || strings.Contains(url, "//localhost") || strings.Contains(url, "//[::1]")
		if best == "" || local {
			best = url
		}
		if local {
			break
		}
	}
	if best == "" {
		return nil
	}
	return []string{best}
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxDetect))
}

// detect fills in how a cluster is reached where nobody said it. Client files are taken over only for the machine's own endpoint or
// one that was given for this call: a file that names endpoints and no TLS means what it says.
func (c *Config) detect(root string) {
	if root == "" {
		root = "/"
	}
	for i := range c.Clusters {
		cl, at := &c.Clusters[i], index("clusters", i)
		from := c.origins[at+".endpoints"]
		if from.Kind == FromFile || from.Kind == "" && len(c.Clusters) > 1 {
			continue // one of several clusters without endpoints is a problem that check reports
		}
		found := Detect(root)
		origin := Origin{Kind: FromDetection, Name: found.Source}
		if from.Kind == "" {
			if found.Source != "" {
				cl.Endpoints = found.Endpoints
				c.origins[at+".endpoints"] = origin
			} else {
				cl.Endpoints = []string{defaultEndpoint(cl.TLS)}
			}
		}
		if cl.TLS == (TLS{}) && found.TLS != (TLS{}) && allHTTPS(cl.Endpoints) {
			cl.TLS = found.TLS
			for _, f := range []string{".tls.ca", ".tls.cert", ".tls.key"} {
				c.origins[at+f] = origin
			}
		}
	}
}

// defaultEndpoint is etcd's own default, by TLS when files for it are known.
func defaultEndpoint(t TLS) string {
	if t != (TLS{}) {
		return "https://127.0.0.1:2379"
	}
	return "http://127.0.0.1:2379"
}

func allHTTPS(endpoints []string) bool {
	for _, e := range endpoints {
		if !strings.HasPrefix(e, "https://") {
			return false
		}
	}
	return true
}
