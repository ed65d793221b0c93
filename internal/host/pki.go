package host

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
)

// PKI is where the certificates of a member are. Server and peer may share a pair.
type PKI struct {
	CA       string `json:"ca"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	PeerCA   string `json:"peer_ca"`
	PeerCert string `json:"peer_cert"`
	PeerKey  string `json:"peer_key"`
}

func (k PKI) files() []string { return []string{k.CA, k.Cert, k.Key, k.PeerCA, k.PeerCert, k.PeerKey} }

// Where installers put certificates: kubeadm, kubespray, and people.
const (
	kubeadmPKI = "/etc/kubernetes/pki/etcd"
	sprayPKI   = "/etc/ssl/etcd/ssl"
)

var plainPKI = []string{"/etc/etcd/pki", "/etc/etcd/ssl"}

func pairs(dir, ca, server, serverKey, peer, peerKey string) PKI {
	at := func(name string) string { return path.Join(dir, name) }
	return PKI{CA: at(ca), Cert: at(server), Key: at(serverKey), PeerCA: at(ca), PeerCert: at(peer), PeerKey: at(peerKey)}
}

func sprayPair(name string) PKI {
	return pairs(sprayPKI, "ca.pem", name+".pem", name+"-key.pem", name+".pem", name+"-key.pem")
}

func kubeadmPair() PKI {
	return pairs(kubeadmPKI, "ca.crt", "server.crt", "server.key", "peer.crt", "peer.key")
}

// plainPairs are the names that people give to files in a folder of their own.
func plainPairs(dir string) []PKI {
	return []PKI{
		pairs(dir, "ca.crt", "server.crt", "server.key", "peer.crt", "peer.key"),
		pairs(dir, "ca.pem", "server.pem", "server-key.pem", "peer.pem", "peer-key.pem"),
		pairs(dir, "ca.pem", "etcd.pem", "etcd-key.pem", "etcd.pem", "etcd-key.pem"),
		pairs(dir, "ca.crt", "etcd.crt", "etcd.key", "etcd.crt", "etcd.key"),
	}
}

func (m *Machine) complete(k PKI) bool {
	return !slices.ContainsFunc(k.files(), func(f string) bool { return !m.tree().Exists(f) })
}

// pki finds the certificates of a member that is to be: where another member has its own, else where kubeadm, kubespray or people put them. Where two folders have some
// it is an error, as nothing says which. looked is where it looked, the likeliest first.
func (m *Machine) pki(kind Kind, t *Template, member string) (found PKI, looked []PKI, err error) {
	hostname := (&finder{Tree: m.tree(), m: m}).hostName()
	if alike := t.pki(hostname, member); alike != nil {
		looked = append(looked, alike...)
	}
	if kind == StaticPod {
		looked = append(looked, kubeadmPair())
	} else {
		looked = append(looked, sprayPair("member-"+hostname))
	}
	for _, k := range looked {
		if m.complete(k) {
			return k, looked, nil
		}
	}
	if kind == StaticPod {
		return PKI{}, looked, nil
	}
	var all []PKI // none of these says for whom it is
	for _, name := range m.tree().List(sprayPKI) {
		if stem, ok := strings.CutSuffix(name, ".pem"); ok && strings.HasPrefix(name, "member-") && !strings.HasSuffix(stem, "-key") {
			all = append(all, sprayPair(stem))
		}
	}
	for _, dir := range plainPKI {
		all = append(all, plainPairs(dir)...)
	}
	all = append(all, kubeadmPair())
	ready := slices.DeleteFunc(slices.Clone(all), func(k PKI) bool { return !m.complete(k) })
	switch {
	case len(ready) > 1 && ready[0].Cert != kubeadmPair().Cert:
		err := fmt.Errorf("this machine has certificates for the new member in more than one place: %s and %s", ready[0].Cert, ready[1].Cert)
		return PKI{}, looked, fail.Refused(err, "say in etcd's configuration which ones it is to use (cert-file, peer-cert-file ...), or take the others away")
	case len(ready) == 1:
		return ready[0], looked, nil
	}
	return PKI{}, append(looked, plainPairs(plainPKI[0])[0], plainPairs(plainPKI[1])[0]), nil
}

// pki is where this machine would have what the template's has: with its own names in those of the files, and with the very same ones.
func (t *Template) pki(hostname, member string) []PKI {
	server, peer := t.value("cert-file"), t.value("peer-cert-file")
	if server == "" && peer == "" {
		return nil
	}
	k := PKI{
		CA: t.value("trusted-ca-file"), Cert: server, Key: t.value("key-file"),
		PeerCA: t.value("peer-trusted-ca-file"), PeerCert: peer, PeerKey: t.value("peer-key-file"),
	}
	if server == "" {
		k.CA, k.Cert, k.Key = k.PeerCA, k.PeerCert, k.PeerKey
	}
	if peer == "" {
		k.PeerCA, k.PeerCert, k.PeerKey = k.CA, k.Cert, k.Key
	}
	if k.CA == "" {
		k.CA = k.PeerCA
	}
	if k.PeerCA == "" {
		k.PeerCA = k.CA
	}
	for _, f := range k.files() {
		if !path.IsAbs(f) || path.Clean(f) != f {
			return nil
		}
	}
	own := k
	for _, f := range []*string{&own.Cert, &own.Key, &own.PeerCert, &own.PeerKey} {
		*f = t.rename(*f, hostname, member)
	}
	if own == k {
		return []PKI{k}
	}
	return []PKI{own, k}
}

// noPKI says which files are missing, for whom they must be valid, and where they go.
func noPKI(m *Machine, looked []PKI, settings func(flag string) string) error {
	k := looked[0]
	names := strings.Join(certificateNames(settings), ", ")
	var missing []string
	for _, f := range k.files() {
		if !m.tree().Exists(f) && !slices.Contains(missing, f) {
			missing = append(missing, f)
		}
	}
	where := make([]string, 0, len(looked))
	for _, l := range looked {
		if dir := path.Dir(l.Cert); !slices.Contains(where, dir) {
			where = append(where, dir)
		}
	}
	pair := fmt.Sprintf("%s (key %s) and %s (key %s)", k.Cert, k.Key, k.PeerCert, k.PeerKey)
	if k.Cert == k.PeerCert {
		pair = fmt.Sprintf("%s (key %s)", k.Cert, k.Key)
	}
	return fail.Refused(fmt.Errorf("this machine has no certificates for the new member: missing are %s; looked in %s", strings.Join(missing, ", "), strings.Join(where, ", ")),
		fmt.Sprintf("copy the CA from another member to %s; issue %s by it, valid for %s, for server and client use; then type the same command again", k.CA, pair, names))
}

// certificateNames are those for which a member's certificates must be valid: where it is reached.
func certificateNames(settings func(flag string) string) []string {
	var all []string
	for _, flag := range []string{"initial-advertise-peer-urls", "advertise-client-urls", "listen-peer-urls", "listen-client-urls"} {
		for _, raw := range splitList(settings(flag)) {
			u, err := url.Parse(raw)
			if name := u.Hostname(); err == nil && name != "" && name != "0.0.0.0" && name != "::" && !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

// errOutside: a container cannot see a file.
var errOutside = errors.New("no mount of its container shows it")

// inside is what the process of a workload calls a file of this machine.
func (w *Workload) inside(outside string) (string, error) {
	if !w.Container {
		return outside, nil
	}
	best := -1
	for i, mount := range w.Mounts {
		if (outside == mount.Host || strings.HasPrefix(outside, strings.TrimSuffix(mount.Host, "/")+"/")) && (best < 0 || len(mount.Host) > len(w.Mounts[best].Host)) {
			best = i
		}
	}
	if best < 0 {
		return "", fmt.Errorf("%s cannot be used by %s: %w", outside, w.Name, errOutside)
	}
	return path.Join(w.Mounts[best].Inside, strings.TrimPrefix(outside, strings.TrimSuffix(w.Mounts[best].Host, "/"))), nil
}
