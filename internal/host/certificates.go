package host

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"
)

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

// maxCertificates bounds how many certificates of one file are looked at.
const maxCertificates = 256

// Certificates are those in the settings of an etcd. A file of authorities is told by the one that expires first; a pair by its first certificate, the leaf.
func (m *Machine) Certificates(e *Etcd) []Certificate {
	var all []Certificate
	for _, c := range []struct{ use, cert, key string }{
		{"client", "cert-file", "key-file"},
		{"client CA", "trusted-ca-file", ""},
		{"peer", "peer-cert-file", "peer-key-file"},
		{"peer CA", "peer-trusted-ca-file", ""},
	} {
		file := e.Value(c.cert)
		if file == "" {
			continue
		}
		one := Certificate{Use: c.use, Path: file}
		if key := e.Value(c.key); key != "" {
			one.Key = key
			if outside, err := e.HostPath(key); err == nil {
				one.Key = outside
			}
		}
		outside, err := e.HostPath(file)
		if err == nil {
			one.Path = outside
			err = m.readCertificate(&one, c.key == "")
		}
		if err != nil {
			one.Err = err.Error()
		}
		all = append(all, one)
	}
	return all
}

func (m *Machine) readCertificate(c *Certificate, authority bool) error {
	text, err := m.tree().Read(c.Path)
	if err != nil {
		return err
	}
	var chosen *x509.Certificate
	for range maxCertificates {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if chosen == nil || authority && cert.NotAfter.Before(chosen.NotAfter) {
			chosen = cert
		}
		if !authority {
			break
		}
	}
	if chosen == nil {
		return errors.New("no certificate in PEM")
	}
	c.Subject, c.Issuer, c.NotBefore, c.NotAfter = chosen.Subject.String(), chosen.Issuer.String(), chosen.NotBefore, chosen.NotAfter
	c.Names = slices.Clone(chosen.DNSNames)
	for _, ip := range chosen.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	all := slices.Contains(chosen.ExtKeyUsage, x509.ExtKeyUsageAny) || len(chosen.ExtKeyUsage) == 0
	c.Server = all || slices.Contains(chosen.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	c.Client = all || slices.Contains(chosen.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	return nil
}
