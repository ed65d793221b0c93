package snapshot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

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

// endpoint is a client URL.
type endpoint struct {
	url    string // as people write it
	addr   string // host:port
	secure bool
}

// parseEndpoint reads an endpoint as etcdctl does: a URL, or host:port.
func (c Cluster) parseEndpoint(s string) (endpoint, error) {
	if !strings.Contains(s, "://") {
		scheme := "http://"
		if c.TLS != nil {
			scheme = "https://"
		}
		s = scheme + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.Scheme != "http" && u.Scheme != "https" {
		return endpoint{}, fail.New(fail.Usage, fmt.Errorf("endpoint %q is no client URL", s), "give https://host:2379 or http://host:2379")
	}
	return endpoint{url: u.Scheme + "://" + u.Host, addr: u.Host, secure: u.Scheme == "https"}, nil
}

// tls is the configuration for a connection to e; nil without TLS. An https endpoint without configuration uses the system's CAs.
func (c Cluster) tls(e endpoint) *tls.Config {
	switch {
	case !e.secure:
		return nil
	case c.TLS == nil:
		return &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return c.TLS.Clone()
	}
}

// dial makes a connection to one endpoint. It is not etcd's own client: that waits and retries until its deadline, and then has
// forgotten why the connection failed.
func (c Cluster) dial(e endpoint, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if conf := c.tls(e); conf != nil {
		creds = credentials.NewTLS(conf)
	}
	// A proxy from the environment is for the world outside: etcd's members are reached without one.
	opts = append(opts, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	conn, err := grpc.NewClient("passthrough:///"+e.addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// token logs the cluster's user in. To check a password, etcd needs a quorum. Without a user, or where etcd asks for none, it is empty.
func (c Cluster) token(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	if c.Username == "" {
		return "", nil
	}
	resp, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: c.Username, Password: c.Password})
	if err = rpcError(err); errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("log in as %s: %w", c.Username, err)
	}
	return resp.GetToken(), nil
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// rpcError makes etcd's errors comparable with rpctypes, and a deadline that gRPC noticed a context error.
func rpcError(err error) error {
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

// words is the text of an error of etcd's, without gRPC's.
func words(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}
