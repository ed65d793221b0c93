package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// Conn is a connection to one member, of which it was checked there that it is that one. It is safe for concurrent use.
type Conn struct {
	Endpoint string
	MemberID uint64

	access endpoint.Access
	e      endpoint.Endpoint
	conn   *grpc.ClientConn
	secure bool
	mu     sync.Mutex
	token  string
}

// Dial connects to the member with this ID, at the first of its endpoints in the view that leads to it, within the access's timeout for each.
func Dial(ctx context.Context, a Access, v *View, id uint64) (*Conn, error) {
	tried := map[string]bool{}
	err := fmt.Errorf("member %016x does not answer at any client URL that is known", id)
	for _, answered := range []bool{true, false} { // first those at which it answered
		for _, ans := range v.Answers {
			right := ans.MemberID == id || ans.MemberID == 0 && ans.Named == id
			if !right || tried[ans.Endpoint] || answered != (ans.Err == nil) {
				continue
			}
			tried[ans.Endpoint] = true
			c, e := DialURL(ctx, a, ans.Endpoint, id)
			if e == nil {
				return c, nil
			}
			err = e
		}
	}
	return nil, err
}

// DialURL connects to an endpoint, and checks that the member with this ID is there; 0 is any.
func DialURL(ctx context.Context, a Access, url string, id uint64) (*Conn, error) {
	e, err := a.endpoint().Parse(url)
	if err != nil {
		return nil, err
	}
	given, err := a.parse()
	if err != nil {
		return nil, err
	}
	c := &Conn{Endpoint: e.URL, access: a.endpoint(), e: e}
	for _, g := range given {
		c.secure = c.secure || g.Secure
	}
	if c.conn, err = c.access.Dial(e); err != nil {
		return nil, err
	}
	st, err := Call(ctx, c, c.access.Bound(), pb.NewMaintenanceClient(c.conn).Status, &pb.StatusRequest{})
	if err == nil && id != 0 && st.GetHeader().GetMemberId() != id {
		err = fail.Hint(fmt.Errorf("%s leads to member %016x, not to %016x", e.URL, st.GetHeader().GetMemberId(), id), "give the members' own addresses instead of a load balancer's")
	}
	if err != nil {
		_ = c.conn.Close()
		return nil, err
	}
	c.MemberID = st.GetHeader().GetMemberId()
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Maintenance is the maintenance service at this member; ask it, as the others below, with [Call].
func (c *Conn) Maintenance() pb.MaintenanceClient { return pb.NewMaintenanceClient(c.conn) }

// Members is the cluster service.
func (c *Conn) Members() pb.ClusterClient { return pb.NewClusterClient(c.conn) }

// KV is the key-value service.
func (c *Conn) KV() pb.KVClient { return pb.NewKVClient(c.conn) }

// Leases is the lease service.
func (c *Conn) Leases() pb.LeaseClient { return pb.NewLeaseClient(c.conn) }

// Call asks one question, within a bound, and never waits for a connection to come back, as etcd's own client does. It logs in when the member wants that.
// Errors of etcd's can be compared with rpctypes. When the connection was the matter, the error says why it failed.
func Call[Q, R any](ctx context.Context, c *Conn, within time.Duration, f func(context.Context, Q, ...grpc.CallOption) (R, error), question Q) (R, error) {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	r, err := f(endpoint.WithToken(bounded, token), question, grpc.WaitForReady(false))
	err = endpoint.Error(err)
	if endpoint.NeedsUser(err) && c.access.Username != "" && !errors.Is(err, rpctypes.ErrPermissionDenied) || token == "" && c.access.Username != "" && errors.Is(err, rpctypes.ErrPermissionDenied) {
		if c.secure && !c.e.Secure {
			return r, fmt.Errorf("%s: the password is not sent without TLS: %w", c.Endpoint, err)
		}
		var loginErr error
		if token, loginErr = c.access.Token(bounded, c.conn); loginErr != nil {
			return r, c.explain(ctx, loginErr)
		}
		c.mu.Lock()
		c.token = token
		c.mu.Unlock()
		r, err = f(endpoint.WithToken(bounded, token), question, grpc.WaitForReady(false))
		err = endpoint.Error(err)
	}
	return r, c.explain(ctx, err)
}

// explain names the endpoint, and keeps errors comparable.
func (c *Conn) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) && etcd.Code() != codes.Unavailable {
		return fail.Hint(fmt.Errorf("%s: %w", c.Endpoint, err), fail.HintOf(c.access.Explain(ctx, c.e, err, nil)))
	}
	why := c.access.Reason(ctx, c.e, err)
	return fail.Hint(fmt.Errorf("%s: %w", c.Endpoint, &unreachable{why, err}), fail.HintOf(why))
}

// unreachable is why, and can be compared with what gRPC said.
type unreachable struct{ why, cause error }

func (u *unreachable) Error() string   { return u.why.Error() }
func (u *unreachable) Unwrap() []error { return []error{u.why, u.cause} }
