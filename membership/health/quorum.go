package health

import (
	"fmt"
	"time"

	"etcd-steward/membership/probe"
)

// quorum judges whether the cluster can commit, and what it can still lose.
func (j *judge) quorum() {
	s := j.state
	evidence := s.String()
	switch {
	case len(j.agreed.Members) == 0:
		return
	case !j.agreed.Quorum && !s.CanCommit():
		// Members that we do not reach may have one among themselves.
		f := Finding{Text: "there is no quorum: nothing can be written", Evidence: evidence, Confidence: Likely}
		f.Next = fmt.Sprintf("bring %d of the silent members back; when that cannot be: steward backup create (of what is left), then docs/RUNBOOK-3AM.md", s.Quorum-j.answering())
		if j.apart() {
			f.Text, f.Next = "there is no quorum, although enough members answer: they do not reach each other, or an election goes on", apartNext
		}
		j.add(Critical, QuorumLost, 0, f)
		return
	case !j.agreed.Quorum && j.readable():
		f := Finding{
			Text: "a majority answers and follows one leader, but no linearizable read came back", Evidence: evidence,
			Next: "look at the load and the disks: steward doctor -u etcd, on the leader's host", Confidence: Likely,
		}
		if j.agreed.Leader != 0 && j.leading() == nil {
			f.Text = "the leader, " + j.name(j.agreed.Leader) + ", does not answer, and no linearizable read came back"
			f.Next = "look again in 10 seconds: the others should elect another; if not: steward doctor -u etcd, on its host"
		}
		j.add(Critical, ReadFails, 0, f)
	}
	silent := s.Voters - s.Up
	switch {
	case s.Voters == 1:
		j.add(Info, SingleVoter, 0, Finding{Text: "one voter: its failure stops the cluster", Evidence: evidence, Next: "steward member add NAME PEER_URL, twice"})
	case s.Voters == 2:
		j.add(Warning, Tolerance, 0, Finding{Text: "two voters: the failure of either stops the cluster", Evidence: evidence, Next: "steward member add NAME PEER_URL"})
	case s.Tolerates() <= 0:
		j.add(Warning, Tolerance, 0, Finding{Text: "no further voter may fail", Evidence: evidence, Next: "bring the silent member back, or: steward member replace NAME"})
	case silent > 0:
		j.add(Warning, Tolerance, 0, Finding{
			Text: fmt.Sprintf("%d of %d failures that the cluster tolerates are used up", silent, s.Voters-s.Quorum), Evidence: evidence, Next: "bring the silent member back, or: steward member replace NAME",
		})
	case s.Voters%2 == 0:
		j.add(Info, EvenVoters, 0, Finding{Text: s.Warning(), Evidence: evidence, Next: "steward member add NAME PEER_URL, or steward member remove NAME"})
	}
}

// apartNext is what to look at when members answer us and not each other.
const apartNext = "on each of their hosts: steward doctor -u etcd (peer certificates that expired, a firewall between the peer ports, clocks)"

// answering counts the voters that answer.
func (j *judge) answering() (n int) {
	for _, m := range j.agreed.Members {
		if a := j.View.ByID(m.ID); !m.Learner && a != nil && a.ClusterID == j.agreed.ClusterID {
			n++
		}
	}
	return n
}

// apart says whether a quorum of voters answers us: then it is not that they are gone.
func (j *judge) apart() bool { return j.state.Voters > 0 && j.answering() >= j.state.Quorum }

// readable says whether somebody could have answered a linearizable read.
func (j *judge) readable() bool {
	for _, a := range j.up {
		if !a.Learner && a.Leader != 0 {
			return true
		}
	}
	return false
}

// membership judges whether all believe in the same cluster and members.
func (j *judge) membership() {
	for _, d := range j.agreed.Dissent {
		f := Finding{Text: d.Text, Evidence: "asked at " + d.Endpoint}
		switch d.About {
		case "cluster":
			f.Text = "endpoints of two clusters: " + d.Text
			f.Next = "check --endpoints; when the member should be one of these: steward member replace NAME --force REASON, which renames its data directory"
			j.add(Critical, ClusterDiffers, d.Member, f)
		case "members":
			f.Next, f.Confidence = "look again in a minute; when it stays, this member belongs to another history: steward member replace "+j.argument(d.Member)+" --force REASON", Likely
			j.add(Warning, MembersDiffer, d.Member, f)
		}
	}
}

// learners judges members that do not vote yet.
func (j *judge) learners() {
	for _, m := range j.agreed.Members {
		if !m.Learner || m.Name == "" && j.View.ByID(m.ID) == nil {
			continue // never started, which is another finding
		}
		f := Finding{Text: "it is a learner: it does not vote", Next: "steward member promote " + j.argument(m.ID) + ", when it has caught up"}
		severity := Info
		a, leader := j.View.ByID(m.ID), j.leading()
		if a != nil && leader != nil {
			f.Evidence = fmt.Sprintf("%d raft entries behind the leader", behind(leader.Index, a.Applied))
		}
		since, moved := j.History.learner(m.ID)
		age := j.Now.Sub(since)
		switch {
		case since.IsZero():
		case a != nil && leader != nil && behind(leader.Index, a.Applied) > j.limit.Lag && !moved.IsZero() && j.Now.Sub(moved) >= j.limit.LearnerStall:
			severity = Warning
			f.Text = fmt.Sprintf("it is a learner, and has made no progress for %s", span(j.Now.Sub(moved)))
			f.Next = "on its host: steward doctor -u etcd; or remove it: steward member remove " + j.argument(m.ID)
		case age >= j.limit.LearnerAge:
			severity = Warning
			f.Text = fmt.Sprintf("it has been a learner for at least %s: nobody promoted it", span(age))
		}
		j.add(severity, Learner, m.ID, f)
	}
}

// leading is the answer of the agreed leader; nil when it has none.
func (j *judge) leading() *probe.Answer {
	if j.agreed.Leader == 0 {
		return nil
	}
	return j.View.ByID(j.agreed.Leader)
}

func behind(ahead, index uint64) uint64 {
	if ahead <= index {
		return 0
	}
	return ahead - index
}

// span is a duration for a sentence.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}
