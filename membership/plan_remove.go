package membership

import (
	"fmt"
	"regexp"

	"etcd-steward/internal/plan"
	"etcd-steward/membership/quorum"
)

// partyForm is what internal/plan takes as a party's name. Members' names may be anything.
var partyForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,57}$`)

// PartyOf is the party of the machine on which a member runs.
func PartyOf(s Spec) string {
	if s.Name == Operator || !partyForm.MatchString(s.Name) {
		return "member-" + s.ID.String()
	}
	return s.Name
}

// Remove plans that a member goes.
func (o Origin) Remove(who string) (plan.Plan, error) {
	c, err := Read(o.View)
	if err != nil {
		return plan.Plan{}, err
	}
	return o.remove(c, who)
}

func (o Origin) remove(c *Cluster, who string) (plan.Plan, error) {
	m, err := c.Find(who)
	if err != nil {
		return plan.Plan{}, err
	}
	gates := append(c.gates(scope{leaves: m.ID, ledSince: o.LedSince}), c.lastSpare(m)...)
	warnings, err := pass(gates, o.Force)
	if err != nil {
		return plan.Plan{}, err
	}
	d := o.draft(c, KindRemove, "remove member "+m.String())
	d.plan.Warnings, d.basis.Removes = warnings, m.ID
	d.step(plan.Step{Action: doBackup, Party: Operator, Text: "take a backup and verify it"})
	if !m.Learner {
		d.moveLeader(m.Spec)
	}
	d.step(plan.Step{Action: doRepoint, Party: Operator, Text: "have this machine's API server ask the other members, where it names that one"})
	d.step(plan.Step{Action: doRemove, Party: Operator, Text: "remove " + m.String(), Final: true}, quorum.Step{Kind: quorum.Remove, ID: uint64(m.ID)})
	d.step(plan.Step{Action: doGone, Party: Operator, Text: "wait until no member knows it any more"})
	d.retire(PartyOf(m.Spec))
	return d.finish(c)
}

// moveLeader is a step even when another leads: that may have changed until then.
func (d *draft) moveLeader(from Spec) {
	d.step(plan.Step{Action: doMoveLeader, Party: Operator, Text: fmt.Sprintf("move the leadership away from %s, if it leads", from.short())})
}

// retire is what remains to be done on the machine of a member that is gone. Nobody may be there to do it.
func (d *draft) retire(party string) {
	d.step(plan.Step{
		Action: doStopRemoved, Party: party, After: []string{doGone}, Optional: true,
		Text: "stop etcd, and keep it from starting",
	})
	d.step(plan.Step{Action: doSetAside, Party: party, Optional: true, Text: "rename its data"})
}

// short is a name that fits into a step's text.
func (s Spec) short() string {
	if s.Name == "" {
		return "member " + s.ID.String()
	}
	return s.Name
}

// lastSpare: a healthy member is not taken away when nobody else may fail then. Of a dead one nothing is lost.
func (c *Cluster) lastSpare(m Member) []Gate {
	before := c.model().State()
	if m.Learner || !c.Up(m) || before.Tolerates() <= 0 {
		return nil
	}
	after := quorum.State{Voters: before.Voters - 1, Up: before.Up - 1, Quorum: quorum.Of(before.Voters - 1)}
	if after.Tolerates() > 0 || after.Voters < 2 {
		return nil
	}
	return []Gate{{
		Rule: "a cluster that can lose a voter stays one", Evidence: fmt.Sprintf("without %s it would have %s, and none may fail", m.Spec, after), Force: true,
		Safe: "add another member first (steward member add)",
	}}
}
