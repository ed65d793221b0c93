package daemon

import (
	"sync"
	"time"

	"etcd-steward/backup/repo"
)

// state is what the daemon knows of its clusters: the health page, the metrics and systemd's status line are made from it.
// What the store shows is read from the store again after a restart; only the counters begin at 0.
type state struct {
	mu       sync.Mutex
	clusters map[string]*clusterState
	reload   reloadState
}

// reloadState is how the last reading of the config went.
type reloadState struct {
	ok bool
	at time.Time
}

// clusterState is one cluster's part.
type clusterState struct {
	recorder  chan struct{} // full while a recorder has the spool folder
	mu        sync.Mutex
	maxAge    time.Duration // of the newest backup, when nothing is wrong; 0 when this daemon takes no snapshots
	storeErr  error         // of the last try
	seen      bool          // whether the store was read at all
	held      holding
	jobs      map[string]*jobState
	storeErrs map[string]uint64 // by kind
	changes   *changesState     // nil when this daemon records no changes
	demands   *demands
	health    *healthState // nil when this daemon does not look at the members
}

// holding is what a repository holds, as far as the metrics tell.
type holding struct {
	backups, unfinished int
	objects             int
	bytes               int64
	newest              *repo.Manifest // by time; nil when there is none
	verified            *repo.Verification
	verifiedRevision    repo.Revision
}

// jobState is one job's part.
type jobState struct {
	mu          sync.Mutex
	running     time.Time // since when; zero when it is not
	next        time.Time
	lastSuccess time.Time
	seconds     float64 // of the last success
	failures    map[string]uint64
	lastErr     error // of the last attempt; nil after a success
	notAllowed  string
}

func newState() *state { return &state{clusters: map[string]*clusterState{}} }

// cluster is the state of a cluster, made when it is new. It stays the same over reloads.
func (s *state) cluster(name string) *clusterState {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[name]
	if c == nil {
		c = &clusterState{recorder: make(chan struct{}, 1), jobs: map[string]*jobState{}, storeErrs: map[string]uint64{}, demands: newDemands()}
		s.clusters[name] = c
	}
	return c
}

// keep forgets the clusters that are not in names.
func (s *state) keep(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.clusters {
		if !names[name] {
			delete(s.clusters, name)
		}
	}
}

func (s *state) all() map[string]*clusterState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*clusterState, len(s.clusters))
	for name, c := range s.clusters {
		out[name] = c
	}
	return out
}

func (s *state) setReload(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload = reloadState{ok: ok, at: time.Now()}
}

func (s *state) reloaded() reloadState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload
}

func (c *clusterState) job(name string) *jobState {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.jobs[name]
	if j == nil {
		j = &jobState{failures: map[string]uint64{}}
		c.jobs[name] = j
	}
	return j
}

// keepJobs forgets the jobs that are switched off.
func (c *clusterState) keepJobs(names map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.jobs {
		if !names[name] {
			delete(c.jobs, name)
		}
	}
}

// storeFailed notes the last try's error, and says whether it is news. What was read before stays.
func (c *clusterState) storeFailed(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.storeErr == nil || c.storeErr.Error() != err.Error()
	c.storeErr = err
	return news
}

// storeAnswered notes what the last try read, and says whether it is news that the store answers.
func (c *clusterState) storeAnswered(h holding) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.storeErr != nil || !c.seen
	c.storeErr, c.seen, c.held = nil, true, h
	return news
}

func (c *clusterState) setMaxAge(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxAge = d
}

// keepChanges is the state of the change log, made when it is new; nil when none is recorded.
func (c *clusterState) keepChanges(records bool) *changesState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !records {
		c.changes = nil
		c.demands.clear()
		return nil
	}
	if c.changes == nil {
		c.changes = newChangesState()
	}
	return c.changes
}

// keepHealth is the state of the members' health, made when it is new; nil when nobody looks.
func (c *clusterState) keepHealth(watched bool) *healthState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !watched {
		c.health = nil
	} else if c.health == nil {
		c.health = newHealthState()
	}
	return c.health
}

func (c *clusterState) watched() *healthState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

// countStoreError counts an error of the store by its kind.
func (c *clusterState) countStoreError(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.storeErrs[kind]++
}

func (j *jobState) setNext(t time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next = t
}

func (j *jobState) start() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running = time.Now()
}

func (j *jobState) idle() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running = time.Time{}
}

// succeed notes the end of work that this daemon did itself.
func (j *jobState) succeed(took time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running, j.lastErr, j.notAllowed = time.Time{}, nil, ""
	j.lastSuccess, j.seconds = time.Now(), took.Seconds()
}

// settled notes that somebody did the tick.
func (j *jobState) settled() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastErr = nil
}

func (j *jobState) fail(reason string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running, j.lastErr = time.Time{}, err
	j.failures[reason]++
}

// deny notes that the credentials may not do the job, and says whether that is news. A success and a reload forget it.
func (j *jobState) deny(why string) (news bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	news = j.notAllowed == ""
	j.running, j.lastErr, j.notAllowed = time.Time{}, nil, why
	return news
}

func (j *jobState) allow() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notAllowed = ""
}
