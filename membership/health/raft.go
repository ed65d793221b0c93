package health

import (
	"fmt"
	"slices"

	"etcd-steward/membership/probe"
)

// refusesAt is how many entries a member may be behind with applying until it refuses writes (etcd, v3_server.go: maxGapBetweenApplyAndCommitIndex), and
// how many the leader keeps for those that lag: beyond it sends the whole database.
const refusesAt = 5000

// leader judges whether all follow one leader, in one term.
func (j *judge) leader() {
	if len(j.up) == 0 {
		return
	}
	var without []*probe.Answer
	for _, a := range j.ours() {
		if a.Leader == 0 {
			without = append(without, a)
		}
	}
	switch {
	case j.agreed.Leader == 0:
		next := "steward member list; bring silent members back"
		if j.apart() {
			next = "look again in 10 seconds: an election looks the same; when it stays: " + apartNext
		}
		j.add(Critical, NoLeader, 0, Finding{Text: "no member that answers knows a leader", Evidence: j.names(without), Next: next, Confidence: Likely})
		return
	case len(without) > 0:
		j.add(Warning, NoLeader, 0, Finding{
			Text: "some members know no leader", Evidence: j.names(without), Confidence: Likely,
			Next: "look again in 10 seconds; when it stays, their peer ports do not reach the leader: steward doctor -u etcd, on their hosts",
		})
	}
	leader := j.leading()
	for _, a := range j.ours() {
		evidence := fmt.Sprintf("term %d, leader %s; most follow %s", a.Term, j.name(a.Leader), j.name(j.agreed.Leader))
		switch {
		case a.Leader == 0:
		case a.Leader != j.agreed.Leader && leader != nil && insist(a, leader):
			j.add(Critical, LeaderDiffers, a.MemberID, Finding{
				Text: "it follows another leader in the same term: these are two clusters", Evidence: evidence, Confidence: Likely,
				Next: "look again; when it stays: steward backup create, then look at where each was restored from: steward doctor -u etcd",
			})
		case a.Leader != j.agreed.Leader:
			j.add(Warning, LeaderDiffers, a.MemberID, Finding{Text: "it follows another leader than most", Evidence: evidence, Next: "look again in 10 seconds: an election looks the same", Confidence: Likely})
		case leader != nil && a.Term != leader.Term && (a.After.Term == 0 || a.After.Term != leader.After.Term):
			j.add(Warning, TermDiffers, a.MemberID, Finding{
				Text: "it is in another term than the leader", Evidence: fmt.Sprintf("term %d, the leader's is %d", a.Term, leader.Term),
				Next: "look again in 10 seconds; when it stays, its peer port is reached one way only", Confidence: Likely,
			})
		}
	}
}

// insist says whether a and the leader's own member follow two leaders in one term, and said so again when they were asked a second time. (That member may be
// a itself, which has handed over since most answered: then there is one.) Once is not
// enough: the term that etcd tells is that of the last entry that it has applied. So a member that has just become the leader still tells the old term, in
// which the others still follow the one that handed over to it. Between the two answers a look leaves it time, and both must have answered a linearizable read in
// between, however long that took: who has done that under a new leader has applied that one's first entry, and tells its term.
func insist(a, leader *probe.Answer) bool {
	return a.Leader != leader.Leader && a.Quorum && leader.Quorum && a.Term == leader.Term && a.After.Term == a.Term && leader.After.Term == a.Term && a.After.Leader == a.Leader && leader.After.Leader == leader.Leader
}

// ours are the answers of the agreed cluster.
func (j *judge) ours() []*probe.Answer {
	return slices.DeleteFunc(slices.Clone(j.up), func(a *probe.Answer) bool { return a.ClusterID != j.agreed.ClusterID })
}

// flapping judges how often the leader changed of late.
func (j *judge) flapping() {
	changes, from := j.History.changes(j.View, j.agreed, j.Now.Add(-j.limit.Window))
	if changes >= j.limit.Changes {
		j.add(Warning, Flapping, 0, Finding{
			Text: fmt.Sprintf("the leader changed %d times in %s", changes, span(j.Now.Sub(from))), Evidence: "the leader is " + j.name(j.agreed.Leader),
			Next: "look at the leader's disk and at the network between members: steward doctor -u etcd, on its host",
		})
	}
}

// lag judges who is behind, with receiving or with applying.
func (j *judge) lag() {
	leader := j.leading()
	for _, a := range j.ours() {
		if n := behind(a.Index, a.Applied); n >= j.limit.Lag {
			severity, text := Warning, "it is behind with applying what it has received"
			if n >= refusesAt {
				severity, text = Critical, "it is so far behind with applying that it refuses writes"
			}
			j.add(severity, Lag, a.MemberID, Finding{Text: text, Evidence: fmt.Sprintf("%d raft entries", n), Next: "look at its disk and CPU: steward doctor -u etcd, on its host", Confidence: Likely})
		}
		if leader == nil || a.Learner {
			continue // a learner's lag is told with it
		}
		// Members are not asked at one moment, and a busy leader gets on meanwhile; by the second question all should have what the leader had at the first.
		if n := behind(leader.Index, max(a.Index, a.After.Index)); n >= j.limit.Lag {
			text := "it is behind the leader"
			if n >= refusesAt {
				text = "it is so far behind the leader that it will need the whole database"
			}
			j.add(Warning, Lag, a.MemberID, Finding{Text: text, Evidence: fmt.Sprintf("%d raft entries", n), Next: "look at the network to it and at its disk: steward doctor -u etcd, on its host", Confidence: Likely})
		}
	}
}
