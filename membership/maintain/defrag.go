package maintain

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// DefaultPause is between two members.
const DefaultPause = 30 * time.Second

// DefragOptions say how a plan is executed.
type DefragOptions struct {
	Pause time.Duration
	Force string // why gates that may be forced are passed; "" passes none
	Known []Gate // those that were closed when it was given: it passes no others
}

// Done is what became of one member.
type Done struct {
	Name    string  `json:"name"`
	Before  int64   `json:"size_before"`
	After   int64   `json:"size_after"`
	Seconds float64 `json:"seconds"`
}

// Defrag executes a plan, one member at a time, and stops at the first failure. Before each member the cluster is looked at again. What was done is
// returned in any case.
func (c *Cluster) Defrag(ctx context.Context, d Defrag, o DefragOptions) ([]Done, error) {
	var done []Done
	for i, s := range d.Steps {
		if i > 0 && o.Pause > 0 {
			c.say("pause of %v", o.Pause)
			if err := pause(ctx, o.Pause); err != nil {
				return done, err
			}
		}
		v, err := c.ready(ctx, d, o)
		if err == nil {
			_, err = Pass(c.rooms().Narrow(v, Defrag{Steps: d.Steps[i : i+1]}), "") // nobody but a person makes room: that is not waited for
		}
		if err != nil {
			return done, fmt.Errorf("before %s: %w", s.Name, err)
		}
		if !d.Single && v.Agreed().Leader == s.Member {
			if v, err = c.moveLeader(ctx, v, s.Member); err != nil {
				return done, fmt.Errorf("move the leader away from %s: %w", s.Name, err)
			}
		}
		one, err := c.defragOne(ctx, v, s)
		if err != nil {
			return done, err
		}
		done = append(done, one)
		c.say("%s, %d of %d: %s before, %s after, in %.1f s", one.Name, i+1, len(d.Steps), bytes(one.Before), bytes(one.After), one.Seconds)
		if err := c.settled(ctx, s.Member); err != nil {
			return done, fmt.Errorf("after %s: %w", s.Name, err)
		}
	}
	return done, nil
}

// ready looks, and waits a little for gates that open by themselves: an election, a lag.
func (c *Cluster) ready(ctx context.Context, d Defrag, o DefragOptions) (v *probe.View, err error) {
	for until := time.Now().Add(healthWait); ; {
		if v, err = c.Look(ctx); err != nil {
			return nil, err
		}
		if _, err = Pass(known(GatesOfDefrag(v, d, nil), o.Known), o.Force); err == nil || time.Now().After(until) {
			return v, err
		}
		if err := pause(ctx, healthEvery); err != nil {
			return nil, err
		}
	}
}

// defragOne does it. The member answers nobody meanwhile; when it is not waited for any longer, it goes on all the same.
func (c *Cluster) defragOne(ctx context.Context, v *probe.View, s Step) (Done, error) {
	before := v.ByID(s.Member)
	if before == nil {
		return Done{}, fmt.Errorf("%s does not answer", s.Name)
	}
	conn, err := probe.Dial(ctx, c.Access, v, s.Member)
	if err != nil {
		return Done{}, fmt.Errorf("defragment %s: %w", s.Name, err)
	}
	defer func() { _ = conn.Close() }()
	c.say("defragmenting %s (%s, %s in use); it may answer nobody for up to %v", s.Name, bytes(before.DBSize), bytes(before.DBInUse), s.Limit.Round(time.Second))
	begun := time.Now()
	if _, err := probe.Call(ctx, conn, s.Limit, conn.Maintenance().Defragment, &pb.DefragmentRequest{}); err != nil {
		err = fmt.Errorf("defragment %s: %w", s.Name, err)
		if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return Done{}, fail.Hint(err, s.Name+" goes on by itself: wait until steward health shows it well, then do the same again")
		}
		return Done{}, err
	}
	out := Done{Name: s.Name, Before: before.DBSize, Seconds: time.Since(begun).Seconds()}
	st, err := probe.Call(ctx, conn, callLimit, conn.Maintenance().Status, &pb.StatusRequest{})
	if err != nil {
		return Done{}, fmt.Errorf("look at %s after its defragmentation: %w", s.Name, err)
	}
	out.After = st.GetDbSize()
	return out, nil
}

// settled waits until a member is well again.
func (c *Cluster) settled(ctx context.Context, id uint64) error {
	why := ""
	for until := time.Now().Add(healthWait); ; {
		v, err := c.Look(ctx)
		if err != nil {
			return err
		}
		if why = unsettled(v, id); why == "" {
			return nil
		}
		if time.Now().After(until) {
			return fail.Hint(fmt.Errorf("it is not well within %v: %s", healthWait, why), "steward health")
		}
		if err := pause(ctx, healthEvery); err != nil {
			return err
		}
	}
}

// unsettled says what a member lacks to be well; "" when nothing.
func unsettled(v *probe.View, id uint64) string {
	a, agreed := v.ByID(id), v.Agreed()
	switch {
	case a == nil:
		return "it does not answer"
	case a.Leader == 0 || a.Leader != agreed.Leader:
		return "it does not follow the leader"
	case !a.Quorum:
		return "it answers no linearizable read"
	case a.Index > a.Applied && a.Index-a.Applied >= settledLag:
		return fmt.Sprintf("it has still to apply %d entries", a.Index-a.Applied)
	}
	return ""
}

// moveLeader has the voter lead that has applied most, and waits until all see it.
func (c *Cluster) moveLeader(ctx context.Context, v *probe.View, from uint64) (*probe.View, error) {
	agreed := v.Agreed()
	var to *probe.Answer
	for _, m := range agreed.Members {
		a := v.ByID(m.ID)
		if m.ID == from || m.Learner || a == nil || a.ClusterID != agreed.ClusterID || !a.Quorum {
			continue
		}
		if to == nil || a.Applied > to.Applied {
			to = a
		}
	}
	if to == nil {
		return nil, errors.New("no other voter can lead")
	}
	conn, err := probe.Dial(ctx, c.Access, v, from)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	c.say("moving the leader from %s to %s", agreed.NameOf(from), agreed.NameOf(to.MemberID))
	if _, err := probe.Call(ctx, conn, callLimit, conn.Maintenance().MoveLeader, &pb.MoveLeaderRequest{TargetID: to.MemberID}); err != nil {
		return nil, err
	}
	for until := time.Now().Add(healthWait); ; {
		if v, err = c.Look(ctx); err != nil {
			return nil, err
		}
		agreed := v.Agreed()
		if agreed.Leader != 0 && agreed.Leader != from && len(agreed.Dissent) == 0 && agreed.Quorum {
			return v, nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("not all members follow a new leader within %v", healthWait)
		}
		if err := pause(ctx, healthEvery); err != nil {
			return nil, err
		}
	}
}
