package membership

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// Gate is a precondition of a change that is not met.
type Gate struct {
	Rule     string `json:"rule"`     // what must be so
	Evidence string `json:"evidence"` // what is so
	Safe     string `json:"safe"`     // what would make it safe
	// Force says that a person may pass it with a reason. What etcd itself or the arithmetic of quorums forbids nobody may pass.
	Force bool `json:"force"`
}

// String is for people.
func (g Gate) String() string { return g.Rule + ": " + g.Evidence }

// Thresholds of the gates (etcd-procedures, A): below them a difference says nothing.
const (
	lagMax    = 100  // entries that a member has not applied yet
	behindMax = 5000 // entries behind the leader: two answers are never of the same moment
	calm      = time.Minute
)

// scope is what the gates are for.
type scope struct {
	// leaves is the member that goes: what is wrong with it alone is no reason to keep it.
	leaves ID
	// learner is the peer URL of a learner that may be there, since the change is about it.
	learner string
	// promotes: there will be a voter more, which nobody may be missing for.
	promotes bool
	// ledSince is how long ago the leader changed, when that is known.
	ledSince time.Duration
}

// gates looks at everything that the arithmetic of quorums does not see. The simulation comes on top of it.
func (c *Cluster) gates(s scope) []Gate {
	var all []Gate
	for _, check := range []func(scope) []Gate{c.agree, c.led, c.alarms, c.reachable, c.lag, c.hashes, c.versions, c.learners} {
		all = append(all, check(s)...)
	}
	return all
}

// others are the members that answered and that stay.
func (c *Cluster) others(s scope) []Member {
	return slices.DeleteFunc(slices.Clone(c.Members), func(m Member) bool { return m.Answer == nil || m.ID == s.leaves })
}

// agree: all members that stay believe the same of who the members are, and who leads.
func (c *Cluster) agree(s scope) (all []Gate) {
	for _, d := range c.Dissent {
		m, known := c.Member(ID(d.Member))
		if m.ID == s.leaves && s.leaves != 0 || known && m.Learner {
			continue // it goes, or has no say
		}
		who := d.Endpoint
		if known {
			who = m.String()
		}
		all = append(all, Gate{
			Rule: "all members agree on who the members are and who leads", Evidence: who + ": " + d.Text,
			Safe: "wait until the election is over and it has caught up; a member that is cut off from the others is replaced: steward health",
		})
	}
	return all
}

func (c *Cluster) specs() (all []Spec) {
	for _, m := range c.Members {
		all = append(all, m.Spec)
	}
	return all
}

func role(learner bool) string {
	if learner {
		return "learner"
	}
	return "voter"
}

// led: there is a leader, for a while.
func (c *Cluster) led(s scope) []Gate {
	if c.Leader == 0 {
		return []Gate{{Rule: "the cluster has a leader", Evidence: "no member knows one", Safe: "bring members back until they elect one: steward health"}}
	}
	if s.ledSince > 0 && s.ledSince < calm {
		return []Gate{{
			Rule: fmt.Sprintf("no change of leader within %v", calm), Evidence: fmt.Sprintf("it changed %v ago", s.ledSince.Round(time.Second)),
			Safe: "wait a minute", Force: true,
		}}
	}
	return nil
}

// alarms: none is raised, but by the member that goes.
func (c *Cluster) alarms(s scope) (all []Gate) {
	seen := map[probe.Alarm]bool{}
	for _, m := range c.Members {
		if m.Answer == nil {
			continue
		}
		for _, a := range m.Answer.Alarms {
			if seen[a] || ID(a.Member) == s.leaves && s.leaves != 0 {
				continue
			}
			seen[a] = true
			g := Gate{Rule: "no alarm is raised", Evidence: fmt.Sprintf("%s of member %s", a.Kind, ID(a.Member)), Force: true, Safe: "steward health names the way out of it"}
			if a.Kind == "CORRUPT" {
				g.Force, g.Safe = false, "replace that member first: its data differs from the others'"
			}
			all = append(all, g)
		}
	}
	return all
}

// reachable: every voter that stays answers. Whether the quorum allows it is the simulation's to say.
func (c *Cluster) reachable(s scope) (all []Gate) {
	for _, m := range c.Members {
		switch {
		case m.ID == s.leaves || m.Learner:
		case m.Answer == nil:
			all = append(all, Gate{Rule: "every voter answers", Evidence: m.String() + " does not", Force: !s.promotes, Safe: "bring it back, or remove it first: steward member remove " + m.ID.String()})
		case m.Answer.AuthRefused:
			all = append(all, Gate{Rule: "this user may see everything", Evidence: m.String() + " refuses", Safe: "give a user with the role root: --user root --password-file FILE"})
		}
	}
	return all
}

