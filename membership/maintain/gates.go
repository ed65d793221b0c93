package maintain

import (
	"fmt"
	"strconv"
	"strings"

	"etcd-steward/membership/probe"
)

// common are the gates of everything: a cluster that agrees with itself, and decides.
func common(v *probe.View) (all []Gate) {
	agreed := v.Agreed()
	if len(agreed.Members) == 0 {
		return []Gate{{Rule: "the members are known", Evidence: "nobody told who they are", Safe: "steward health; with authentication: --user root --password-file FILE"}}
	}
	if !agreed.Quorum {
		all = append(all, Gate{Rule: "the cluster has a quorum", Evidence: "no linearizable read came back", Safe: "bring members back first: steward health"})
	}
	for _, d := range agreed.Dissent {
		all = append(all, Gate{
			Rule: "all members agree on who they are and who leads", Evidence: agreed.NameOf(d.Member) + ": " + d.Text,
			Safe: "wait until an election is over; otherwise: steward health",
		})
	}
	for _, al := range Alarms(v) {
		if al.Kind == "CORRUPT" {
			all = append(all, Gate{
				Rule: "no member is corrupt", Evidence: "alarm CORRUPT of " + al.Name, Safe: "find the member that differs, and replace it: steward health",
			})
		}
	}
	return all
}

// GatesOfDefrag are the conditions of a rolling defragmentation that are not met.
func GatesOfDefrag(v *probe.View, d Defrag, r Rooms) []Gate {
	all := common(v)
	agreed := v.Agreed()
	s := v.Cluster().State()
	for _, m := range agreed.Members {
		a := v.ByID(m.ID)
		switch {
		case a == nil:
			all = append(all, Gate{
				Rule: "every member answers", Member: m.ID, Evidence: agreed.NameOf(m.ID) + " does not", Force: true,
				Safe: "bring it back, or replace it: steward member replace " + agreed.NameOf(m.ID),
			})
		case a.Index > a.Applied && a.Index-a.Applied >= settledLag && !m.Learner:
			all = append(all, Gate{
				Rule: fmt.Sprintf("every member has applied all but %d entries that it knows", settledLag), Member: m.ID, Evidence: fmt.Sprintf("%s lacks %d", agreed.NameOf(m.ID), a.Index-a.Applied),
				Safe: "wait until it has caught up", Force: true,
			})
		}
	}
	if !d.Single && !d.Idle && s.Tolerates() < 1 {
		all = append(all, Gate{
			Rule: "the cluster goes on without the member that is defragmented", Evidence: s.String(), Force: true,
			Safe: "have three voters, so that two go on: steward member add NAME PEER_URL",
		})
	}
	return append(append(all, r.Narrow(v, d)...), transferring(v)...)
}

// transferring: no member may be receiving the whole database while it is defragmented, when its version can be corrupted by that (etcd pulls 20650, 20653).
func transferring(v *probe.View) (all []Gate) {
	agreed := v.Agreed()
	leader := v.ByID(agreed.Leader)
	var old, receiving []string
	for _, a := range v.Answering() {
		if before(a.Version, map[int]int{5: 23, 6: 5}) {
			old = append(old, agreed.NameOf(a.MemberID)+" "+a.Version)
		}
	}
	for _, m := range agreed.Members {
		a := v.ByID(m.ID)
		behind := a != nil && leader != nil && leader.Index > a.Index && leader.Index-a.Index >= behindLimit
		// Of a learner nobody knows when it last got the whole; where that is harmless, one that has caught up is none of our business.
		if behind || m.Learner && (len(old) > 0 || a == nil) {
			receiving = append(receiving, agreed.NameOf(m.ID))
		}
	}
	if len(receiving) == 0 {
		return nil
	}
	g := Gate{
		Rule: "no member receives the whole database", Evidence: strings.Join(receiving, ", ") + " may: a learner, or far behind the leader", Force: len(old) == 0,
		Safe: "wait until it has caught up, and promote or remove the learner first",
	}
	if len(old) > 0 {
		g.Evidence += "; a defragmentation meanwhile can corrupt " + strings.Join(old, ", ") + " (fixed in 3.5.23 and 3.6.5, etcd pull 20650)"
	}
	return []Gate{g}
}

// before says whether a version is older than the first good patch of its minor version; older minors are.
func before(version string, good map[int]int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) != 3 || parts[0] != "3" {
		return false
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return false
	}
	digits, _, _ := strings.Cut(parts[2], "-")
	patch, err := strconv.Atoi(digits)
	if err != nil {
		return false
	}
	least, known := good[minor]
	return known && patch < least || minor < 5
}
