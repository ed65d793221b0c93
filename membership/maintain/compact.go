package maintain

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// DefaultKeep is how many revisions stay when nobody says how many: enough for whoever watches to be some minutes behind.
const DefaultKeep = 10_000

// CompactRule says up to where history is removed. Revision wins over Keep.
type CompactRule struct {
	Revision int64 // 0: by Keep
	Keep     int64 // so many revisions stay; 0: none but the newest
	// Recorded is up to which revision the change log in the store holds everything; 0: no store is configured, or it knows nothing.
	Recorded int64
}

// Compact is what a compaction is going to do.
type Compact struct {
	Revision int64 `json:"revision"` // history before it is removed; 0: nothing is to be done
	Current  int64 `json:"current"`
	// Capped: it would have been more, but the change log has not got so far.
	Capped bool `json:"capped,omitempty"`
}

// PlanCompact decides. A revision that somebody asks for and that the change log has not reached is a closed gate; one that is computed stops at it.
func PlanCompact(v *probe.View, r CompactRule) (Compact, []Gate) {
	gates := common(v)
	agreed := v.Agreed()
	var c Compact
	for _, a := range v.Answering() {
		if a.ClusterID == agreed.ClusterID {
			c.Current = max(c.Current, a.Revision)
		}
	}
	if r.Revision > 0 {
		c.Revision = r.Revision
		if r.Revision > c.Current {
			gates = append(gates, Gate{Rule: "the revision has been", Evidence: fmt.Sprintf("%d is asked for, the newest is %d", r.Revision, c.Current), Safe: "name one that is not in the future"})
		}
		if r.Recorded > 0 && r.Revision > r.Recorded {
			gates = append(gates, Gate{
				Rule: "what is removed is in the change log", Evidence: fmt.Sprintf("it holds everything up to revision %d, and %d is asked for: what lies between could never be restored", r.Recorded, r.Revision),
				Safe: "wait until stewardd has recorded it (steward backup list), or name an older revision", Force: true,
			})
		}
		return c, gates
	}
	c.Revision = max(0, c.Current-r.Keep)
	if r.Recorded > 0 && c.Revision > r.Recorded {
		c.Revision, c.Capped = r.Recorded, true
	}
	return c, gates
}

// compactLimit is how long the removal is waited for. It goes on by itself when nobody waits.
const compactLimit = 10 * time.Minute

// Compact removes history, and waits until the member that was asked has removed it from its file; the others do so at the same time. False says that it had
// been compacted so far before.
func (c *Cluster) Compact(ctx context.Context, v *probe.View, revision int64) (done bool, err error) {
	conn, err := c.dialVoter(ctx, v)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	c.say("removing the history before revision %d", revision)
	_, err = probe.Call(ctx, conn, compactLimit, conn.KV().Compact, &pb.CompactionRequest{Revision: revision, Physical: true})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, rpctypes.ErrCompacted):
		return false, nil
	case errors.Is(err, context.DeadlineExceeded):
		return false, fail.Hint(fmt.Errorf("compact up to revision %d: %w", revision, err), "etcd goes on by itself; do the same again later")
	}
	return false, fmt.Errorf("compact up to revision %d: %w", revision, err)
}

// freed waits until no member's data shrink any more, for a while at most: each removes history at its own pace.
func (c *Cluster) freed(ctx context.Context) (*probe.View, error) {
	var last int64 = -1
	for until := time.Now().Add(healthWait); ; {
		v, err := c.Look(ctx)
		if err != nil {
			return nil, err
		}
		var inUse int64
		for _, a := range v.Answering() {
			inUse += a.DBInUse
		}
		if inUse == last || time.Now().After(until) {
			return v, nil
		}
		last = inUse
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}
