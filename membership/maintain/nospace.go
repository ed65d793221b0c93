package maintain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// Nospace is the way out of a full database, as it is going to be.
type Nospace struct {
	// Needed is false when no NOSPACE alarm is raised: then it is only proven that writes are accepted.
	Needed  bool    `json:"needed"`
	Alarms  []Alarm `json:"alarms"`
	Compact Compact `json:"compact"`
	Defrag  Defrag  `json:"defrag"`
	Sizes   []Size  `json:"sizes"`
}

// Size is a member's database.
type Size struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	InUse int64  `json:"in_use"`
	Quota int64  `json:"quota,omitempty"` // 0: it does not tell
}

// Sizes are the members', as they answer.
func Sizes(v *probe.View) (all []Size) {
	agreed := v.Agreed()
	for _, m := range agreed.Members {
		if a := v.ByID(m.ID); a != nil {
			all = append(all, Size{agreed.NameOf(m.ID), a.DBSize, a.DBInUse, a.Quota})
		}
	}
	return all
}

// PlanNospace decides: history goes up to the newest revision, but for what the change log has not got: without space nothing is written any more, so who watches
// has seen all there is. Then every member is defragmented.
func PlanNospace(v *probe.View, recorded int64) (Nospace, []Gate) {
	n := Nospace{Alarms: ofKind(Alarms(v), "NOSPACE"), Sizes: Sizes(v)}
	n.Needed = len(n.Alarms) > 0
	c, _ := PlanCompact(v, CompactRule{Recorded: recorded})
	n.Compact, n.Defrag = c, PlanDefrag(v, Rule{All: true})
	n.Defrag.Idle = n.Needed
	if !n.Needed {
		return n, common(v)
	}
	return n, GatesOfDefrag(v, n.Defrag, nil) // how much is in use is known when history is gone: Defrag looks at the disks then
}

func ofKind(all []Alarm, kind string) []Alarm {
	return slices.DeleteFunc(all, func(a Alarm) bool { return a.Kind != kind })
}

// NospaceOptions say how the way is gone.
type NospaceOptions struct {
	Pause time.Duration
	Force string
	Known []Gate // see DefragOptions
}

// Freed is what came of it.
type Freed struct {
	Compacted int64  `json:"compacted_revision,omitempty"`
	Members   []Done `json:"members"`
	Sizes     []Size `json:"sizes"`
	Writable  bool   `json:"writable"`
	// Full are the largest parts of the keys, when the data themselves are near the quota.
	Full     []Prefix `json:"largest_prefixes,omitempty"`
	FullText string   `json:"full,omitempty"`
}

// inUseShare is the share of the quota that data may have: above, the next alarm is near, and only less data or a larger quota help.
const inUseShare = 0.8

// Free goes the way: compacts, defragments, and takes the alarm away once there is room; then it proves that writes are accepted. It can be asked for again
// after an interruption at any moment: what is done already costs little to do again, and the alarm goes last.
func (c *Cluster) Free(ctx context.Context, n Nospace, o NospaceOptions) (out Freed, err error) {
	out.Members = []Done{}
	v, err := c.Look(ctx)
	if err != nil {
		return out, err
	}
	if n.Needed {
		if v, err = c.free(ctx, v, n, o, &out); err != nil {
			return out, err
		}
		alarms := ofKind(Alarms(v), "NOSPACE")
		if _, err := Pass(GatesOfDisarm(v, alarms), ""); err != nil { // what was forced is the way there
			c.explainFull(ctx, v, &out)
			return out, fail.Hint(err, n.more())
		}
		if err := c.Disarm(ctx, v, alarms); err != nil {
			return out, err
		}
	}
	return out, c.prove(ctx, &out)
}

// more is what makes room when all of this did not.
func (n Nospace) more() string {
	if n.Compact.Capped {
		return fmt.Sprintf(`history behind revision %d was kept for the change log: wait until stewardd has recorded it, or: steward compact --revision %d --force "REASON"; then: steward nospace`,
			n.Compact.Revision, n.Compact.Current)
	}
	return "delete keys that are not needed, or raise --quota-backend-bytes of every member, one after the other; then: steward nospace"
}

// free is compaction and defragmentation.
func (c *Cluster) free(ctx context.Context, v *probe.View, n Nospace, o NospaceOptions, out *Freed) (*probe.View, error) {
	if n.Compact.Revision > 0 {
		done, err := c.Compact(ctx, v, n.Compact.Revision)
		if err != nil {
			return nil, err
		}
		out.Compacted = n.Compact.Revision
		if done {
			c.say("history before revision %d is removed", n.Compact.Revision)
		} else {
			c.say("history before revision %d was removed before", n.Compact.Revision)
		}
	}
	v, err := c.freed(ctx)
	if err != nil {
		return nil, err
	}
	d := PlanDefrag(v, Rule{All: true})
	d.Idle = true
	out.Members, err = c.Defrag(ctx, d, DefragOptions(o))
	if err != nil {
		return nil, err
	}
	v, err = c.Look(ctx)
	if err == nil {
		out.Sizes = Sizes(v)
	}
	return v, err
}

// prove looks whether the alarm is gone and writes are accepted. etcd raises it anew by itself when there is no room.
func (c *Cluster) prove(ctx context.Context, out *Freed) error {
	v, err := c.Look(ctx)
	if err != nil {
		return err
	}
	if out.Writable, err = c.Writable(ctx, v); err != nil {
		return err
	}
	if v, err = c.Look(ctx); err != nil {
		return err
	}
	out.Sizes = Sizes(v)
	raised := ofKind(Alarms(v), "NOSPACE")
	c.explainFull(ctx, v, out)
	if !out.Writable || len(raised) > 0 {
		out.Writable = false
		return fail.Hint(errors.New("the cluster still refuses writes for want of space"), "raise --quota-backend-bytes of every member, one after the other, then: steward nospace")
	}
	return nil
}

// explainFull notes which keys fill the database, when it is they who do. That it cannot find out is worth a line, and changes nothing of what was done.
func (c *Cluster) explainFull(ctx context.Context, v *probe.View, out *Freed) {
	for _, s := range Sizes(v) {
		if s.Quota <= 0 || float64(s.InUse) < inUseShare*float64(s.Quota) {
			continue
		}
		out.FullText = fmt.Sprintf("the data themselves take %s of %s's quota of %s: delete what is not needed, or raise --quota-backend-bytes of every member (etcd recommends 8 GiB at most)",
			bytes(s.InUse), s.Name, bytes(s.Quota))
		var err error
		if out.Full, _, err = c.Largest(ctx, v, 10); err != nil {
			c.say("which keys are the most could not be found out: %v", err)
		}
		return
	}
}
