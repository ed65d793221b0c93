package health

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"etcd-steward/membership/probe"
)

// Certificate is one of a file, or that a file should hold.
type Certificate struct {
	Where string // for people: the path, or the field of the configuration
	Leaf  *x509.Certificate
	Err   error // why it cannot be read
	// Server: a member of this machine uses it, for its clients or its peers.
	Server bool
}

// OfServers are the certificates in the settings of this machine's etcd.
func OfServers(files []probe.ServerFile) (all []Certificate) {
	for _, f := range files {
		for _, c := range f.Certificates {
			all = append(all, Certificate{Where: f.Path, Leaf: c, Server: true})
		}
	}
	return all
}

// OfFiles are the certificates in files that are configured; "" is none.
func OfFiles(paths ...string) (all []Certificate) {
	for _, path := range paths {
		if path == "" {
			continue
		}
		found, err := probe.ReadCertificates(path)
		if err != nil {
			all = append(all, Certificate{Where: path, Err: err})
		}
		for _, c := range found {
			all = append(all, Certificate{Where: path, Leaf: c})
		}
	}
	return all
}

// certificates judges when each certificate that was seen or is configured expires. One that is seen at several places is told once.
func (j *judge) certificates() {
	seen := map[[sha256.Size]byte]bool{}
	one := func(where string, member uint64, c *x509.Certificate, next string) {
		if c == nil || seen[sha256.Sum256(c.Raw)] {
			return
		}
		seen[sha256.Sum256(c.Raw)] = true
		j.certificate(where, member, c, next)
	}
	const serverNext = "kubeadm: kubeadm certs renew all, on its host; else issue it again with the same names: etcd reads it at the next handshake"
	const clientNext = "kubeadm: kubeadm certs renew etcd-healthcheck-client; else issue it again"
	if j.View != nil {
		for i := range j.View.Answers {
			a := &j.View.Answers[i]
			for _, c := range a.Certificates {
				one("shown by "+a.Endpoint, max(a.MemberID, namedIfNone(a)), c, serverNext)
			}
		}
	}
	for _, c := range j.Certificates {
		if c.Err != nil {
			j.add(Warning, Expiry, 0, Finding{Member: c.Where, Text: "a configured certificate cannot be read", Evidence: c.Err.Error(), Next: "steward config show"})
			continue
		}
		next := clientNext
		if c.Server {
			next = serverNext
		}
		one(c.Where, 0, c.Leaf, next)
	}
	if j.View != nil {
		for _, c := range j.View.Shown {
			one("shown by this client", 0, c, clientNext)
		}
	}
}

func (j *judge) certificate(where string, member uint64, c *x509.Certificate, next string) {
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	f := Finding{Evidence: fmt.Sprintf("%q, %s, until %s", name, where, c.NotAfter.UTC().Format(time.RFC3339)), Next: next}
	if member == 0 {
		f.Member = where
	}
	what := "a certificate"
	if c.IsCA {
		what, f.Next = "a certificate authority", "prepare a new authority, and trust both for a while: every member and client reads the bundle at its start"
	}
	left := c.NotAfter.Sub(j.Now)
	severity := Info
	switch {
	case j.Now.Before(c.NotBefore):
		f.Text = what + " is not valid yet"
		f.Evidence = fmt.Sprintf("%q, %s, from %s", name, where, c.NotBefore.UTC().Format(time.RFC3339))
		f.Next = "look at the clocks: timedatectl"
		severity = Critical
	case left <= 0:
		severity, f.Text = Critical, what+" has expired"
	case left <= j.limit.CertCrit:
		severity, f.Text = Critical, what+" expires in "+span(left)
	case left <= j.limit.CertWarn:
		severity, f.Text = Warning, what+" expires in "+span(left)
	case left <= j.limit.CertInfo:
		f.Text = what + " expires in " + span(left)
	default:
		return
	}
	j.add(severity, Expiry, member, f)
}
