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
	hashed  *hashing    // the last comparison; nil before the first
	leader  uint64
	moved   uint64 // changes of leader between two looks
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
	found []health.Finding // what it alone shows: it holds until the next one
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
	if agreed.Leader != 0 {
		h.leader = agreed.Leader
	}
	h.learn(agreed, v.At)
	h.view, h.certificates = v, certificates
	h.update(h.withHashes(v, found), v.At)
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

// withHashes adds what the last comparison showed, when this look compared nothing.
func (h *healthState) withHashes(v *probe.View, found []health.Finding) []health.Finding {
	if v.Hashed {
		c := &hashing{at: v.At, equal: true}
		for _, f := range found {
			switch f.Kind {
			case health.Divergence:
				c.equal = false
				c.found = append(c.found, f)
			case health.HashUnknown:
				c.found = append(c.found, f)
			}
		}
		if len(c.found) > 0 && c.equal && h.hashed != nil && !h.hashed.equal {
			c.equal = false // it could not be compared: what was known before holds
			c.found = append(c.found, h.hashed.found...)
			found = append(found, h.hashed.found...)
		}
		h.hashed = c
		return found
	}
	if h.hashed == nil {
		return found
	}
	for _, old := range h.hashed.found {
		if !slices.ContainsFunc(found, func(f health.Finding) bool { return same(f, old) }) {
			found = append(found, old)
		}
	}
	return found
}

// same says whether two findings are about one thing, whatever they say of it.
func same(a, b health.Finding) bool { return a.Kind == b.Kind && a.Member == b.Member }

// update notes what appeared, what became worse or better, and what is gone.
func (h *healthState) update(found []health.Finding, at time.Time) {
	var now []since
	for _, f := range found {
		if slices.ContainsFunc(now, func(s since) bool { return same(s.Finding, f) && s.Severity == f.Severity }) {
			continue
		}
		s := since{f, at}
		i := slices.IndexFunc(h.found, func(old since) bool { return same(old.Finding, f) && old.Severity == f.Severity })
		if i >= 0 {
			s.at = h.found[i].at
		} else {
			h.changes = append(h.changes, news{since: s, now: at})
		}
		now = append(now, s)
	}
	for _, old := range h.found {
		if !slices.ContainsFunc(now, func(s since) bool { return same(s.Finding, old.Finding) }) {
			h.changes = append(h.changes, news{since: old, gone: true, now: at})
		}
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
