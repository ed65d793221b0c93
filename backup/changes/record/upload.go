package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// uploadMin and uploadRate bound one attempt at storing a segment: 30 s, and what a store needs that takes 256 KiB a second.
const (
	uploadMin  = 30 * time.Second
	uploadRate = 256 << 10
)

// upload stores segments, oldest first, until ctx ends, and keeps the mark.
func (r *Recorder) upload(ctx context.Context) {
	var failures int
	var marked time.Time
	for ctx.Err() == nil {
		changed := r.queue.watch()
		if s := r.queue.head(); s != nil {
			if err := r.store(ctx, s); err != nil {
				failures++
				r.status.set(func(st *Status) { st.UploadFailures++; st.UploadProblem = err.Error() })
				r.o.Log.Warn("a segment is not stored", "segment", s.seg.Key, "error", err)
				r.queue.fail()
				r.tellFull()
				sleep(ctx, backoff(failures))
				continue
			}
			failures = 0
			r.status.set(func(st *Status) { st.UploadProblem = "" })
		}
		r.publish()
		if time.Since(marked) >= r.o.MarkEvery {
			marked = time.Now()
			r.mark(ctx)
		}
		if r.queue.head() == nil {
			r.queue.wait(ctx, changed, min(r.o.MarkEvery, time.Second))
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	r.publish()
	r.mark(last)
}

// store puts one segment into the repository, once.
func (r *Recorder) store(ctx context.Context, s *sealed) error {
	src, closer, err := s.source()
	if err != nil {
		return r.unreadable(ctx, s, err)
	}
	ctx, cancel := context.WithTimeout(ctx, uploadMin+time.Duration(s.seg.Size/uploadRate)*time.Second)
	defer cancel()
	err = errors.Join(r.o.Repo.PutSegment(ctx, s.seg, src), closer.Close())
	intact, readErr := true, error(nil)
	if errors.Is(err, store.Damaged) || errors.Is(err, store.SourceFailed) {
		intact, readErr = s.intact()
	}
	switch {
	case readErr != nil:
		return r.unreadable(ctx, s, errors.Join(err, readErr))
	case errors.Is(err, store.Exists):
		// An earlier process stored it and ended before it could forget it; its name is random, so it is no other's.
		err = nil
	case !intact:
		return r.setAside(ctx, s, err)
	}
	if err != nil {
		return err
	}
	r.unread = 0
	if err := drop(r.queue.done()); err != nil {
		r.o.Log.Warn("a stored segment stays in the spool folder", "error", err)
	}
	r.status.set(func(st *Status) {
		st.Segments++
		st.Bytes += s.seg.Size
	})
	if !s.since.IsZero() {
		r.o.Stored(s.seg, time.Since(s.since))
	}
	return nil
}

// unreadMax is how often a segment's file must not be readable, in a quarter of a minute, before it is given up.
const unreadMax = 7

// unreadable gives up a segment whose file is gone, or has not been readable for some time: nothing behind it would ever be stored.
func (r *Recorder) unreadable(ctx context.Context, s *sealed, err error) error {
	if r.unread++; r.unread < unreadMax && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.setAside(ctx, s, err)
}

// setAside gives up a segment whose file is not what was written to it: a gap. The mark says so before anything says that the log is stored beyond it.
func (r *Recorder) setAside(ctx context.Context, s *sealed, why error) error {
	gap := repo.RecordedGap{From: s.seg.First, To: s.seg.Last, Reason: "their segment was damaged or lost in the spool folder", Time: time.Now().UTC()}
	mark := repo.Recorded{Timeline: s.seg.Timeline, Highest: s.seg.Last, Gaps: []repo.RecordedGap{gap}, Host: r.o.Host, Steward: steward()}
	if err := r.o.Repo.PutRecorded(ctx, mark); err != nil {
		return errors.Join(why, err)
	}
	if err := s.setAside(); err != nil {
		// It is found again by the next process, which reports the same gap.
		r.o.Log.Warn("a damaged segment stays in the spool folder", "error", err)
	}
	r.unread = 0
	r.queue.done()
	r.signal(Signal{
		Kind: SignalDamaged, NeedFull: true, Timeline: s.seg.Timeline, From: s.seg.First, To: s.seg.Last, Reason: GapDamaged,
		Text: fmt.Sprintf("revisions %d to %d are lost: their segment was damaged or lost in the spool folder (%v)", s.seg.First, s.seg.Last, why),
	})
	return nil
}

// tellFull says once that the spool is full.
func (r *Recorder) tellFull() {
	if !r.queue.full() {
		return
	}
	var told bool
	r.status.set(func(st *Status) { told, st.told = st.told, true })
	if !told {
		n, size := r.queue.waiting()
		r.signal(Signal{Kind: SignalFull, Text: fmt.Sprintf("the spool is full: %d segments of %d bytes wait for the store, and the watch is not read until it takes them", n, size)})
	}
}

// publish brings the status up to what is stored.
func (r *Recorder) publish() {
	through, at := r.queue.through()
	stored := r.queue.storedThrough()
	r.status.set(func(s *Status) {
		s.Stored, s.Through, s.ThroughTime, s.told = stored, through, at, s.told && r.queue.full()
	})
}

// mark writes repo.Recorded when there is something to say.
func (r *Recorder) mark(ctx context.Context) {
	r.mu.Lock()
	// Before it is known whose history was recorded, the mark must not say what its last revision holds.
	located, rec := r.known.located && !r.known.away, r.recorded()
	r.mu.Unlock()
	if !located {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, uploadMin)
	defer cancel()
	if err := r.o.Repo.PutRecorded(ctx, rec); err != nil {
		r.o.Log.Warn("the recorder's mark is not written", "error", err)
		return
	}
	r.queue.marked(rec)
}

// storedThrough is the last revision that is in the store with all before it.
func (q *queue) storedThrough() repo.Revision {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stored
}
