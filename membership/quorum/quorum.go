// Package quorum says, before anything is done, what each step of a change of membership would leave: how many members, what quorum,
// what may still fail; and refuses a plan in which the cluster could not commit, or that etcd itself would refuse.
//
// It is pure: it knows what it is told of who is up, and nothing of clocks, networks or hosts. It does not judge whether a member's data
// is good, or whether a learner has caught up in fact: whoever executes a step looks again.
package quorum

import "fmt"

// Member is one member as the member that will be asked sees it.
type Member struct {
	ID      uint64
	Name    string // "" until it has started once
	Learner bool
	// Up says that it answers, and has been connected for etcd's health interval (5 s).
	Up bool
}

// Started says whether the member ever ran: its name is published when it starts first.
func (m Member) Started() bool { return m.Name != "" }

// Cluster is what a change begins with.
type Cluster struct {
	Members []Member
	Rules   Rules
}

// Of is the quorum of so many voters.
func Of(voters int) int { return voters/2 + 1 }

// State is a cluster in numbers.
type State struct {
	Voters, Learners int
	// Up is how many voters are up.
	Up     int
	Quorum int
}

// State counts.
func (c Cluster) State() State {
	var s State
	for _, m := range c.Members {
		switch {
		case m.Learner:
			s.Learners++
		default:
			s.Voters++
			if m.Up {
				s.Up++
			}
		}
	}
	s.Quorum = Of(s.Voters)
	return s
}

// CanCommit says whether a majority of the voters is up.
func (s State) CanCommit() bool { return s.Voters > 0 && s.Up >= s.Quorum }

// Tolerates is how many more voters may fail before the cluster cannot commit; negative when it cannot already.
func (s State) Tolerates() int { return s.Up - s.Quorum }

// Warning says what is allowed and fragile all the same; "" when nothing is.
func (s State) Warning() string {
	switch {
	case s.Voters == 2:
		return "two voters: either one's failure stops the cluster; one voter alone would be safer"
	case s.Voters > 0 && s.Voters%2 == 0:
		return fmt.Sprintf("%d voters tolerate no more failures than %d would", s.Voters, s.Voters-1)
	case s.Voters > 1 && s.Tolerates() == 0:
		return "no further voter may fail"
	}
	return ""
}

// String is for the plan's table.
func (s State) String() string {
	text := fmt.Sprintf("%d voters, %d up, quorum %d", s.Voters, s.Up, s.Quorum)
	if s.Learners > 0 {
		text += fmt.Sprintf(", %d learners", s.Learners)
	}
	return text
}
