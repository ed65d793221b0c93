package membership

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// Basis is what a plan was made from, and what it is going to change itself: everything else that has changed meanwhile makes it outdated.
type Basis struct {
	ClusterID ID     `json:"cluster_id"`
	Members   []Spec `json:"members"`
	DBSize    int64  `json:"db_size,omitempty"` // bytes, of the largest
	Version   string `json:"version,omitempty"`
	Term      uint64 `json:"term,omitempty"` // of raft: another one later means an election

	Adds     *Newcomer `json:"adds,omitempty"`
	Removes  ID        `json:"removes,omitempty"`
	Promotes ID        `json:"promotes,omitempty"`
	Updates  *Address  `json:"updates,omitempty"`

	// Silent is when the member that the plan removes was seen to answer nobody; nil when it was not.
	Silent *Moment `json:"silent,omitempty"`

	// Like is the etcd of the machine on which the plan was made: a new one without configuration is set up alike.
	Like *host.Template `json:"like,omitempty"`
}

// Newcomer is a member that is to be.
type Newcomer struct {
	Name    string `json:"name"`
	PeerURL string `json:"peer_url"`
	Voter   bool   `json:"voter,omitempty"` // from the beginning, without having been a learner
}

// Address is a member's new one.
type Address struct {
	ID       ID       `json:"id"`
	PeerURLs []string `json:"peer_urls"`
}

func basisOf(c *Cluster) Basis {
	b := Basis{ClusterID: c.ID, Members: c.specs(), Version: c.Version, Term: c.Term()}
	for _, m := range c.Members {
		if m.Answer != nil {
			b.DBSize = max(b.DBSize, m.Answer.DBSize)
		}
	}
	return b
}

// BasisOf reads a plan's.
func BasisOf(p plan.Plan) (Basis, error) {
	var b Basis
	if err := json.Unmarshal(p.Basis, &b); err != nil {
		return b, fail.New(fail.Usage, fmt.Errorf("plan %s does not say what it was made from: %w", p.ID, err), "make a new one")
	}
	return b, nil
}

// Outdated is an error when the cluster is not the one that the plan was made for, or was changed since by somebody else. It is not one when the plan's own
// changes are there, in part or all: that is how a plan is gone on with.
func (b Basis) Outdated(cluster ID, now []Spec) error {
	if cluster != b.ClusterID {
		return fail.Refused(fmt.Errorf("the plan is for cluster %s, and this is cluster %s", b.ClusterID, cluster), "give the endpoints of the cluster that it was made for, or make a new plan")
	}
	for _, w := range b.Members {
		i := slices.IndexFunc(now, func(m Spec) bool { return m.ID == w.ID })
		if i < 0 {
			if w.ID == b.Removes {
				continue
			}
			return outdated("%s was removed", w)
		}
		if why := b.changed(w, now[i]); why != "" {
			return outdated("%s", why)
		}
	}
	for _, m := range now {
		known := slices.ContainsFunc(b.Members, func(w Spec) bool { return w.ID == m.ID })
		if !known && !b.ours(m) {
			return outdated("%s was added", m)
		}
	}
	return nil
}

// changed says how a member differs from what it was, in a way that is not the plan's.
func (b Basis) changed(was, is Spec) string {
	switch {
	case was.Name != is.Name && was.Name != "":
		return fmt.Sprintf("%s is named %s now", was, is.Name)
	case was.Learner != is.Learner && (is.Learner || b.Promotes != was.ID && !b.ours(is)):
		return fmt.Sprintf("%s is a %s now", was, role(is.Learner))
	case sameURLs(was.PeerURLs, is.PeerURLs):
		return ""
	case b.Updates != nil && b.Updates.ID == was.ID && sameURLs(b.Updates.PeerURLs, is.PeerURLs):
		return ""
	}
	return fmt.Sprintf("%s has the peer URL %s now", was, strings.Join(is.PeerURLs, ","))
}

// ours says whether a member is the one that the plan adds.
func (b Basis) ours(m Spec) bool {
	return b.Adds != nil && m.ID != b.Removes && hasURL(m.PeerURLs, b.Adds.PeerURL) && (m.Name == "" || m.Name == b.Adds.Name)
}

// newcomer finds the member that the plan adds.
func (b Basis) newcomer(now []Spec) (Spec, bool) {
	for _, m := range now {
		if b.ours(m) && !slices.ContainsFunc(b.Members, func(w Spec) bool { return w.ID == m.ID && !w.Learner }) {
			return m, true
		}
	}
	return Spec{}, false
}

// endpoints are the client URLs of the voters that were there, and stay.
func (b Basis) endpoints() (all []string) {
	for _, m := range b.Members {
		if !m.Learner && m.ID != b.Removes {
			all = append(all, m.ClientURLs...)
		}
	}
	return all
}

func outdated(format string, a ...any) error {
	return fail.Refused(fmt.Errorf("the cluster changed since the plan was made: "+format, a...), "look (steward member list), roll this plan back if it has begun (steward plan rollback PLAN), and make a new one")
}
