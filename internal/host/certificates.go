package host

import "time"

// Certificate is one certificate that an etcd here uses.
type Certificate struct {
	Use       string    `json:"use"` // "client", "client CA", "peer", "peer CA"
	Path      string    `json:"path"`
	Key       string    `json:"key,omitempty"` // path of its key
	Subject   string    `json:"subject,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Names     []string  `json:"names,omitempty"` // DNS names and addresses that it is valid for
	// Server, Client: what its extended key usage allows.
	Server bool `json:"server,omitempty"`
	Client bool `json:"client,omitempty"`
	// Err: it cannot be read or is none.
	Err string `json:"error,omitempty"`
}

// Certificates are those in the settings of an etcd. A file with several is told by the one that expires first.
func (m *Machine) Certificates(e *Etcd) []Certificate { panic("unreachable: not built yet") }
