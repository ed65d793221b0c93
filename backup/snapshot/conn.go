package snapshot

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// access is with what the cluster's members are reached.
func (c Cluster) access() endpoint.Access {
	return endpoint.Access{TLS: c.TLS, Username: c.Username, Password: c.Password, Timeout: c.DialTimeout}
}

// reason is why a question to e failed, in one sentence with a hint.
func (c Cluster) reason(ctx context.Context, e endpoint.Endpoint, err error) error {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return fail.Hint(errors.New("this user may not take snapshots"), "a snapshot holds everything, so etcd gives it only to users with the role root: etcdctl user grant-role USER root")
	}
	return c.access().Reason(ctx, e, err)
}
