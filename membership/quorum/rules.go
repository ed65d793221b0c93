package quorum

import (
	"fmt"
	"strconv"
	"strings"
)

// Rules are those of a server's version that differ between versions. All servers are taken to run with --strict-reconfig-check, which is etcd's
// default: without it, they would accept more, and nothing more that is safe.
type Rules struct {
	// AddNeedsAll: a member is added only while all voters are connected. Newer servers want a quorum of the voters and the new one
	// (etcd PR 21667, 21669: from 3.5.30 and 3.6.11 on).
	AddNeedsAll bool
	// UpdatePromotes: an update of a learner's peer URL makes it a voter (etcd issue 21694: until 3.5.31 and 3.6.12).
	UpdatePromotes bool
}

// RulesOf are the rules of a server's version, such as 3.6.14. Of a cluster in mid-upgrade, it is the oldest version that counts.
func RulesOf(version string) (Rules, error) {
	var n [3]int
	parts := strings.SplitN(version, ".", 3)
	for i := range n {
		if i >= len(parts) {
			return Rules{}, fmt.Errorf("version %q: want major.minor.patch", version)
		}
		digits, _, _ := strings.Cut(parts[i], "-") // 3.7.0-rc.0
		v, err := strconv.Atoi(digits)
		if err != nil || v < 0 {
			return Rules{}, fmt.Errorf("version %q: want major.minor.patch", version)
		}
		n[i] = v
	}
	before := func(patch35, patch36 int) bool {
		switch {
		case n[0] != 3:
			return n[0] < 3
		case n[1] == 5:
			return n[2] < patch35
		case n[1] == 6:
			return n[2] < patch36
		}
		return n[1] < 5
	}
	return Rules{AddNeedsAll: before(30, 11), UpdatePromotes: before(31, 12)}, nil
}

// maxLearners is etcd's default of --max-learners.
const maxLearners = 1

// asks returns why etcd would refuse a step, in the state that it finds: server v3.6.16, etcdserver/server.go (mayAddMember,
// mayRemoveMember, mayPromoteMember) and api/membership/cluster.go (IsReadyTo...). "" means that it would not.
func (c Cluster) asks(s Step) string {
	voters, started, up := 0, 0, 0
	for _, m := range c.Members {
		if m.Learner {
			continue
		}
		voters++
		if m.Started() {
			started++
		}
		if m.Up {
			up++
		}
	}
	switch s.Kind {
	case AddVoter, AddLearner:
		return c.asksAdd(s.Kind, voters, started, up)
	case Promote:
		if started+1 < Of(voters+1) {
			return "too few voters have ever started"
		}
	case Remove:
		return c.asksRemove(s.ID, voters, started, up)
	}
	return ""
}

func (c Cluster) asksAdd(k Kind, voters, started, up int) string {
	learners := len(c.Members) - voters
	switch {
	case k == AddVoter && (started != 1 || voters != 1) && started < Of(voters+1):
		return "too few voters have ever started"
	case k == AddLearner && learners >= maxLearners:
		return "there is a learner already, and etcd allows one at a time"
	case voters == 1:
		return ""
	case c.Rules.AddNeedsAll && up < voters:
		return "this version of etcd adds members only while all voters are connected"
	case !c.Rules.AddNeedsAll && up < Of(voters+1):
		return "too few voters are connected to make a quorum with one more that is not yet up"
	}
	return ""
}

func (c Cluster) asksRemove(id uint64, voters, started, up int) string {
	i := c.index(id)
	if i < 0 || c.Members[i].Learner {
		return ""
	}
	m := c.Members[i]
	if m.Started() {
		started--
	}
	switch {
	case started < Of(voters-1):
		return "too few of the other voters have ever started"
	case !m.Up:
		return ""
	case up-1 < Of(voters-1):
		return "too few of the other voters are connected"
	}
	return ""
}
