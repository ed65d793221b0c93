package maintain

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"etcd-steward/membership/probe"
)

// canaryTTL is how long the canary's lease lives when nobody revokes it, in seconds.
const canaryTTL = 60

// Writable proves that the cluster accepts writes, and leaves nothing behind: it grants a lease and revokes it. Leases go the way of puts through the log, and
// are refused with them when there is no space (etcd's capped applier and quota check), but they make no key and no revision.
// False, without an error, means that etcd refused for want of space.
func (c *Cluster) Writable(ctx context.Context, v *probe.View) (bool, error) {
	conn, err := c.dialVoter(ctx, v)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	granted, err := probe.Call(ctx, conn, callLimit, conn.Leases().LeaseGrant, &pb.LeaseGrantRequest{TTL: canaryTTL})
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("prove that writes are accepted: %w", err)
	}
	if _, err := probe.Call(ctx, conn, callLimit, conn.Leases().LeaseRevoke, &pb.LeaseRevokeRequest{ID: granted.GetID()}); err != nil {
		return false, fmt.Errorf("prove that writes are accepted: %w", err)
	}
	return true, nil
}
