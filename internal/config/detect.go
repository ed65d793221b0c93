package config

import (
	"fmt"
	"path"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// Found is how an etcd of this machine is reached, as its own configuration says.
type Found struct {
	Endpoints []string
	TLS       TLS
	Source    string // the file that said so; "" when nothing was found
}

// environmentFiles are where installers put etcd's settings: kubespray, Debian, Red Hat. They are looked at when there is no unit that names them.
var environmentFiles = []string{"/etc/etcd.env", "/etc/default/etcd", "/etc/etcd/etcd.conf"}

// The client pair that kubeadm makes for the pod's own probe (kubernetes.io/docs/setup/best-practices/certificates).
const (
	kubeadmPKI  = "/etc/kubernetes/pki/etcd"
	kubeadmPair = "healthcheck-client"
)

// Detect looks below root ("/" or a test's folder) for how this machine's only etcd is reached. The paths that it returns are without root. What cannot be read
// is passed over, and so is a machine with several.
func Detect(root string) Found {
	f, _ := find(host.Detect(root), "")
	return f
}

// find is how an etcd of a machine is reached: the one of that name, or the only one. An error says that there are several, or none of that name.
func find(m *host.Machine, name string) (Found, error) {
	if o := m.Owner; o != nil && o.Endpoint != "" && name == "" {
		return Found{Endpoints: []string{o.Endpoint}, TLS: TLS{CA: o.CA, Cert: o.Cert, Key: o.Key}, Source: o.Evidence}, nil
	}
	if name == "" && len(m.Etcds) == 0 {
		return detectEnvironment(tree.Tree(m.Root)), nil
	}
	e, err := m.Etcd(name)
	switch {
	case err == nil:
		return Reach(m, e), nil
	case fail.ExitCode(err) == fail.Usage:
		return Found{}, err
	}
	return Found{}, nil // its files cannot be read by this user
}

// Reach is how a client on this machine reaches an etcd.
func Reach(m *host.Machine, e *host.Etcd) Found {
	listen := e.Settings["listen-client-urls"]
	f := Found{Endpoints: nearestURL(listen.Value), Source: listen.Source}
	if given := e.Etcdctl["ETCDCTL_ENDPOINTS"]; nearestURL(given.Value) != nil {
		f = Found{Endpoints: nearestURL(given.Value), Source: given.Source}
	}
	if f.Endpoints == nil {
		f = Found{Endpoints: nearestURL(e.Value("advertise-client-urls")), Source: e.File()}
	}
	if !allHTTPS(f.Endpoints) {
		return f
	}
	ca := inside(e, e.Value("trusted-ca-file"))
	if e.Kind == host.StaticPod {
		if ca == "" {
			ca = kubeadmPKI + "/ca.crt"
		}
		pair := path.Join(path.Dir(ca), kubeadmPair)
		if path.Dir(ca) == kubeadmPKI || tree.Tree(m.Root).Exists(pair+".crt") {
			f.TLS = TLS{CA: ca, Cert: pair + ".crt", Key: pair + ".key"}
			return f
		}
	}
	f.TLS = TLS{CA: ca, Cert: inside(e, e.Value("cert-file")), Key: inside(e, e.Value("key-file"))}
	f.etcdctl(func(name string) string { return e.Etcdctl[name].Value })
	return f
}

// inside is what a file of a process is called on this machine, or nothing when it is not there.
func inside(e *host.Etcd, file string) string {
	if file == "" {
		return ""
	}
	outside, err := e.HostPath(file)
	if err != nil {
		return ""
	}
	return outside
}

// etcdctl takes over what the variables of etcdctl say, which are a client's, where the others are the server's own: those are a client's too on most hosts.
func (f *Found) etcdctl(value func(name string) string) {
	for _, v := range []struct {
		to    *string
		names []string
	}{
		{&f.TLS.CA, []string{"ETCDCTL_CACERT", "ETCDCTL_CA_FILE"}},
		{&f.TLS.Cert, []string{"ETCDCTL_CERT", "ETCDCTL_CERT_FILE"}},
		{&f.TLS.Key, []string{"ETCDCTL_KEY", "ETCDCTL_KEY_FILE"}},
	} {
		for _, name := range v.names {
			if text := value(name); text != "" {
				*v.to = text
				break
			}
		}
	}
}

// detectEnvironment reads the environment files of installers where no unit is to be seen.
func detectEnvironment(t tree.Tree) Found {
	for _, file := range environmentFiles {
		text, err := t.Read(file)
		if err != nil {
			continue
		}
		env := map[string]string{}
		for _, a := range unit.EnvFile(text) {
			env[a.Name] = a.Value
		}
		for _, name := range []string{"ETCDCTL_ENDPOINTS", "ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS"} {
			endpoints := nearestURL(env[name])
			if endpoints == nil {
				continue
			}
			f := Found{Endpoints: endpoints, Source: file}
			if allHTTPS(endpoints) {
				f.TLS = TLS{CA: env["ETCD_TRUSTED_CA_FILE"], Cert: env["ETCD_CERT_FILE"], Key: env["ETCD_KEY_FILE"]}
				f.etcdctl(func(name string) string { return env[name] })
			}
			return f
		}
	}
	return Found{}
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

// detect fills in how a cluster is reached where nobody said it. Client files are taken over only for the machine's own endpoint or
// one that was given for this call: a file that names endpoints and no TLS means what it says.
func (c *Config) detect(opts Options) error {
	var m *host.Machine
	for i := range c.Clusters {
		from := c.origins[index("clusters", i)+".endpoints"]
		if from.Kind == FromFile {
			continue
		}
		if m == nil {
			m = host.Detect(opts.Root)
		}
		name, chosen := etcdName(m, c.Clusters[i].Name, opts.Etcd, len(c.Clusters) == 1 || c.Clusters[i].Name == opts.Cluster)
		if name == "" && from.Kind == "" && len(c.Clusters) > 1 {
			continue // one of several clusters without endpoints is a problem that check reports
		}
		found, err := find(m, name)
		if err != nil && chosen {
			return fmt.Errorf("--etcd %s: %w", name, err)
		}
		if err != nil && from.Kind == "" {
			c.Clusters[i].ambiguous = err
			continue
		}
		c.adopt(i, found)
	}
	return nil
}

// etcdName is which of a machine's etcds a cluster is: the one that was chosen for it, else the one of its name, else the only one.
func etcdName(m *host.Machine, cluster, etcd string, meant bool) (name string, chosen bool) {
	if etcd != "" && meant {
		return etcd, true
	}
	for _, e := range m.Etcds {
		if e.Name == cluster {
			return cluster, false
		}
	}
	return "", false
}

// adopt takes over what was found, for what nobody said.
func (c *Config) adopt(i int, found Found) {
	cl, at := &c.Clusters[i], index("clusters", i)
	origin := Origin{Kind: FromDetection, Name: found.Source}
	if c.origins[at+".endpoints"].Kind == "" {
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
