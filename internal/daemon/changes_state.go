package daemon

import (
	"fmt"
	"sync"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
)

// changesState is what the daemon knows of one cluster's change log. It outlives reloads, and so do its counters.
type changesState struct {
	mu       sync.Mutex
	limit    time.Duration // of age, above which the daemon is not ready
	spoolMax int64
	since    time.Time // when this daemon began
	live     func() record.Status
	prove    func()
	last     record.Status // of the recorder that ended last, without what past counts
	past     record.Status // the counters of those that ended
	problem  error         // why none runs
	gaps     map[record.GapReason]uint64
	lastGap  time.Time // that this daemon noted
	demanded map[record.SignalKind]uint64
	lag      lagCount
	mark     *repo.Recorded // as it was last read
	broken   string         // what in the store says that the log's end cannot be restored
}

func newChangesState() *changesState {
	return &changesState{since: time.Now(), gaps: map[record.GapReason]uint64{}, demanded: map[record.SignalKind]uint64{}}
}

// set takes over what the config says.
func (c *changesState) set(limit time.Duration, spoolMax int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit, c.spoolMax = limit, spoolMax
}

// begin takes a recorder in.
func (c *changesState) begin(live func() record.Status, prove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live, c.prove = live, prove
}

// end keeps what the recorder counted.
func (c *changesState) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = c.live()
	c.past = counted(c.past, c.last)
	c.live, c.prove = nil, nil
}

// counted is s with the counters of past added.
func counted(past, s record.Status) record.Status {
	s.Events += past.Events
	s.Segments += past.Segments
	s.Bytes += past.Bytes
	s.UploadFailures += past.UploadFailures
	s.Reconnects += past.Reconnects
	s.Turns += past.Turns
	s.Healed += past.Healed
	return s
}

// status is the recorder's, with what those before it counted. Between two it is that of the last one.
func (c *changesState) status() record.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statusLocked()
}

func (c *changesState) statusLocked() record.Status {
	if c.live == nil {
		s := c.last
		if s.State == "" {
			s.State = record.Starting
		}
		p := c.past
		s.Events, s.Segments, s.Bytes, s.UploadFailures, s.Reconnects, s.Turns, s.Healed = p.Events, p.Segments, p.Bytes, p.UploadFailures, p.Reconnects, p.Turns, p.Healed
		return s
	}
	return counted(c.past, c.live())
}

// failed notes why no recorder runs, and says whether that is news.
func (c *changesState) failed(err error) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = err != nil && (c.problem == nil || c.problem.Error() != err.Error())
	c.problem = err
	return news
}

// count counts a signal.
func (c *changesState) count(s record.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Reason != "" {
		c.gaps[s.Reason]++
		c.lastGap = time.Now()
	}
	if s.NeedFull {
		c.demanded[s.Kind]++
	}
}

// stored counts a segment that is in the store.
func (c *changesState) stored(_ repo.Segment, lag time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag.add(lag)
}

// proveNow asks for a proof soon, if this daemon records.
func (c *changesState) proveNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.prove != nil {
		c.prove()
	}
}

// marked takes a mark in.
func (c *changesState) marked(m repo.Recorded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark = &m
}

// listed takes in what a listing of the repository tells of the timeline that is recorded.
func (c *changesState) listed(catalog *repo.Catalog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mark != nil {
		c.broken = unreached(catalog, c.mark.Timeline)
	}
}

func (c *changesState) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken != ""
}

// unreached says that no full snapshot leads to the newest segment of a timeline.
func unreached(catalog *repo.Catalog, t repo.Timeline) string {
	segs := catalog.SegmentsOf(t)
	var last repo.Revision
	for _, s := range segs {
		last = max(last, s.Last)
	}
	var to repo.Revision
	for _, w := range cover.Windows(cover.Snapshots(catalog), segs) {
		if w.Timeline == t {
			to = max(to, w.To)
		}
	}
	if to >= last {
		return ""
	}
	return fmt.Sprintf("changes up to revision %d are recorded, but no full snapshot leads beyond %d", last, to)
}

// recorded is how far the change log is in the store, and as of when: the recorder's own word, or the mark's, whichever is newer.
func (c *changesState) recorded(s record.Status) (rev repo.Revision, at time.Time) {
	rev, at = s.Through, s.ThroughTime
	if c.mark != nil && c.mark.Time.After(at) {
		rev, at = c.mark.Through, c.mark.Time
	}
	return rev, at
}

// notReady is every reason why the change log cannot be relied on now.
func (c *changesState) notReady(now time.Time, pending []demand) (reasons []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.statusLocked()
	works := c.live != nil && (s.State == record.Recording || s.State == record.Standby)
	if c.problem != nil && !works {
		word := "failed"
		if refused(c.problem) {
			word = "refused"
		}
		reasons = append(reasons, fmt.Sprintf("changes: recording %s: %v", word, c.problem))
	}
	rev, at := c.recorded(s)
	from, what := at, fmt.Sprintf("changes after revision %d", rev)
	if at.IsZero() {
		from, what = c.since, "changes"
	}
	if age := now.Sub(from); age > c.limit {
		reasons = append(reasons, fmt.Sprintf("changes: %s are not recorded for %s, more than %s: %s", what, age.Round(time.Second), c.limit, why(s)))
	}
	if s.State == record.Full {
		reasons = append(reasons, fmt.Sprintf("changes: the spool is full, and etcd is not read until the store takes what waits: %s", s.UploadProblem))
	}
	if c.broken != "" {
		reasons = append(reasons, "changes: "+c.broken)
	} else if d, ok := reaching(pending); ok {
		reasons = append(reasons, fmt.Sprintf("changes: a full snapshot at revision %d or above must follow (%s)", d.revision, d.kind))
	}
	return reasons
}

// line is for systemctl status.
func (c *changesState) line(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	rev, at := c.recorded(c.statusLocked())
	if at.IsZero() {
		return "no changes recorded yet"
	}
	return fmt.Sprintf("changes recorded to revision %d, as of %s ago", rev, now.Sub(at).Round(time.Second))
}

// why is what a recorder says of itself.
func why(s record.Status) string {
	out := string(s.State)
	for _, p := range []string{s.Problem, s.UploadProblem} {
		if p != "" {
			out += ": " + p
		}
	}
	return out
}

// reaching is a demand without which the log's end cannot be restored.
func reaching(pending []demand) (demand, bool) {
	for _, d := range pending {
		if d.revision > 0 {
			return d, true
		}
	}
	return demand{}, false
}
