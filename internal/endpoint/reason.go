package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcd-steward/internal/fail"
)

// Reason finds out why a question to e failed, in one sentence with a hint. gRPC has made text of the cause; so when the connection was
// the matter, it is tried once more by hand. The endpoint's name is for the caller to add.
func (a Access) Reason(ctx context.Context, e Endpoint, err error) error {
	if err == nil || refused(err) || ctx.Err() != nil || !connection(err) {
		return a.Explain(ctx, e, err, nil)
	}
	_, cause := a.Handshake(ctx, e)
	return a.Explain(ctx, e, err, cause)
}

// Explain is Reason for who has tried the handshake already: cause is what came of it.
func (a Access) Explain(ctx context.Context, e Endpoint, err, cause error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fail.Hint(fmt.Errorf("the password of user %s is wrong, or there is no such user", a.Username), "check the user name and the password file")
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrInvalidAuthToken):
		return fail.Hint(errors.New("the cluster has authentication, and no user was given"), "name a user with the role root, or show a client certificate whose common name is one")
	case errors.Is(err, rpctypes.ErrUserNotFound):
		return fail.Hint(errors.New("the name in the client certificate is no user of the cluster"), "name a user with the role root, or show a certificate whose common name is one")
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fail.Hint(errors.New("this user may not do that"), "etcd allows it only to users with the role root: etcdctl user grant-role USER root")
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !connection(err):
		return fail.Hint(errors.New(Words(err)), "look at etcd's log there")
	case cause != nil:
		return connectionError(e, cause)
	case errors.Is(err, context.DeadlineExceeded):
		return fail.Hint(fmt.Errorf("no answer within %v", a.Bound()), "the member accepts connections but is stuck or overloaded: look at its log")
	}
	return fail.Hint(errors.New(Words(err)), "the connection can be made now: try again")
}

// refused says whether a member answered, and would not talk to this user.
func refused(err error) bool {
	return NeedsUser(err) || errors.Is(err, rpctypes.ErrAuthFailed)
}

// connection says whether a question may have failed because of the way there.
func connection(err error) bool {
	return status.Code(err) == codes.Unavailable || errors.Is(err, context.DeadlineExceeded)
}

// Handshake connects, and reads the first bytes: with TLS 1.3 a server says only then that it wants another certificate. It returns what certificates the
// server showed, leaf first, also when they are not trusted.
func (a Access) Handshake(ctx context.Context, e Endpoint) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Bound())
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.Addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	raw := conn // conn becomes another while this may run
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Now()) })()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	var shown []*x509.Certificate
	if conf := a.TLSFor(e); conf != nil {
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(e.Addr)
		}
		conf.NextProtos = []string{"h2"}
		secure := tls.Client(conn, conf)
		err := secure.HandshakeContext(ctx)
		shown = secure.ConnectionState().PeerCertificates
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			shown = untrusted.UnverifiedCertificates
		}
		if err != nil {
			return shown, err
		}
		conn = secure
	}
	// What an HTTP/2 client sends first: the preface, and empty settings (RFC 9113, 3.4).
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return shown, err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, syscall.EAGAIN) {
		return shown, err
	}
	return shown, nil
}

// connectionError names the usual causes.
func connectionError(e Endpoint, err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var remote *net.OpError
	var record tls.RecordHeaderError
	var timeout net.Error
	hint := "check that etcd runs there, and the endpoint: etcdctl --endpoints " + e.URL + " endpoint health"
	switch {
	case errors.As(err, &unknown):
		err, hint = errors.New("its certificate was not signed by the given CA"), "give the CA of etcd's client certificates with --cacert; on kubeadm it is /etc/kubernetes/pki/etcd/ca.crt"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		err, hint = expired(invalid.Cert), "renew etcd's certificate (kubeadm certs renew etcd-server), or set this host's clock"
	case errors.As(err, &host):
		err, hint = fmt.Errorf("its certificate is not for this name: %w", host), "use a name or an address that is in the certificate"
	case errors.As(err, &remote) && remote.Op == "remote error": // crypto/tls: an alert from the other side
		err, hint = fmt.Errorf("it refuses the client certificate, or that there is none (%w)", remote.Err), "give a certificate and key that etcd's client CA has signed with --cert and --key, and look whether it has expired"
	case errors.As(err, &record):
		err, hint = errors.New("it does not speak TLS"), "write the endpoint with http://"
	case errors.As(err, &timeout) && timeout.Timeout():
		err, hint = errors.New("no answer in time"), "check the network between here and there, and that the member is not stuck"
	case e.Secure && closedEarly(err):
		err, hint = errors.New("it closed the connection during the TLS handshake"), "it may not speak TLS: write the endpoint with http://"
	case closedEarly(err):
		err, hint = errors.New("it closed the connection at once"), "it may want TLS: write the endpoint with https://"
	}
	return fail.Hint(err, hint)
}

func expired(cert *x509.Certificate) error {
	if now := time.Now(); cert != nil && now.Before(cert.NotBefore) {
		return fmt.Errorf("its certificate is valid only from %s", cert.NotBefore.UTC().Format(time.RFC3339))
	} else if cert != nil {
		return fmt.Errorf("its certificate expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return errors.New("its certificate has expired")
}

func closedEarly(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || strings.HasSuffix(err.Error(), "EOF")
}
