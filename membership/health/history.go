package health

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"etcd-steward/membership/probe"
)

// Bounds of what is kept.
const (
	keepFor   = time.Hour
	keepViews = 512 // over an hour, one in seven seconds
	keepEach  = 256 // members, living and gone, and events
)

// History is what views showed, as far as later ones are judged by it. It is bounded, and safe for concurrent use; nil is an empty one to read.
type History struct {
	mu       sync.Mutex
	seen     []sighting
	learners map[uint64]learning
	highest  map[uint64]height
	cluster  uint64
	happened []event
}

// sighting is one view.
type sighting struct {
	at      time.Time
	leader  uint64
	members map[uint64]memberSeen
}

type memberSeen struct {
	size    int64
	metrics probe.Metrics
}

// learning is a learner: since when it is known as one, and when it last got on.
type learning struct {
	since, moved time.Time
	applied      uint64
}

// height is the highest revision that a member of a cluster ever told.
type height struct {
	cluster  uint64
	revision int64
	at       time.Time
}

// event is something that happened once.
type event struct {
	kind   Kind
	member uint64
	text   string
	at     time.Time
}

// NewHistory is empty.
func NewHistory() *History {
	return &History{learners: map[uint64]learning{}, highest: map[uint64]height{}}
}

// Add takes in a view that was judged. A view in which nobody answers changes nothing but the learners' ages.
func (h *History) Add(v *probe.View) {
	agreed := v.Agreed()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.happened = append(h.happened, h.changesOf(v, agreed)...)
	h.happened = trim(slices.DeleteFunc(h.happened, func(e event) bool { return v.At.Sub(e.at) > eventAge }), keepEach)
	if agreed.ClusterID != 0 {
		h.cluster = agreed.ClusterID
	}
	s := sighting{at: v.At, leader: agreed.Leader, members: map[uint64]memberSeen{}}
	for _, a := range v.Answering() {
		if a.ClusterID != agreed.ClusterID {
			continue
		}
		seen := memberSeen{size: a.DBSize}
		if a.Metrics != nil {
			seen.metrics = *a.Metrics
		}
		s.members[a.MemberID] = seen
		if known, ok := h.highest[a.MemberID]; len(h.highest) < keepEach || ok {
			if known.cluster != a.ClusterID || a.Revision != known.revision { // also when it is lower: that was told, and counts from now on
				h.highest[a.MemberID] = height{a.ClusterID, a.Revision, v.At}
			}
		}
	}
	h.learn(v, agreed)
	if len(s.members) > 0 {
		h.seen = append(h.seen, s)
	}
	h.seen = trim(slices.DeleteFunc(h.seen, func(s sighting) bool { return v.At.Sub(s.at) > keepFor }), keepViews)
}

// trim keeps the newest.
func trim[T any](all []T, most int) []T {
	if n := len(all) - most; n > 0 {
		return slices.Delete(all, 0, n)
	}
	return all
}

// learn keeps count of the learners.
func (h *History) learn(v *probe.View, agreed probe.Agreement) {
	if agreed.Members == nil {
		return
	}
	now := map[uint64]learning{}
	for _, m := range agreed.Members[:min(len(agreed.Members), keepEach)] {
		if !m.Learner {
			continue
		}
		l, known := h.learners[m.ID]
		if !known {
			l.since = v.At
		}
		if a := v.ByID(m.ID); a != nil && (a.Applied > l.applied || l.moved.IsZero()) {
			l.applied, l.moved = a.Applied, v.At
		}
		now[m.ID] = l
	}
	h.learners = now
}

// learner is since when a learner is known, and when it last got on; zero when it is not known.
func (h *History) learner(id uint64) (since, moved time.Time) {
	if h == nil {
		return since, moved
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.learners[id]
	return l.since, l.moved
}

// changesOf are the events that a view shows.
func (h *History) changesOf(v *probe.View, agreed probe.Agreement) (all []event) {
	if h.cluster != 0 && agreed.ClusterID != 0 && h.cluster != agreed.ClusterID {
		all = append(all, event{ClusterChanged, 0, fmt.Sprintf("cluster %016x now, %016x before", agreed.ClusterID, h.cluster), v.At})
	}
	for _, a := range v.Answering() {
		if k, ok := h.highest[a.MemberID]; ok && k.cluster == a.ClusterID && a.Revision < k.revision && !k.at.After(v.At) {
			all = append(all, event{WentBack, a.MemberID, fmt.Sprintf("revision %d now, %d at %s", a.Revision, k.revision, k.at.UTC().Format(time.RFC3339)), v.At})
		}
	}
	return all
}

// events are those of this view, and those of before that are not yet old.
func (h *History) events(v *probe.View, agreed probe.Agreement, now time.Time) []event {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []event
	for _, e := range h.happened {
		if now.Sub(e.at) <= eventAge {
			all = append(all, e)
		}
	}
	return append(all, h.changesOf(v, agreed)...)
}

// changes counts how often the leader changed since from, the view included, and since when that was watched. Between two views more may have happened,
// which members count themselves.
func (h *History) changes(v *probe.View, agreed probe.Agreement, from time.Time) (n int, since time.Time) {
	if h == nil {
		return 0, v.At
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	since = v.At
	last := uint64(0)
	first := map[uint64]probe.Metrics{}
	for _, s := range append(slices.Clip(h.seen), sighting{at: v.At, leader: agreed.Leader}) {
		if s.at.Before(from) || s.at.After(v.At) {
			continue
		}
		if s.at.Before(since) {
			since = s.at
		}
		if s.leader != 0 && last != 0 && s.leader != last {
			n++
		}
		if s.leader != 0 {
			last = s.leader
		}
		for id, m := range s.members {
			if _, ok := first[id]; !ok && !m.metrics.Started.IsZero() {
				first[id] = m.metrics
			}
		}
	}
	for _, a := range v.Answering() {
		if before, ok := first[a.MemberID]; ok && a.Metrics != nil && a.Metrics.Started.Equal(before.Started) {
			n = max(n, int(min(max(a.Metrics.LeaderChanges-before.LeaderChanges, 0), 1e6)))
		}
	}
	return n, since
}

// growthLeast is the least time over which growth says something.
const growthLeast = 5 * time.Minute

// growth is how many bytes a second a member's database grows, over all that is remembered of it.
func (h *History) growth(id uint64, a *probe.Answer, now time.Time) (perSecond float64, over time.Duration) {
	if h == nil {
		return 0, 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.seen {
		m, ok := s.members[id]
		if over = now.Sub(s.at); !ok || over < growthLeast {
			continue
		}
		return float64(a.DBSize-m.size) / over.Seconds(), over
	}
	return 0, 0
}

// metrics are a member's of the first sighting since from; the zero value when there is none.
func (h *History) metrics(id uint64, from time.Time) probe.Metrics {
	if h == nil {
		return probe.Metrics{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.seen {
		if m, ok := s.members[id]; ok && !s.at.Before(from) && !m.metrics.Started.IsZero() {
			return m.metrics
		}
	}
	return probe.Metrics{}
}
