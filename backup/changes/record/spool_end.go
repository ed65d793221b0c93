package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/atomicfile"
)

// The spool's end is a mark as in the store (repo.Recorded), beside the spooled segments: what the next process recognises the history by when
// the store does not answer, or knows less than the spool.
const (
	spoolEndName   = "end.json"
	spoolEndKind   = "spooled"
	spoolEndFormat = 1
)

// spoolEnd is what is known of the end of what was spooled. Its fields belong to the queue.
type spoolEnd struct {
	mark repo.Recorded
	told bool // the store's mark says as much
}

// readEnd takes over the end that an earlier process noted. One that cannot be read is as good as none: then nothing is proven.
func (q *queue) readEnd() {
	path := filepath.Join(q.dir, spoolEndName)
	doc, err := os.ReadFile(path)
	if err == nil {
		err = repo.Unseal(spoolEndKind, spoolEndFormat, doc, &q.end.mark)
	}
	if err != nil {
		q.end.mark = repo.Recorded{}
		if !errors.Is(err, fs.ErrNotExist) {
			q.log.Warn("the end of the spool cannot be read", "file", path, "error", err)
		}
	}
}

// writeEnd makes the end durable. Without it the next process demands a full snapshot, so a failure is no reason to stop.
func (q *queue) writeEnd(mark repo.Recorded) {
	if q.end.mark.Ended != "" && q.end.mark.Timeline == mark.Timeline && mark.Ended == "" {
		return // what is spooled now came before the end
	}
	q.end.mark, q.end.told = mark, false
	doc, err := repo.Seal(spoolEndKind, spoolEndFormat, mark)
	if err == nil {
		err = atomicfile.Write(filepath.Join(q.dir, spoolEndName), doc, 0o600)
	}
	if err != nil {
		q.log.Warn("the end of the spool is not noted", "error", err)
	}
}

// tidyEnd removes the end when there is nothing that it is the end of, and the store knows as much: what was spooled may be stored before anybody has looked
// whether the history is still the same.
func (q *queue) tidyEnd() {
	if len(q.items) > 0 || !q.end.told || (q.end.mark.Timeline == repo.Timeline{}) {
		return
	}
	q.end.mark = repo.Recorded{}
	if err := os.Remove(filepath.Join(q.dir, spoolEndName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Warn("the end of an empty spool stays", "error", err)
	}
}

// ended notes in the spool that a timeline has ended; told says that the store knows.
func (q *queue) ended(mark repo.Recorded, told bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !told || len(q.items) > 0 {
		q.writeEnd(mark)
	}
	q.end.told = told
	q.tidyEnd()
}

// marked notes that the store has a mark.
func (q *queue) marked(rec repo.Recorded) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rec.Timeline != q.end.mark.Timeline || rec.Check >= q.end.mark.Check {
		q.end.told = true
		q.tidyEnd()
	}
}

// endOf is the mark of the spool's end, if it is of the timeline.
func (q *queue) endOf(t repo.Timeline) (repo.Recorded, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end.mark, q.end.mark.Timeline == t
}

// hold keeps what is recorded from now on out of the store, until release or discard.
func (q *queue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = true
}

// held is the timeline of what is held back, and its revisions.
func (q *queue) held() (t repo.Timeline, first, last repo.Revision) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.items {
		if s.held {
			if t, last = s.seg.Timeline, max(last, s.seg.Last); first == 0 {
				first = s.seg.First
			}
		}
	}
	return t, first, last
}

// release lets what was held back into the store.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = false
	for _, s := range q.items {
		s.held = false
	}
	q.notify()
}

// discard gives up what was held back: it may be of another history than its timeline's. Its files stay for a person to look at.
func (q *queue) discard() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spill()
	var left []*sealed
	var failed error
	for _, s := range q.items {
		if s.held && s.data == nil {
			if err := s.setAside(); err != nil {
				failed = errors.Join(failed, err)
			} else {
				q.count(s, -1)
				continue
			}
		}
		left = append(left, s)
	}
	q.items = left
	if failed == nil {
		q.holding = false
	}
	q.settle()
	q.tidyEnd()
	q.notify()
	if failed == nil && q.stuck {
		return errors.New("what is held back cannot be spooled")
	}
	return failed
}
