package daemon

import (
	"slices"
	"sync"
	"time"

	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

// healthState is what the looks at a cluster's members came to.
type healthState struct {
	history *health.History

	mu      sync.Mutex
	view    *probe.View // the last; nil before the first
	found   []since     // what is wrong now
	changes []news      // what was not told yet
	hashed  *hashing    // the last comparison that came to something; nil before the first
	// unknown is what the last comparison could not compare.
	unknown []health.Finding
	leader  uint64
	moved   uint64    // changes of leader between two looks
	term    uint64    // of raft, in which that leader leads
	led     time.Time // when an election was seen last; zero: never
	// learners is since when each is known as one.
	learners     map[uint64]time.Time
	certificates []health.Certificate
}

// since is a finding, and when it appeared.
type since struct {
	health.Finding
	at time.Time
}

// hashing is a comparison of members' data.
type hashing struct {
	at    time.Time
	equal bool
	found []health.Finding // where they differ: it holds until all are found equal
}

// news is a finding that appeared, or that is gone.
type news struct {
	since
	gone bool
	now  time.Time
}

// logger is what a logger of ours has, and a test's can have.
type logger interface {
	Info(msg string, args ...any)
	Warn(msg string, args ...any)
	Error(msg string, args ...any)
}

func newHealthState() *healthState {
	return &healthState{history: health.NewHistory(), learners: map[uint64]time.Time{}}
}

func (h *healthState) seen() *probe.View {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view
}

// take takes in a look and its judgement.
func (h *healthState) take(v *probe.View, found []health.Finding, certificates []health.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	agreed := v.Agreed()
	if h.leader != 0 && agreed.Leader != 0 && h.leader != agreed.Leader {
		h.moved++
	}
	if term := termOf(v, agreed); term != 0 {
		if h.term != 0 && (h.leader != agreed.Leader || h.term != term) {
			h.led = v.At
		}
		h.leader, h.term = agreed.Leader, term
	}
	h.learn(agreed, v.At)
	h.view, h.certificates = v, certificates
	h.update(h.withHashes(v, found), v.At)
}

// termOf is the raft term in which the members follow the leader that they agree on; 0: there is none.
func termOf(v *probe.View, agreed probe.Agreement) (term uint64) {
	for _, a := range v.Answering() {
		if agreed.Leader != 0 && a.Leader == agreed.Leader && a.ClusterID == agreed.ClusterID {
			term = max(term, a.Term, a.After.Term)
		}
	}
	return term
}

// learn keeps since when each learner is known as one.
func (h *healthState) learn(agreed probe.Agreement, at time.Time) {
	if agreed.Members == nil {
		return
	}
	now := map[uint64]time.Time{}
	for _, m := range agreed.Members {
		if !m.Learner {
			continue
		}
		if now[m.ID] = at; !h.learners[m.ID].IsZero() {
			now[m.ID] = h.learners[m.ID]
		}
	}
	h.learners = now
}

// withHashes adds what the last comparison showed, when this look compared nothing, or less than all.
func (h *healthState) withHashes(v *probe.View, found []health.Finding) []health.Finding {
	if v.Hashed {
		c := &hashing{at: v.At, equal: true, found: only(found, health.Divergence)}
		c.equal = len(c.found) == 0
		h.unknown = only(found, health.HashUnknown)
		some, all := compared(v)
		switch {
		case !c.equal:
			h.hashed = c
		case h.hashed != nil && !h.hashed.equal && !all: // who differed may be among those that were not compared
		case some:
			h.hashed = c
		}
	}
	for _, f := range h.unknown {
		found = addNew(found, f)
	}
	if h.hashed != nil {
		for _, f := range h.hashed.found {
			found = addNew(found, f)
		}
	}
	return found
}

// compared says whether data of at least two members were compared, and whether those of all voters that have any were.
func compared(v *probe.View) (some, all bool) {
	type place struct{ revision, compact int64 }
	n, most := map[place]int{}, 0
	agreed, voters := v.Agreed(), 0
	for _, m := range agreed.Members {
		if m.Learner || m.Name == "" {
			continue
		}
		voters++
		if a := v.ByID(m.ID); a != nil && a.ClusterID == agreed.ClusterID && a.Hash != nil {
			p := place{a.Hash.Revision, a.Hash.Compact}
			n[p]++
			most = max(most, n[p])
		}
	}
	return most > 1, most > 1 && most == voters
}

func only(found []health.Finding, k health.Kind) (out []health.Finding) {
	for _, f := range found {
		if f.Kind == k {
			out = append(out, f)
		}
	}
	return out
}

func addNew(found []health.Finding, f health.Finding) []health.Finding {
	if slices.ContainsFunc(found, func(g health.Finding) bool { return same(f, g) && f.Text == g.Text }) {
		return found
	}
	return append(found, f)
}

// same says whether two findings are about one thing, whatever they say of it.
func same(a, b health.Finding) bool {
	return a.Kind == b.Kind && a.Member == b.Member && a.MemberID == b.MemberID
}

// update notes what appeared, what became worse or better, and what is gone. One member can have several findings of one kind: certificates, for example.
func (h *healthState) update(found []health.Finding, at time.Time) {
	var now []since
	for _, f := range found {
		if !slices.ContainsFunc(now, func(s since) bool { return same(s.Finding, f) && s.Severity == f.Severity && s.Text == f.Text }) {
			now = append(now, since{Finding: f})
		}
	}
	// Each is one of before at most: with the same words, else with others (they hold numbers), else one that was worse or better.
	left := slices.Clone(h.found)
	for _, alike := range []func(a, b health.Finding) bool{
		func(a, b health.Finding) bool { return a.Severity == b.Severity && a.Text == b.Text },
		func(a, b health.Finding) bool { return a.Severity == b.Severity },
		func(a, b health.Finding) bool { return true },
	} {
		for i := range now {
			s := &now[i]
			k := slices.IndexFunc(left, func(old since) bool { return same(old.Finding, s.Finding) && alike(old.Finding, s.Finding) })
			if !s.at.IsZero() || k < 0 {
				continue
			}
			if s.at = left[k].at; left[k].Severity != s.Severity {
				s.at = at
				h.changes = append(h.changes, news{since: *s, now: at})
			}
			left = slices.Delete(left, k, k+1)
		}
	}
	for i := range now {
		if now[i].at.IsZero() {
			now[i].at = at
			h.changes = append(h.changes, news{since: now[i], now: at})
		}
	}
	for _, old := range left {
		h.changes = append(h.changes, news{since: old, gone: true, now: at})
	}
	h.found = now
}

// news is what was not told yet.
func (h *healthState) news() []news {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.changes
	h.changes = nil
	return out
}

// log tells it once.
func (n news) log(l logger) {
	args := []any{"finding", string(n.Kind), "severity", n.Severity.String()}
	if n.Member != "" {
		args = append(args, "member", n.Member)
	}
	if n.gone {
		l.Info("over: "+n.Text, append(args, "lasted", n.now.Sub(n.at).Round(time.Second).String())...)
		return
	}
	args = append(args, "evidence", n.Evidence, "next", n.Next)
	switch n.Severity {
	case health.Critical:
		l.Error("found: "+n.Text, args...)
	case health.Warning:
		l.Warn("found: "+n.Text, args...)
	default:
		l.Info("found: "+n.Text, args...)
	}
}
