// Package endpoint connects to one member of etcd at one client URL, and when that fails finds out why, in one sentence with a hint. It is not etcd's own
// client: that waits and retries until its deadline, and then has forgotten why the connection failed.
//
// It promises that every question is bounded, that nothing is retried, and that no proxy is asked. It judges nothing of what a member says.
package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"etcd-steward/internal/fail"
)

// Access is with what members are reached.
type Access struct {
	TLS *tls.Config
	// Username and Password for clusters with authentication; a client certificate's common name serves as well.
	Username, Password string
	// Timeout bounds each question; 0 means 5 s.
	Timeout time.Duration
}

const defaultTimeout = 5 * time.Second

// Bound is how long one question may take.
func (a Access) Bound() time.Duration {
	if a.Timeout > 0 {
		return a.Timeout
	}
	return defaultTimeout
}

// Endpoint is a client URL. Two of the same member's are different endpoints.
type Endpoint struct {
	URL    string // as people write it
	Addr   string // host:port
	Secure bool
}

// Parse reads an endpoint as etcdctl does: a URL, or host:port.
func (a Access) Parse(s string) (Endpoint, error) {
	if !strings.Contains(s, "://") {
		scheme := "http://"
		if a.TLS != nil {
			scheme = "https://"
		}
		s = scheme + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.Scheme != "http" && u.Scheme != "https" {
		return Endpoint{}, fail.New(fail.Usage, fmt.Errorf("endpoint %q is no client URL", s), "give https://host:2379 or http://host:2379")
	}
	return Endpoint{URL: u.Scheme + "://" + u.Host, Addr: u.Host, Secure: u.Scheme == "https"}, nil
}

// TLSFor is the configuration for a connection to e, a copy; nil without TLS. An https endpoint without configuration uses the system's CAs.
func (a Access) TLSFor(e Endpoint) *tls.Config {
	switch {
	case !e.Secure:
		return nil
	case a.TLS == nil:
		return &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return a.TLS.Clone()
	}
}

// Dial makes a connection to one endpoint. It returns at once: what is wrong shows with the first question.
func (a Access) Dial(e Endpoint, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if conf := a.TLSFor(e); conf != nil {
		creds = credentials.NewTLS(conf)
	}
	// A proxy from the environment is for the world outside: etcd's members are reached without one.
	opts = append(opts, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	conn, err := grpc.NewClient("passthrough:///"+e.Addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// Token logs the user in. To check a password, etcd needs a quorum. Without a user, or where etcd asks for none, it is empty.
func (a Access) Token(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	if a.Username == "" {
		return "", nil
	}
	resp, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: a.Username, Password: a.Password})
	if err = Error(err); errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("log in as %s: %w", a.Username, err)
	}
	return resp.GetToken(), nil
}

// WithToken makes questions asked with ctx those of the user whose token it is; "" changes nothing.
func WithToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// Error makes etcd's errors comparable with rpctypes, and a deadline that gRPC noticed a context error.
func Error(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch {
	case st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %s", context.DeadlineExceeded, st.Message())
	case st.Message() == "auth: permission denied": // 3.5 does not translate what a stream returns
		return rpctypes.ErrPermissionDenied
	case st.Message() == "auth: user not found":
		return rpctypes.ErrUserNotFound
	}
	return rpctypes.Error(err)
}

// Words is the text of an error of etcd's, without gRPC's.
func Words(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// NeedsUser says whether a question was refused for want of a user, or of rights.
func NeedsUser(err error) bool {
	// A client certificate whose name is no user's is taken for one, and not found.
	return errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrUserNotFound) || errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrInvalidAuthToken)
}
