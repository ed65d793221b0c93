package membership

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
	"etcd-steward/membership/quorum"
)

// Cluster is what the answers of a view come to: one list of members, and what each said of itself.
type Cluster struct {
	ID      ID
	Leader  ID // 0: nobody knows one
	Members []Member
	Rules   quorum.Rules // of the oldest server that answered
	Version string       // of that server
	Dissent []probe.Dissent
}

// Member is one of them.
type Member struct {
	Spec
	// Answer is its own; nil when it gave none.
	Answer *probe.Answer
}

// Up says that it answers, and follows (or is) the leader that the others follow.
func (c *Cluster) Up(m Member) bool {
	return m.Answer != nil && c.Leader != 0 && ID(m.Answer.Leader) == c.Leader
}

// Read makes one cluster of a view. It is an error when nobody answers, when the answers come from two clusters, and when nobody says who the members are.
func Read(v *probe.View) (*Cluster, error) {
	answering := v.Answering()
	if len(answering) == 0 {
		return nil, silent(v)
	}
	if err := oneCluster(answering); err != nil {
		return nil, err
	}
	agreed := v.Agreed()
	if agreed.Members == nil {
		for _, a := range answering {
			if a.AuthRefused {
				return nil, noRights(a.Endpoint)
			}
		}
		return nil, fail.New(fail.Failed, errors.New("nobody says who the members are"), "steward member list")
	}
	c := &Cluster{ID: ID(agreed.ClusterID), Leader: ID(agreed.Leader), Dissent: agreed.Dissent}
	own := map[uint64]*probe.Answer{}
	for _, a := range answering {
		own[a.MemberID] = a
	}
	for _, m := range agreed.Members {
		c.Members = append(c.Members, Member{Spec: specOf(m), Answer: own[m.ID]})
	}
	for _, a := range answering {
		r, err := quorum.RulesOf(a.Version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Endpoint, err)
		}
		c.Rules.AddNeedsAll = c.Rules.AddNeedsAll || r.AddNeedsAll
		c.Rules.UpdatePromotes = c.Rules.UpdatePromotes || r.UpdatePromotes
		if c.Version == "" || older(a.Version, c.Version) {
			c.Version = a.Version
		}
	}
	return c, nil
}

func silent(v *probe.View) error {
	var all []string
	for _, a := range v.Answers {
		all = append(all, fmt.Sprintf("%s: %v", a.Endpoint, a.Err))
	}
	hint := "check --endpoints and the certificates: steward member list"
	if len(v.Answers) == 1 && fail.HintOf(v.Answers[0].Err) != "" {
		hint = fail.HintOf(v.Answers[0].Err)
	}
	return fail.New(fail.Failed, fmt.Errorf("no member answers: %s", strings.Join(all, "; ")), hint)
}

// oneCluster: what answers belongs together.
func oneCluster(answering []*probe.Answer) error {
	by := map[ID][]string{}
	for _, a := range answering {
		by[ID(a.ClusterID)] = append(by[ID(a.ClusterID)], a.Endpoint)
	}
	if len(by) < 2 {
		return nil
	}
	var of []string
	for id, eps := range by {
		of = append(of, fmt.Sprintf("%s (%s)", id, strings.Join(eps, ", ")))
	}
	slices.Sort(of)
	return fail.Refused(fmt.Errorf("the endpoints belong to different clusters: %s", strings.Join(of, " and ")),
		"give endpoints of one cluster; if these should be one, stop the members that were not restored: steward health")
}

func noRights(endpoint string) error {
	return fail.New(fail.Usage, fmt.Errorf("%s: this user may not ask for the members", endpoint), "give a user with the role root: --user root --password-file FILE")
}

// older compares two versions that RulesOf has accepted.
func older(a, b string) bool {
	var x, y [3]int
	_, _ = fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2])
	_, _ = fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	return slices.Compare(x[:], y[:]) < 0
}

// model is the cluster for the simulation.
func (c *Cluster) model() quorum.Cluster {
	q := quorum.Cluster{Rules: c.Rules}
	for _, m := range c.Members {
		q.Members = append(q.Members, quorum.Member{ID: uint64(m.ID), Name: m.Name, Learner: m.Learner, Up: c.Up(m)})
	}
	return q
}

// Member finds one by its ID.
func (c *Cluster) Member(id ID) (Member, bool) {
	i := slices.IndexFunc(c.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return c.Members[i], true
}

// learner is the one learner that there is, if there is one.
func (c *Cluster) learner() (Member, bool) {
	i := slices.IndexFunc(c.Members, func(m Member) bool { return m.Learner })
	if i < 0 {
		return Member{}, false
	}
	return c.Members[i], true
}

// Find finds the member that a person means: by hexadecimal ID, name, peer URL or client URL.
func (c *Cluster) Find(who string) (Member, error) {
	var found []Member
	for _, m := range c.Members {
		var id ID
		named := id.UnmarshalText([]byte(strings.TrimPrefix(strings.ToLower(who), "0x"))) == nil && id == m.ID
		if named || m.Name != "" && m.Name == who || hasURL(m.PeerURLs, who) || hasURL(m.ClientURLs, who) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Member{}, fail.New(fail.Usage, fmt.Errorf("no member has the ID, the name or a URL %q; there are %s", who, list(c.Members)), "steward member list")
	}
	return Member{}, fail.New(fail.Usage, fmt.Errorf("%q may be any of %s", who, list(found)), "name it by its ID")
}

func list(members []Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.String())
	}
	return strings.Join(all, ", ")
}
