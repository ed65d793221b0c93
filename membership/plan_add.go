package membership

import (
	"fmt"

	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/quorum"
)

// newID is what the simulation calls a member that etcd has not named yet. Real ones are hashes.
const newID = 1

// Add plans a member more. The new machine is looked at before anything is changed.
func (o Origin) Add(n Newcomer) (plan.Plan, error) {
	c, err := Read(o.View)
	if err != nil {
		return plan.Plan{}, err
	}
	return o.add(c, n)
}

func (o Origin) add(c *Cluster, n Newcomer) (plan.Plan, error) {
	resumes, err := c.canAdd(n, 0, o.Lookup)
	if err != nil {
		return plan.Plan{}, err
	}
	warnings, err := pass(c.gates(scope{learner: n.PeerURL, promotes: true, ledSince: o.LedSince}), o.Force)
	if err != nil {
		return plan.Plan{}, err
	}
	d := o.draft(c, KindAdd, fmt.Sprintf("add member %s at %s", n.Name, n.PeerURL))
	d.plan.Warnings = warnings
	d.basis.Adds = &n
	d.step(checkMachine(n))
	d.step(plan.Step{Action: doBackup, Party: Operator, Text: "take a backup and verify it", After: []string{doCheck}})
	d.join(n, resumes)
	return d.finish(c)
}

// canAdd says whether there may be such a member beside all but `leaves`, and the ID of the learner that is it already: an addition that was broken off.
func (c *Cluster) canAdd(n Newcomer, leaves ID, lookup func(string) ([]string, error)) (resumes ID, err error) {
	if err := c.checkName(n.Name, leaves); err != nil {
		return 0, err
	}
	if l, ok := c.learner(); ok && l.Name == "" && hasURL(l.PeerURLs, n.PeerURL) && !n.Voter && leaves == 0 {
		return l.ID, nil
	}
	return 0, c.checkPeerURL(n.PeerURL, leaves, lookup)
}

func checkMachine(n Newcomer) plan.Step {
	return plan.Step{Action: doCheck, Party: n.Name, Text: "look whether this machine is ready: data, ports, certificates, clock, disk"}
}

// join is the common part of an addition and a replacement, from the moment at which the cluster may be changed.
func (d *draft) join(n Newcomer, resumes ID) {
	d.basis.Like = d.like
	id, sim := uint64(newID), quorum.Step{Kind: quorum.AddLearner, ID: newID}
	as := "a learner, which has no vote yet"
	if n.Voter {
		sim.Kind, as = quorum.AddVoter, "a voter"
	}
	add := plan.Step{Action: doAdd, Party: Operator, Text: fmt.Sprintf("add %s as %s", n.Name, as)}
	if resumes != 0 {
		id = uint64(resumes)
		d.step(add)
	} else {
		d.step(add, sim)
	}
	d.step(plan.Step{Action: doConfigure, Party: n.Name, Text: "write etcd's configuration" + alike(d.like), After: []string{doAdd}})
	d.step(plan.Step{Action: doStart, Party: n.Name, Text: "start etcd"})
	d.step(plan.Step{Action: doStarted, Party: n.Name, Text: "wait until etcd has started and serves"},
		quorum.Step{Kind: quorum.Start, ID: id, Name: n.Name})
	if n.Voter {
		d.step(plan.Step{Action: doVerify, Party: Operator, Text: "compare the data of all members", After: []string{doStarted}})
		return
	}
	d.step(plan.Step{Action: doCatchUp, Party: Operator, Text: fmt.Sprintf("wait until %s has caught up", n.Name), After: []string{doStarted}})
	d.step(plan.Step{Action: doPromote, Party: Operator, Text: fmt.Sprintf("promote %s to a voter", n.Name), Final: true}, quorum.Step{Kind: quorum.Promote, ID: id})
	d.step(plan.Step{Action: doVerify, Party: Operator, Text: "compare the data of all members"})
}

// alike says what a machine without configuration would be given: people see it on both sides before they agree.
func alike(t *host.Template) string {
	switch {
	case t == nil:
		return ""
	case t.Kind == host.StaticPod && t.Image != "":
		return fmt.Sprintf(", where there is none as on %s (static pod of %s)", t.Host, t.Image)
	}
	return fmt.Sprintf(", where there is none as on %s (%s)", t.Host, t.Kind)
}

// Promote plans that a learner becomes a voter.
func (o Origin) Promote(who string) (plan.Plan, error) {
	c, err := Read(o.View)
	if err != nil {
		return plan.Plan{}, err
	}
	return o.promote(c, who)
}

func (o Origin) promote(c *Cluster, who string) (plan.Plan, error) {
	m, err := c.Find(who)
	if err != nil {
		return plan.Plan{}, err
	}
	if !m.Learner {
		return plan.Plan{}, refuse([]Gate{{Rule: "only a learner is promoted", Evidence: m.String() + " is a voter already", Safe: "nothing is to be done: steward member list"}}, "")
	}
	url := ""
	if len(m.PeerURLs) > 0 {
		url = m.PeerURLs[0]
	}
	warnings, err := pass(c.gates(scope{learner: url, promotes: true, ledSince: o.LedSince}), o.Force)
	if err != nil {
		return plan.Plan{}, err
	}
	d := o.draft(c, KindPromote, "promote "+m.String()+" to a voter")
	d.plan.Warnings, d.basis.Promotes = warnings, m.ID
	d.step(plan.Step{Action: doBackup, Party: Operator, Text: "take a backup and verify it"})
	d.step(plan.Step{Action: doCatchUp, Party: Operator, Text: fmt.Sprintf("wait until %s has caught up", m.Name)})
	d.step(plan.Step{Action: doPromote, Party: Operator, Text: fmt.Sprintf("promote %s to a voter", m.Name), Final: true}, quorum.Step{Kind: quorum.Promote, ID: uint64(m.ID)})
	d.step(plan.Step{Action: doVerify, Party: Operator, Text: "compare the data of all members"})
	return d.finish(c)
}
