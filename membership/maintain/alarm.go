package maintain

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/membership/probe"
)

// Alarm is one that is raised.
type Alarm struct {
	Member uint64 `json:"-"`
	ID     string `json:"member_id"` // of the member, in hex; zeros when etcd does not know whose
	Name   string `json:"member"`
	Kind   string `json:"kind"` // NOSPACE, CORRUPT
	// Gone: its member is none any more. The alarm holds for the whole cluster all the same (etcd issue 14379).
	Gone bool `json:"gone"`
}

// Alarms are those that any member tells.
func Alarms(v *probe.View) []Alarm {
	agreed := v.Agreed()
	out := []Alarm{}
	for _, a := range v.Answering() {
		if a.ClusterID != agreed.ClusterID {
			continue
		}
		for _, al := range a.Alarms {
			_, known := agreed.Member(al.Member)
			x := Alarm{Member: al.Member, ID: fmt.Sprintf("%016x", al.Member), Name: agreed.NameOf(al.Member), Kind: al.Kind, Gone: !known && al.Member != 0 && len(agreed.Members) > 0}
			if !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	slices.SortFunc(out, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Member, b.Member))
	})
	return out
}

// roomShare is the share of its quota that a database may have for a NOSPACE alarm to be taken away: above, it comes back at once.
const roomShare = 0.9

// GatesOfDisarm are the conditions of taking alarms away that are not met. For CORRUPT the view must hold hashes.
func GatesOfDisarm(v *probe.View, alarms []Alarm) (all []Gate) {
	// With CORRUPT raised, etcd refuses the read that would show a quorum.
	corrupt := slices.ContainsFunc(Alarms(v), func(a Alarm) bool { return a.Kind == "CORRUPT" })
	if quorum := v.Agreed().Quorum || corrupt && v.Cluster().State().CanCommit(); !quorum {
		all = append(all, Gate{Rule: "the cluster has a quorum", Evidence: "no linearizable read came back", Safe: "bring members back first: steward health"})
	}
	if slices.ContainsFunc(alarms, func(a Alarm) bool { return a.Kind == "NOSPACE" }) {
		all = append(all, room(v)...)
	}
	if slices.ContainsFunc(alarms, func(a Alarm) bool { return a.Kind == "CORRUPT" }) {
		all = append(all, equal(v)...)
	}
	return all
}

// room: every member's file is well below its quota.
func room(v *probe.View) (all []Gate) {
	agreed := v.Agreed()
	for _, m := range agreed.Members {
		a := v.ByID(m.ID)
		if a == nil || a.Quota <= 0 {
			continue
		}
		if share := float64(a.DBSize) / float64(a.Quota); share >= roomShare {
			all = append(all, Gate{
				Rule: fmt.Sprintf("every database is below %.0f %% of its quota", roomShare*100), Force: true,
				Evidence: fmt.Sprintf("%s: %s of %s (%.0f %%), of which %s are in use", agreed.NameOf(m.ID), bytes(a.DBSize), bytes(a.Quota), share*100, bytes(a.DBInUse)),
				Safe:     "steward nospace: without room the alarm comes back with the next write",
			})
		}
	}
	return all
}

// equal: all voters hold the same data.
func equal(v *probe.View) (all []Gate) {
	agreed := v.Agreed()
	var first *probe.Answer
	for _, m := range agreed.Members {
		if m.Learner {
			continue
		}
		a := v.ByID(m.ID)
		switch {
		case a == nil || a.Hash == nil:
			all = append(all, Gate{
				Rule: "all members' data are known to be equal", Evidence: agreed.NameOf(m.ID) + " gave no hash", Safe: "bring it back, or replace it: steward member replace " + agreed.NameOf(m.ID),
			})
		case first == nil:
			first = a
		case *first.Hash != *a.Hash:
			all = append(all, Gate{
				Rule:     "all members' data are equal",
				Evidence: fmt.Sprintf("at revision %d %s has the hash %08x, %s %08x", a.Hash.Revision, agreed.NameOf(first.MemberID), first.Hash.Sum, agreed.NameOf(m.ID), a.Hash.Sum),
				Safe:     "steward health says which differs; replace that one: steward member replace NAME",
			})
		}
	}
	return all
}

// LookForDisarm is Look, with hashes when an alarm says that data are corrupt.
func (c *Cluster) LookForDisarm(ctx context.Context) (*probe.View, error) {
	v, err := c.Look(ctx)
	if err != nil || !slices.ContainsFunc(Alarms(v), func(a Alarm) bool { return a.Kind == "CORRUPT" }) {
		return v, err
	}
	return c.look(ctx, probe.Options{Metrics: true, Hash: true})
}

// Disarm takes alarms away, and looks whether they stay away.
func (c *Cluster) Disarm(ctx context.Context, v *probe.View, alarms []Alarm) error {
	conn, err := c.dialVoter(ctx, v)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, al := range alarms {
		kind, ok := pb.AlarmType_value[al.Kind]
		if !ok {
			return fmt.Errorf("alarm %s of %s is of a kind that is not known", al.Kind, al.Name)
		}
		req := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: al.Member, Alarm: pb.AlarmType(kind)}
		if _, err := probe.Call(ctx, conn, callLimit, conn.Maintenance().Alarm, req); err != nil {
			return fmt.Errorf("disarm %s of %s: %w", al.Kind, al.Name, err)
		}
		c.say("disarmed %s of %s", al.Kind, al.Name)
	}
	return nil
}

// dialVoter connects to the leader, or else to any voter that has a quorum.
func (c *Cluster) dialVoter(ctx context.Context, v *probe.View) (*probe.Conn, error) {
	agreed := v.Agreed()
	ids := []uint64{agreed.Leader}
	for _, a := range v.Answering() {
		if a.ClusterID == agreed.ClusterID && !a.Learner && a.Quorum {
			ids = append(ids, a.MemberID)
		}
	}
	err := nobody(v)
	for _, id := range ids {
		if id == 0 || v.ByID(id) == nil {
			continue
		}
		conn, e := probe.Dial(ctx, c.Access, v, id)
		if e == nil {
			return conn, nil
		}
		err = e
	}
	return nil, err
}
