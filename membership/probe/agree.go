package probe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcd-steward/membership/quorum"
)

// Agreement is what a view comes to: what most of the members that have a quorum believe, or, when none has, most of those that answer.
type Agreement struct {
	ClusterID uint64
	Members   []Member // nil when nobody told a list
	Leader    uint64   // 0: none is agreed on
	Quorum    bool     // somebody has one
	// Dissent is who believes something else.
	Dissent []Dissent
}

// Dissent is one member's other belief.
type Dissent struct {
	Member   uint64
	Endpoint string
	About    string // "cluster", "members" or "leader"
	Text     string // what it says: "it belongs to cluster ..."
}

// Member finds a member by its ID.
func (a Agreement) Member(id uint64) (Member, bool) {
	for _, m := range a.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// NameOf is a member's name, or its ID in hex when it has none.
func (a Agreement) NameOf(id uint64) string {
	if m, _ := a.Member(id); m.Name != "" {
		return m.Name
	}
	return fmt.Sprintf("%016x", id)
}

// Answering are the members that answer, one answer each: that of the first endpoint.
func (v *View) Answering() (all []*Answer) {
	seen := map[[2]uint64]bool{}
	for i := range v.Answers {
		a := &v.Answers[i]
		if id := [2]uint64{a.ClusterID, a.MemberID}; a.Err == nil && !seen[id] {
			seen[id] = true
			all = append(all, a)
		}
	}
	return all
}

// ByID is the answer of a member; nil when it did not answer. Of two with one ID in different clusters, it is the agreed cluster's.
func (v *View) ByID(id uint64) *Answer {
	cluster := v.Agreed().ClusterID
	var other *Answer
	for _, a := range v.Answering() {
		if a.MemberID != id {
			continue
		}
		if a.ClusterID == cluster {
			return a
		}
		other = a
	}
	return other
}

// Agreed is what the answers come to.
func (v *View) Agreed() Agreement {
	answering := v.Answering()
	voices := answering
	quorate := slices.DeleteFunc(slices.Clone(answering), func(a *Answer) bool { return !a.Quorum })
	if len(quorate) > 0 {
		voices = quorate
	}
	out := Agreement{Quorum: len(quorate) > 0}
	// A learner tells no list, and a member whose list cannot be had is a voice for its cluster all the same.
	out.ClusterID = most(voices, func(a *Answer) (uint64, bool) { return a.ClusterID, true })
	ours := func(a *Answer) bool { return a.ClusterID == out.ClusterID }
	list := most(voices, func(a *Answer) (string, bool) { return listKey(a.Members), ours(a) && a.Members != nil })
	for _, a := range newestFirst(voices) {
		if ours(a) && a.Members != nil && listKey(a.Members) == list {
			out.Members = slices.Clone(a.Members)
			slices.SortFunc(out.Members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
			break
		}
	}
	out.Leader = most(voices, func(a *Answer) (uint64, bool) { return a.Leader, ours(a) && a.Leader != 0 })
	for _, a := range answering {
		out.Dissent = append(out.Dissent, a.dissent(out, list)...)
	}
	return out
}

func (a *Answer) dissent(from Agreement, list string) (all []Dissent) {
	add := func(about, format string, args ...any) {
		all = append(all, Dissent{Member: a.MemberID, Endpoint: a.Endpoint, About: about, Text: fmt.Sprintf(format, args...)})
	}
	if a.ClusterID != from.ClusterID {
		add("cluster", "it belongs to cluster %016x, the others to %016x", a.ClusterID, from.ClusterID)
		return all
	}
	if a.Members != nil && listKey(a.Members) != list {
		add("members", "it knows other members: %s", listText(a.Members))
	}
	switch a.Leader {
	case from.Leader:
	case 0:
		add("leader", "it knows no leader")
	default:
		add("leader", "it follows %s, the others %s", from.NameOf(a.Leader), from.NameOf(from.Leader))
	}
	return all
}

// most is the value that most answers give; among equals that of whoever has applied most.
func most[T cmp.Ordered](answers []*Answer, value func(a *Answer) (T, bool)) (best T) {
	votes, newest := map[T]int{}, map[T]uint64{}
	for _, a := range answers {
		if v, ok := value(a); ok {
			votes[v]++
			newest[v] = max(newest[v], a.Applied)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(votes)) {
		if votes[v] > votes[best] || votes[v] == votes[best] && newest[v] > newest[best] {
			best = v
		}
	}
	return best
}

func newestFirst(answers []*Answer) []*Answer {
	out := slices.Clone(answers)
	slices.SortStableFunc(out, func(a, b *Answer) int { return cmp.Compare(b.Applied, a.Applied) })
	return out
}

// listKey is equal for lists that say the same of who votes. Names and client URLs are published by members as they start.
func listKey(members []Member) string {
	var lines []string
	for _, m := range members {
		lines = append(lines, fmt.Sprintf("%016x %v %q", m.ID, m.Learner, slices.Sorted(slices.Values(m.PeerURLs))))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func listText(members []Member) string {
	var all []string
	for _, m := range members {
		name := m.Name
		if name == "" {
			name = fmt.Sprintf("%016x", m.ID)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Cluster is the agreed cluster for the simulation of changes: a member is up when it answers and follows the agreed leader; whether it has been connected
// for etcd's health interval, a view cannot tell. The rules are those of the oldest server that answers.
func (v *View) Cluster() quorum.Cluster {
	agreed := v.Agreed()
	c := quorum.Cluster{}
	rules := false
	for _, m := range agreed.Members {
		a := v.ByID(m.ID)
		up := a != nil && a.ClusterID == agreed.ClusterID && a.Leader != 0 && a.Leader == agreed.Leader
		c.Members = append(c.Members, quorum.Member{ID: m.ID, Name: m.Name, Learner: m.Learner, Up: up})
		if a == nil {
			continue
		}
		r, err := quorum.RulesOf(a.Version)
		if err != nil {
			r = quorum.Rules{AddNeedsAll: true, UpdatePromotes: true} // the strictest
		}
		c.Rules.AddNeedsAll = c.Rules.AddNeedsAll || r.AddNeedsAll
		c.Rules.UpdatePromotes = c.Rules.UpdatePromotes || r.UpdatePromotes
		rules = true
	}
	if !rules {
		c.Rules = quorum.Rules{AddNeedsAll: true, UpdatePromotes: true}
	}
	return c
}
