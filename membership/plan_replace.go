package membership

import (
	"fmt"
	"slices"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/quorum"
)

// Replacement is a member for another one.
type Replacement struct {
	Who     string // the old one: ID, name or URL
	Name    string // of the new one; "": the old one's
	PeerURL string // of the new one; "": the old one's
}

// Replace plans that a member goes and another comes, in that order: of three members with one dead, etcd would refuse the other order.
func (o Origin) Replace(r Replacement) (plan.Plan, error) {
	c, err := Read(o.View)
	if err != nil {
		return plan.Plan{}, err
	}
	return o.replace(c, r)
}

func (o Origin) replace(c *Cluster, r Replacement) (plan.Plan, error) {
	m, err := c.Find(r.Who)
	if err != nil {
		return plan.Plan{}, err
	}
	n, err := c.successor(m, r)
	if err != nil {
		return plan.Plan{}, err
	}
	if _, err := c.canAdd(n, m.ID, o.Lookup); err != nil {
		return plan.Plan{}, err
	}
	gates := append(c.gates(scope{leaves: m.ID, promotes: true, ledSince: o.LedSince}), c.dead(m)...)
	warnings, err := pass(gates, o.Force)
	if err != nil {
		return plan.Plan{}, err
	}
	d := o.draft(c, KindReplace, fmt.Sprintf("replace member %s by %s at %s", m.Spec, n.Name, n.PeerURL))
	d.plan.Warnings, d.basis.Removes, d.basis.Adds = warnings, m.ID, &n
	if o.At.Boot != "" && c.silent(m) {
		d.basis.Silent = &o.At
	}
	d.leave(m, n, c.Up(m))
	d.join(n, 0)
	d.step(plan.Step{Action: doRepoint, Party: Operator, Text: "have this machine's API server ask the new member, where it names the old one"})
	if !hasURL(m.PeerURLs, n.PeerURL) {
		d.retire("old-" + PartyOf(m.Spec))
	}
	return d.finish(c)
}

// leave is the part of a replacement up to the removal.
func (d *draft) leave(m Member, n Newcomer, up bool) {
	same := hasURL(m.PeerURLs, n.PeerURL)
	if up && !m.Learner {
		d.moveLeader(m.Spec)
	}
	if same {
		// Its etcd may still run, or be started again and again; and where it keeps data, the new one shall not start with it.
		stop := plan.Step{Action: doStopOld, Party: n.Name, Text: "stop etcd, if it runs, and keep it from starting for now"}
		if up && !m.Learner {
			stop.After = []string{doMoveLeader}
		}
		if up {
			d.step(stop, quorum.Step{Kind: quorum.Stop, ID: uint64(m.ID)})
		} else {
			d.step(stop)
		}
	}
	d.step(checkMachine(n))
	d.step(plan.Step{Action: doBackup, Party: Operator, Text: "take a backup and verify it", After: []string{doCheck}})
	if m.Answer == nil {
		d.step(plan.Step{Action: doConfirm, Party: Operator, Text: fmt.Sprintf("confirm that %s is dead, for a minute and for all others", m.short())})
	}
	d.step(plan.Step{Action: doRemove, Party: Operator, Text: "remove " + m.String()}, quorum.Step{Kind: quorum.Remove, ID: uint64(m.ID)})
	d.step(plan.Step{Action: doGone, Party: Operator, Text: "wait until no member knows it any more"})
}

// successor is the new member of a replacement.
func (c *Cluster) successor(m Member, r Replacement) (Newcomer, error) {
	n := Newcomer{Name: r.Name, PeerURL: r.PeerURL}
	if n.Name == "" {
		n.Name = m.Name
	}
	if n.PeerURL == "" && len(m.PeerURLs) > 0 {
		n.PeerURL = m.PeerURLs[0]
	}
	if n.Name == "" {
		return n, fail.New(fail.Usage, fmt.Errorf("%s never started, so that it has no name", m.Spec), "name the new one with --name NAME")
	}
	return n, nil
}