// lag: every voter that stays has applied what it knows, and knows about what the leader does.
func (c *Cluster) lag(s scope) (all []Gate) {
	leader, _ := c.Member(c.Leader)
	for _, m := range c.others(s) {
		if m.Learner {
			continue
		}
		a := m.Answer
		switch {
		case a.Index > a.Applied && a.Index-a.Applied >= lagMax:
			all = append(all, Gate{
				Rule: fmt.Sprintf("every voter has applied all but %d entries", lagMax), Evidence: fmt.Sprintf("%s lacks %d", m.Spec, a.Index-a.Applied),
				Safe: "wait until it has caught up", Force: true,
			})
		case leader.Answer != nil && leader.Answer.Index > a.Index && leader.Answer.Index-a.Index >= behindMax:
			all = append(all, Gate{
				Rule: "every voter is near the leader", Evidence: fmt.Sprintf("%s is %d entries behind", m.Spec, leader.Answer.Index-a.Index),
				Safe: "wait until it has caught up", Force: true,
			})
		}
		for _, e := range a.Errors {
			if !strings.Contains(e, "alarm") && !strings.Contains(e, "no leader") { // which have gates of their own
				all = append(all, Gate{Rule: "no member reports an error", Evidence: fmt.Sprintf("%s: %s", m.Spec, e), Safe: "steward health", Force: true})
			}
		}
	}
	return all
}

// hashes: whoever was asked at the same revision has the same data.
func (c *Cluster) hashes(s scope) (all []Gate) {
	var first *Member
	for _, m := range c.others(s) {
		h := m.Answer.Hash
		if h == nil {
			continue
		}
		if first == nil {
			first = &m
			continue
		}
		f := first.Answer.Hash
		if f.Revision == h.Revision && f.Compact == h.Compact && f.Sum != h.Sum {
			all = append(all, Gate{
				Rule: "all members hold the same data", Evidence: fmt.Sprintf("at revision %d %s has the hash %08x, %s %08x", h.Revision, first.Spec, f.Sum, m.Spec, h.Sum),
				Safe: "find out which member differs from the majority (steward health), and replace that one",
			})
		}
	}
	return all
}

// versions: all servers are of one minor version.
func (c *Cluster) versions(s scope) []Gate {
	var seen []string
	for _, m := range c.others(s) {
		minor := m.Answer.Version
		if i := strings.LastIndex(minor, "."); i > 0 {
			minor = minor[:i]
		}
		if !slices.Contains(seen, minor) {
			seen = append(seen, minor)
		}
	}
	if len(seen) < 2 {
		return nil
	}
	slices.Sort(seen)
	return []Gate{{Rule: "all servers run one minor version", Evidence: strings.Join(seen, " and ") + " run side by side", Safe: "finish the upgrade first", Force: true}}
}

// learners: none is there but that which the change is about.
func (c *Cluster) learners(s scope) (all []Gate) {
	for _, m := range c.Members {
		if !m.Learner || m.ID == s.leaves || s.learner != "" && hasURL(m.PeerURLs, s.learner) {
			continue
		}
		all = append(all, Gate{
			Rule: "no learner is there", Evidence: m.String() + " is one", Force: true,
			Safe: fmt.Sprintf("promote it (steward member promote %s) or remove it (steward member remove %s)", m.ID, m.ID),
		})
	}
	return all
}

// pass refuses, unless everything that is not met may be forced and was. What was forced becomes a warning of the plan.
func pass(gates []Gate, force string) (warnings []string, err error) {
	var hard, soft []Gate
	for _, g := range gates {
		if g.Force {
			soft = append(soft, g)
		} else {
			hard = append(hard, g)
		}
	}
	if len(hard) > 0 {
		return nil, refuse(append(hard, soft...), "")
	}
	if len(soft) > 0 && force == "" {
		return nil, refuse(soft, `; or --force "REASON", if you know better`)
	}
	for _, g := range soft {
		warnings = append(warnings, fmt.Sprintf("forced (%s): %s", force, g))
	}
	return warnings, nil
}

func refuse(gates []Gate, more string) error {
	var texts []string
	for _, g := range gates {
		texts = append(texts, g.String())
	}
	return fail.Refused(fmt.Errorf("refused: %s", strings.Join(texts, "; ")), gates[0].Safe+more)
}
