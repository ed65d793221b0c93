package record

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"etcd-steward/backup/repo"
)

// sealed is a segment that is not in the store yet: in memory, or in a file of the spool folder.
type sealed struct {
	seg   repo.Segment
	sum   [sha256.Size]byte
	data  []byte // nil when it is in a file
	path  string
	since time.Time     // when its first change came; zero when an earlier process recorded it
	end   repo.Recorded // what the log was known by at its end
	held  bool          // must not be stored before it is known that it belongs to its timeline
}

// moment is a revision that was the cluster's newest at a time.
type moment struct {
	rev repo.Revision
	at  time.Time
}

const (
	// memMax is how much waits in memory before segments go to the spool folder. A store that answers needs no disk.
	memMax = 16 << 20
	// momentsMax bounds how many moments wait for the segments that hold them.
	momentsMax = 64
)

// queue holds sealed segments until they are stored, oldest first. While the store takes them they stay in memory; when it does not,
// they go to the spool folder, so that the end of the process loses none.
type queue struct {
	dir  string
	lock *os.File // keeps other recorders out
	max  int64
	log  *slog.Logger

	mu        sync.Mutex
	items     []*sealed
	mem, disk int64
	failing   bool          // the last upload failed: new segments go to disk
	stuck     bool          // the disk does not take them: nothing more is read until an upload works
	timeline  repo.Timeline // of the log that is recorded now
	floor     repo.Revision // where it ends, apart from what waits
	stored    repo.Revision // everything of it up to here is in the store
	holding   bool          // what comes is held back
	end       spoolEnd
	moments   []moment
	covered   moment
	changed   chan struct{} // closed, and made anew, whenever anything here changes
}

func (q *queue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// add takes a segment over. It never blocks; full says when to stop.
func (q *queue) add(s *sealed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.held = q.holding
	q.count(s, 1)
	q.items = append(q.items, s)
	if s.data == nil {
		q.writeEnd(s.end)
	}
	if q.failing || q.holding || q.mem > memMax {
		q.spill()
	}
	q.notify()
}

// spill brings what is in memory to disk, the oldest first: at no moment does a file hold what follows a segment that is in memory, and would be lost
// without it.
func (q *queue) spill() {
	for _, s := range q.items {
		if s.data == nil {
			continue
		}
		q.count(s, -1)
		err := q.save(s)
		q.count(s, 1)
		if err != nil {
			return
		}
	}
}

// settleDisk is spill, before a segment is written straight to disk.
func (q *queue) settleDisk() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spill()
	q.notify()
	if q.stuck {
		return errors.New("the spool folder takes no more")
	}
	return nil
}

func (q *queue) count(s *sealed, sign int64) {
	if s.data != nil {
		q.mem += sign * s.seg.Size
	} else {
		q.disk += sign * s.seg.Size
	}
}

// head is the oldest segment as it is now; nil when there is none that may be stored.
func (q *queue) head() *sealed {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 || q.items[0].held {
		return nil
	}
	s := *q.items[0]
	return &s
}

// done takes the oldest segment out: it is in the store, or will never be. It says where its file is by now, if it has one.
func (q *queue) done() (path string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.items[0]
	q.items = q.items[1:]
	q.count(s, -1)
	q.failing, q.stuck = false, false
	if s.seg.Timeline == q.timeline {
		q.stored = s.seg.Last
	}
	q.settle()
	q.tidyEnd()
	q.notify()
	return s.path
}

// settle counts the floor as stored when nothing of the timeline waits.
func (q *queue) settle() {
	if !slices.ContainsFunc(q.items, func(s *sealed) bool { return s.seg.Timeline == q.timeline }) {
		q.stored = max(q.stored, q.floor)
	}
	q.cover()
}

// fail notes that the store did not take the oldest segment, and brings what is in memory to safety.
func (q *queue) fail() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failing = true
	q.spill()
	q.notify()
}

// save writes a segment to the spool folder; when that fails it stays in memory, and the queue counts as full.
func (q *queue) save(s *sealed) error {
	path, err := writeSpooled(q.dir, s)
	if err != nil {
		q.stuck = true
		q.log.Error("a segment cannot be spooled", "segment", s.seg.Key, "error", err)
		return err
	}
	s.path, s.data = path, nil
	q.writeEnd(s.end)
	return nil
}

// full says that no more should be read.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stuck || q.mem+q.disk >= q.max
}

// waitRoom waits until the queue is not full; while it is, waiting was called once.
func (q *queue) waitRoom(ctx context.Context, waiting func()) error {
	for first := true; ; first = false {
		q.mu.Lock()
		changed, full := q.changed, q.stuck || q.mem+q.disk >= q.max
		q.mu.Unlock()
		if !full {
			return nil
		}
		if first {
			waiting()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wait returns when the queue has changed, after a pause, or when ctx ends.
func (q *queue) wait(ctx context.Context, changed <-chan struct{}, pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// watch is closed at the next change.
func (q *queue) watch() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// finish gives the uploads of what is left a while. What is still there then is made safe.
func (q *queue) finish(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		changed := q.watch()
		q.mu.Lock()
		over := len(q.items) == 0 || q.items[0].held || q.failing
		q.mu.Unlock()
		if over {
			return
		}
		q.wait(ctx, changed, patience)
	}
	q.fail()
}

// restart says which log follows, and where it ends now.
func (q *queue) restart(t repo.Timeline, have repo.Revision) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.timeline, q.floor, q.stored, q.moments, q.covered = t, have, 0, nil, moment{}
	for i := len(q.items) - 1; i >= 0; i-- {
		if q.items[i].seg.Timeline == t {
			q.stored = q.items[i].seg.First - 1
		}
	}
	q.settle()
}

// skip says that the log goes on behind a gap.
func (q *queue) skip(to repo.Revision) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.floor = to
	q.settle()
}

// saw notes that rev was the cluster's newest revision at a time; it counts once everything up to it is stored.
func (q *queue) saw(rev repo.Revision, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.moments) == momentsMax {
		q.moments = q.moments[1:]
	}
	q.moments = append(q.moments, moment{rev, at})
	q.cover()
}

func (q *queue) cover() {
	for len(q.moments) > 0 && q.moments[0].rev <= q.stored {
		q.covered, q.moments = q.moments[0], q.moments[1:]
	}
}

// through is the newest moment whose past is in the store.
func (q *queue) through() (repo.Revision, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.covered.rev, q.covered.at
}

// waiting is the number of segments that are not stored, and their size.
func (q *queue) waiting() (n, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.items)), q.mem + q.disk
}

// of are the segments of a timeline that wait.
func (q *queue) of(t repo.Timeline) (segs []repo.Segment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.items {
		if s.seg.Timeline == t {
			segs = append(segs, s.seg)
		}
	}
	return segs
}

// newest is the end of what waits of a cluster, on its newest timeline.
func (q *queue) newest(id repo.ClusterID) (t repo.Timeline, rev repo.Revision) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.items {
		if s.seg.Timeline.Cluster == id && s.seg.Timeline.Cut >= t.Cut {
			t, rev = s.seg.Timeline, s.seg.Last
		}
	}
	return t, rev
}
