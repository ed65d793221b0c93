package membership

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// others talks to every member's peer URL as this machine's etcd will: that shows whether the way is open, whether the certificates are good in both
// directions, whether it is the right cluster, and whose clock is wrong.
func (s *Site) others(ctx context.Context, t *plan.Task, b Basis, e *host.Etcd) error {
	var conf *tls.Config
	if strings.HasPrefix(b.Adds.PeerURL, "https://") {
		var err error
		if conf, err = s.peerTLS(e, b.Adds.PeerURL); err != nil {
			return err
		}
	}
	c, _, err := s.see(ctx, t.Plan)
	if err != nil {
		return err
	}
	for _, m := range c.Members {
		if m.ID == b.Removes || m.Learner && m.Answer == nil || len(m.PeerURLs) == 0 { // every voter answered when the plan was made: one that does not answer here is cut off from here
			continue
		}
		for _, u := range m.PeerURLs {
			cluster, skew, err := greet(ctx, u, conf)
			switch {
			case err != nil:
				return fail.Refused(fmt.Errorf("%s cannot be reached as a peer from here: %w", m.Spec, err), peerHint(err))
			case cluster != b.ClusterID:
				return fail.Refused(fmt.Errorf("at %s is a member of cluster %s, and the plan is for %s", u, cluster, b.ClusterID), "check where that name leads on this machine")
			case skew.Abs() > skewMax:
				return fail.Refused(fmt.Errorf("the clock of %s is %v away from this machine's", m.Spec, skew.Abs()), "set the clocks (chronyd, systemd-timesyncd)")
			}
		}
	}
	return nil
}

func peerHint(err error) string {
	var remote *net.OpError
	switch {
	case errors.As(err, &remote) && remote.Op == "remote error":
		return "it refuses this machine's peer certificate: let the CA that the members trust for peers (peer-trusted-ca-file) sign it"
	case strings.Contains(err.Error(), "x509"):
		return "this machine's peer CA (peer-trusted-ca-file) must be the one that signed the members' certificates"
	}
	return "open the way to the members' peer port (2380) on this machine, on theirs and between them"
}

// greet asks a peer URL for its members, as etcd itself does when it joins; the answer's headers name the cluster and the time.
func greet(ctx context.Context, peerURL string, conf *tls.Config) (ID, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true} // and no proxy
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(peerURL, "/")+"/members", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return 0, 0, err
	}
	var id ID
	if err := id.UnmarshalText([]byte(resp.Header.Get("X-Etcd-Cluster-ID"))); err != nil {
		return 0, 0, fmt.Errorf("%s is no peer of etcd (HTTP %d)", peerURL, resp.StatusCode)
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return id, 0, nil //nolint:nilerr // a proxy took the time away
	}
	skew := time.Until(at)
	if skew.Abs() <= time.Second {
		skew = 0 // it is told to the second
	}
	return id, skew, nil
}

// peerTLS is what this machine's etcd shows to its peers, and trusts. The certificate must serve in both directions: etcd is its peers' server and client.
func (s *Site) peerTLS(e *host.Etcd, peerURL string) (*tls.Config, error) {
	files, err := s.files(e, "peer-cert-file", "peer-key-file", "peer-trusted-ca-file")
	if err != nil {
		return nil, err
	}
	pair, pool, err := loadPair("peer", files)
	if err != nil {
		return nil, err
	}
	if err := fit(pair, pool, peerURL, time.Now()); err != nil {
		return nil, fail.Refused(fmt.Errorf("this machine's peer certificate %s: %w", files[0], err), "issue one for this machine's name and address, for server and client use, by the members' CA")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

// servesClients: the certificate that etcd will show to clients is good for where they will reach it.
func (s *Site) servesClients(e *host.Etcd, clientURL string) error {
	if !strings.HasPrefix(clientURL, "https://") || e.Value("auto-tls") == "true" {
		return nil
	}
	flags := []string{"cert-file", "key-file"}
	if e.Value("trusted-ca-file") != "" {
		flags = append(flags, "trusted-ca-file")
	}
	files, err := s.files(e, flags...)
	if err != nil {
		return err
	}
	pair, pool, err := loadPair("server", files)
	if err != nil {
		return err
	}
	err = fit(pair, pool, clientURL, time.Now(), x509.ExtKeyUsageServerAuth)
	var stranger x509.UnknownAuthorityError
	if errors.As(err, &stranger) && s.Access.TLS != nil { // clients' own certificates may be another authority's
		err = fit(pair, s.Access.TLS.RootCAs, clientURL, time.Now(), x509.ExtKeyUsageServerAuth)
	}
	if err != nil {
		return fail.Refused(fmt.Errorf("this machine's server certificate %s: %w", files[0], err), "issue one for this machine's name and address, for server and client use, by the members' CA")
	}
	return nil
}

// files are where those of an etcd's settings lie on this machine.
func (s *Site) files(e *host.Etcd, flags ...string) ([]string, error) {
	all := make([]string, 0, len(flags))
	for _, f := range flags {
		if e.Value(f) == "" {
			return nil, fail.Refused(fmt.Errorf("the members talk TLS, and this machine's etcd has no %s", f), "issue a certificate for this machine, and set "+f)
		}
		outside, err := e.HostPath(e.Value(f))
		if err != nil {
			return nil, err
		}
		all = append(all, s.Host.Machine.Path(outside))
	}
	return all, nil
}

// loadPair reads a certificate, its key, and whom it trusts; nil where no such file is named.
func loadPair(use string, files []string) (tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(files[0], files[1])
	if err != nil {
		return pair, nil, fail.Refused(fmt.Errorf("this machine's %s certificate: %w", use, err), "certificate and key must belong together, and be readable")
	}
	if len(files) < 3 {
		return pair, nil, nil
	}
	pem, err := os.ReadFile(files[2])
	if err != nil {
		return pair, nil, fail.Refused(fmt.Errorf("this machine's %s CA: %w", use, err), "copy it from another member")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return pair, nil, fail.Refused(fmt.Errorf("%s holds no certificate", files[2]), "copy the CA from another member")
	}
	return pair, pool, nil
}

// peerUses are what a peer's certificate is for: it is its peers' server and client.
var peerUses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

var useNames = map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "a server", x509.ExtKeyUsageClientAuth: "a client"}

// fit says why a certificate cannot be a member's at that URL: a peer's, unless other uses are named. Without authorities, nobody can say who signed it.
func fit(pair tls.Certificate, pool *x509.CertPool, peerURL string, now time.Time, uses ...x509.ExtKeyUsage) error {
	if len(uses) == 0 {
		uses = peerUses
	}
	leaf := pair.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return err
		}
	}
	u, err := url.Parse(peerURL)
	if err != nil {
		return err
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("it expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("it is valid only from %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if err := leaf.VerifyHostname(u.Hostname()); err != nil {
		return fmt.Errorf("it is not for %s: %w", u.Hostname(), err)
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, use := range uses {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
			return fmt.Errorf("it is not for %s's use, and a member's must be", useNames[use])
		} else if err != nil {
			return err
		}
	}
	return nil
}
