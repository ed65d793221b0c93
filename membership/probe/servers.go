package probe

import (
	"crypto/x509"
	"slices"
	"strings"

	"etcd-steward/internal/host"
)

// ServerFile is a file of certificates in the settings of an etcd of this machine.
type ServerFile struct {
	Path         string
	Certificates []*x509.Certificate
}

// ServerFiles reads the certificates with which this machine's etcd serves the cluster that was seen: those for its peers no client is ever shown, and when
// they expire all members answer and none leads. An etcd that is no member of that cluster is left out, and so is what cannot be read: that is told by
// `steward config show`.
func (v *View) ServerFiles(m *host.Machine) (all []ServerFile) {
	known := map[string]bool{}
	for _, member := range v.Agreed().Members {
		for _, u := range member.PeerURLs {
			known[u] = true
		}
	}
	for i := range m.Etcds {
		e := &m.Etcds[i]
		if !slices.ContainsFunc(strings.Split(e.Value("initial-advertise-peer-urls"), ","), func(u string) bool { return known[strings.TrimRight(strings.TrimSpace(u), "/")] }) {
			continue
		}
		for _, c := range m.Certificates(e) {
			if c.Err != "" || slices.ContainsFunc(all, func(f ServerFile) bool { return f.Path == c.Path }) {
				continue
			}
			if certificates, err := ReadCertificates(m.Path(c.Path)); err == nil {
				all = append(all, ServerFile{c.Path, certificates})
			}
		}
	}
	return all
}