// dead: a member that answers is not replaced without a reason.
func (c *Cluster) dead(m Member) []Gate {
	if m.Answer == nil {
		return nil
	}
	what := "answers at " + m.Answer.Endpoint
	if !c.Up(m) {
		what += ", though it does not follow the leader"
	}
	return []Gate{{
		Rule: "only a dead member is replaced", Evidence: m.String() + " " + what, Force: true,
		Safe: "add the new one first (steward member add) and remove this one then",
	}}
}

// Update plans that a member is reached at other peer URLs. listens says that something listens there already.
func (o Origin) Update(who string, peerURLs []string, listens bool) (plan.Plan, error) {
	c, err := Read(o.View)
	if err != nil {
		return plan.Plan{}, err
	}
	return o.update(c, who, peerURLs, listens)
}

func (o Origin) update(c *Cluster, who string, peerURLs []string, listens bool) (plan.Plan, error) {
	m, err := c.Find(who)
	if err != nil {
		return plan.Plan{}, err
	}
	for _, u := range peerURLs {
		if err := c.checkPeerURL(u, m.ID, o.Lookup); err != nil {
			return plan.Plan{}, err
		}
	}
	gates := c.gates(scope{learner: slices.Concat(m.PeerURLs, []string{""})[0], leaves: unreachable(m), ledSince: o.LedSince})
	switch {
	case sameURLs(m.PeerURLs, peerURLs):
		gates = append(gates, Gate{Rule: "an update changes something", Evidence: m.String() + " has that peer URL already", Safe: "nothing is to be done: steward member list"})
	case m.Learner && c.Rules.UpdatePromotes:
		gates = append(gates, Gate{
			Rule: "an update leaves a learner a learner", Evidence: "etcd " + c.Version + " would make " + m.String() + " a voter (etcd issue 21694)",
			Safe: "remove it and add it again, or upgrade etcd to 3.5.31 or 3.6.12 first",
		})
	}
	warnings, err := pass(gates, o.Force)
	if err != nil {
		return plan.Plan{}, err
	}
	d := o.draft(c, KindUpdate, fmt.Sprintf("update member %s to the peer URL %s", m.Spec, joined(peerURLs)))
	d.plan.Warnings, d.basis.Updates = warnings, &Address{ID: m.ID, PeerURLs: peerURLs}
	d.update(c, m, peerURLs, listens)
	return d.finish(c)
}

// unreachable is the member's ID when it does not answer: then its state is no reason against giving it the address at which it will.
func unreachable(m Member) ID {
	if m.Answer == nil {
		return m.ID
	}
	return 0
}

func (d *draft) update(c *Cluster, m Member, peerURLs []string, listens bool) {
	d.step(plan.Step{Action: doBackup, Party: Operator, Text: "take a backup and verify it"})
	update := plan.Step{Action: doUpdate, Party: Operator, Text: fmt.Sprintf("tell the cluster that %s is at %s", m.short(), joined(peerURLs))}
	listen := plan.Step{
		Action: doReaddress, Party: PartyOf(m.Spec), After: []string{doUpdate}, Optional: listens,
		Text: "write the address into etcd's configuration, and restart etcd",
	}
	verify := plan.Step{Action: doVerify, Party: Operator, Text: "compare the data of all members", After: []string{doReaddress}}
	alone := c.model().State().Voters == 1
	switch {
	case listens:
		verify.After = []string{doUpdate}
		d.step(update)
	case m.Learner || alone:
		d.step(update)
		if alone && !m.Learner {
			d.plan.Warnings = append(d.plan.Warnings, "the only voter is restarted: nothing can be written meanwhile")
		}
	default:
		d.step(update, quorum.Step{Kind: quorum.Stop, ID: uint64(m.ID)}) // cut off until it listens there
	}
	if listens || m.Learner || alone {
		d.step(listen)
	} else {
		d.step(listen, quorum.Step{Kind: quorum.Start, ID: uint64(m.ID), Name: m.Name})
	}
	d.step(verify)
}
