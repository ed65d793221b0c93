package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// maxLag is how many raft entries a member may be behind and still be as good as the others. Etcd itself refuses writes when a
// member's applied index is 5000 behind (server, etcdserver/v3_server.go maxGapBetweenApplyAndCommitIndex).
const maxLag = 5000

// grade says how fit a member is to be backed up; lower is better.
type grade int

const (
	gradeFollower grade = iota
	gradeLeader
	gradeLagging
	gradeLearner // and all behind: never
	gradeCorrupt
	gradeSilent
)

func (a answer) fit() bool { return a.grade <= gradeLagging }

// judge gives every member its grade, what is wrong with it, and whether there is a quorum.
func judge(answers []answer) {
	var newest uint64
	quorum := false
	for _, a := range answers {
		newest = max(newest, a.committed)
		quorum = quorum || a.Quorum
	}
	for i := range answers {
		a := &answers[i]
		a.Quorum = quorum && a.err == nil
		var lag uint64
		if newest > a.RaftIndex {
			lag = newest - a.RaftIndex
		}
		switch {
		case a.err != nil:
			a.grade, a.Note = gradeSilent, a.err.Error()
		case a.corrupt():
			a.grade, a.Note = gradeCorrupt, "its data is corrupt, as etcd's alarm says"
		case a.Learner:
			a.grade, a.Note = gradeLearner, "a learner, which may lack history"
		case lag > maxLag:
			a.grade, a.Note = gradeLagging, fmt.Sprintf("%d raft entries behind", lag)
		case a.Leader:
			a.grade, a.Note = gradeLeader, "the leader, which has more to do than a follower"
		}
	}
}

// corrupt says whether an alarm names this member, or names nobody.
func (a answer) corrupt() bool {
	return slices.ContainsFunc(a.alarms, func(al endpoint.Alarm) bool { return al.Kind == "CORRUPT" && (al.Member == a.ID || al.Member == 0) })
}

// rank sorts the fittest first. Among equals the given endpoints' order stays; without a quorum the newest data comes first.
func rank(answers []answer) {
	slices.SortStableFunc(answers, func(a, b answer) int {
		if a.fit() && b.fit() && !a.Quorum {
			return cmp.Compare(b.RaftIndex, a.RaftIndex)
		}
		return cmp.Compare(a.grade, b.grade)
	})
}

// why is one line on the chosen member, the first.
func (c Cluster) why(answers []answer) string {
	a := answers[0]
	var why string
	switch {
	case c.Local:
		why = "the local member, as asked"
		if a.Note != "" {
			why += ": " + a.Note
		}
	case a.grade == gradeLagging:
		why = a.Note + ", but no better member answers"
	case len(answers) == 1 && len(a.members) <= 1:
		why = "the only member"
	case a.grade == gradeLeader && a.Quorum:
		why = "the leader, since no follower is fit"
	case a.Quorum:
		why = "a follower with the newest data"
	default:
		why = "the newest data of those that answer"
	}
	if !a.Quorum {
		why += fmt.Sprintf("; there is no quorum (%s), so the last writes may be missing, or may never have been acknowledged", turnout(answers))
	}
	if slices.ContainsFunc(a.alarms, func(al endpoint.Alarm) bool { return al.Kind == "NOSPACE" }) {
		why += "; the cluster has the alarm NOSPACE"
	}
	return why
}

// turnout counts the voters that answer.
func turnout(answers []answer) string {
	voters, answering := 0, 0
	for _, a := range answers {
		n := 0
		for _, m := range a.members {
			if !m.GetIsLearner() {
				n++
			}
		}
		voters = max(voters, n)
		if a.err == nil && !a.Learner {
			answering++
		}
	}
	if voters == 0 {
		return "its members are unknown"
	}
	return fmt.Sprintf("%d of %d voters answer", answering, voters)
}

// unfit is the error when the first, and so every member, cannot be backed up.
func (c Cluster) unfit(answers []answer) error {
	if len(answers) == 1 && answers[0].err != nil {
		return answers[0].err
	}
	var all []string
	hint := ""
	for _, a := range answers {
		note := a.Note
		if a.err == nil {
			note = fmt.Sprintf("%s (%s): %s", a.Name, a.Endpoint, note)
		} else if hint == "" {
			hint = fail.HintOf(a.err)
		}
		all = append(all, note)
	}
	switch answers[0].grade {
	case gradeCorrupt:
		hint = "list the alarms with etcdctl alarm list; restore from a backup of before, or replace the corrupt member"
	case gradeLearner:
		hint = "name the endpoint of a voter: etcdctl member list"
	}
	what := "no member can be backed up"
	if c.Local {
		what = "the local member cannot be backed up"
	}
	return fail.New(fail.Failed, fmt.Errorf("%s: %s", what, strings.Join(all, "; ")), hint)
}
