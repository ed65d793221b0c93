package record

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
)

// session is one watch on one member, and what goes on beside it.
type session struct {
	r      *Recorder
	m      *member
	stream *watch.Stream
	from   repo.Revision
	stall  time.Duration
	cancel context.CancelCauseFunc
	heard  atomic.Int64 // Unix nanoseconds of the last message
	// prompt says that the member answers requests for progress: it does not while the watch begins behind its newest revision.
	prompt atomic.Bool
	leased chan struct{} // an event came with a lease
}

// session watches until something ends it, which it returns.
func (r *Recorder) session(ctx context.Context, m *member) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	from, check := r.start()
	r.tail.resume(from, check)
	r.late = false
	r.wake()
	whole := r.whole
	if r.known.large {
		whole = 0
	}
	stall := r.o.Stall << min(r.known.stalls, stallDoublings)
	r.mu.Unlock()
	stream, err := watch.Open(ctx, m.cli.ActiveConnection(), watch.Options{From: from, Whole: whole})
	if err != nil {
		return err
	}
	s := &session{r: r, m: m, stream: stream, from: from, stall: stall, cancel: cancel, leased: make(chan struct{}, 1)}
	s.heard.Store(time.Now().UnixNano())
	r.status.set(func(st *Status) { st.State, st.Problem = Recording, "" })
	r.o.Log.Info("recording", "endpoint", m.Endpoint, "version", m.Version, "from", int64(from))
	var wg sync.WaitGroup
	wg.Go(func() { s.pace(ctx) })
	wg.Go(func() { s.await(ctx) })
	wg.Go(func() { s.lookAtLeases(ctx) })
	wg.Go(func() { s.lookAtAuth(ctx) })
	wg.Go(func() { s.proofs(ctx) })
	err = s.receive()
	cancel(err)
	stream.Close()
	wg.Wait()
	// What ended the session may have been one of the others.
	return context.Cause(ctx)
}

func (s *session) receive() error {
	for {
		resp, err := s.stream.Next()
		if err != nil {
			return err
		}
		now := time.Now()
		s.heard.Store(now.UnixNano())
		if resp.Created {
			s.prompt.Store(s.from <= resp.Revision)
		}
		leased, err := s.r.take(resp, now)
		if err != nil {
			return err
		}
		if leased {
			select {
			case s.leased <- struct{}{}:
			default:
			}
		}
	}
}

// take records one message; leased says that there are leases to be asked for.
func (r *Recorder) take(resp *watch.Response, now time.Time) (leased bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.takeLocked(resp, now)
	return len(r.tail.leases) > 0, err
}

func (r *Recorder) takeLocked(resp *watch.Response, now time.Time) error {
	k := &r.known
	if resp.ClusterID != k.timeline.Cluster {
		return &endedError{fmt.Sprintf("the cluster ID changed from %s to %s", k.timeline.Cluster, resp.ClusterID)}
	}
	if resp.Progress() && !trustProgress(k.version) {
		return nil
	}
	before, empty := r.tail.have, r.tail.empty()
	if err := r.tail.response(resp, now); err != nil {
		return err
	}
	if r.tail.have == before {
		return nil
	}
	k.highest, k.plain, k.large, k.stalls = max(k.highest, r.tail.have), false, false, 0
	if k.faults > 0 {
		k.faults = 0
		r.status.set(func(s *Status) { s.Healed++ })
		r.signal(Signal{Kind: SignalHealed, Timeline: k.timeline, From: before + 1, To: r.tail.have, Text: fmt.Sprintf("another watch gave what a faulty one had left out, from revision %d", before+1)})
	}
	r.status.set(func(s *Status) { s.Received = r.tail.have })
	if empty {
		r.wake()
		if r.queue.full() {
			return errFull
		}
	}
	if r.tail.halfway() || !r.late && r.tail.length < r.o.SegmentSize {
		return nil
	}
	return r.sealAndLook()
}

// sealAndLook closes the segment; errFull says that there is no room for another. The caller holds mu.
func (r *Recorder) sealAndLook() error {
	if err := r.seal(); err != nil {
		return err
	}
	if r.queue.full() {
		return errFull
	}
	return nil
}

// wake tells the flusher that the open segment has its first event.
func (r *Recorder) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// flush closes segments whose first change has waited for long enough, until ctx ends. A segment that cannot be closed stays
// open and is tried again; a session that finds it too long ends.
func (r *Recorder) flush(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		pause := time.Duration(-1)
		if !r.tail.empty() && !r.late {
			pause = time.Until(r.tail.since.Add(r.o.Flush))
		}
		if !r.tail.empty() && pause <= 0 {
			if r.late = r.tail.halfway(); !r.late {
				if err := r.seal(); err != nil {
					r.o.Log.Error("a segment cannot be closed", "error", err)
					pause = r.o.Flush
				} else {
					pause = -1
				}
			}
		}
		r.mu.Unlock()
		r.pause(ctx, pause)
	}
}

// pause waits for a time, or, when it is negative, for the next segment's first event.
func (r *Recorder) pause(ctx context.Context, d time.Duration) {
	if d >= 0 {
		sleep(ctx, d)
		return
	}
	select {
	case <-r.kick:
	case <-ctx.Done():
	}
}

// pace asks the member, through a quorum, for the newest revision, and the watch for its progress: so an idle cluster is told from a dead watch, a member
// that is cut off from one that has nothing to say, and a history that went back from one that goes on.
func (s *session) pace(ctx context.Context) {
	tick := time.NewTicker(s.r.o.Progress)
	defer tick.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if why := suspect(s.m.Version); why != "" {
			s.r.suspect(why)
		}
		behind, err := s.ask(ctx)
		if err == nil {
			answered = time.Now()
			err = s.stream.RequestProgress()
		}
		silent := time.Since(time.Unix(0, s.heard.Load()))
		switch {
		case err == nil && (silent < s.stall || !behind && !s.prompt.Load()):
		case err == nil:
			s.cancel(&stallError{s.m.Endpoint, silent})
		case isFinal(err) || time.Since(answered) > s.stall:
			s.cancel(err)
		}
	}
}

// stallError says that a watch is silent although its member has something to say.
type stallError struct {
	endpoint string
	silent   time.Duration
}

func (e *stallError) Error() string {
	return fmt.Sprintf("the watch on %s has said nothing for %s", e.endpoint, e.silent.Round(time.Second))
}

// stallDoublings is how often the patience with a silent member is doubled: a member may need long for the first message of a watch that is behind, and
// begins anew with it when the watch does.
const stallDoublings = 4

// isFinal says whether an answer ends the session, where a question that failed is asked again.
func isFinal(err error) bool {
	var ended *endedError
	var behind *behindError
	return errors.As(err, &ended) || errors.As(err, &behind)
}

// ask compares the cluster's newest revision with what was recorded; behind says that the watch has something to say.
func (s *session) ask(ctx context.Context) (behind bool, err error) {
	r := s.r
	r.mu.Lock()
	have, term := r.tail.have, r.known.term
	r.mu.Unlock()
	at := time.Now()
	m := *s.m
	if m.rev, m.term, err = s.m.now(ctx); err != nil {
		return false, err
	}
	switch {
	case m.rev < have:
		return false, &endedError{fmt.Sprintf("the cluster's revision went back from %d to %d", have, m.rev)}
	case m.term < term:
		return false, &endedError{fmt.Sprintf("the cluster's raft term went back from %d to %d", term, m.term)}
	case m.rev-have > r.o.CatchUpMax:
		return true, &behindError{have, m.rev}
	}
	r.queue.saw(m.rev, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known.highest, r.known.term = max(r.known.highest, m.rev), max(r.known.term, m.term)
	r.status.set(func(st *Status) { st.Heard = time.Unix(0, s.heard.Load()) })
	return m.rev > r.tail.have, nil
}

// suspect demands a full snapshot now and then while the server's version is known to lose events.
func (r *Recorder) suspect(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.known.suspect) < r.o.SuspectEvery {
		return
	}
	r.known.suspect = time.Now()
	r.signal(Signal{
		Kind: SignalSuspect, NeedFull: true, Timeline: r.known.timeline,
		Text: fmt.Sprintf("etcd %s is known for a watch with %s: until it is upgraded, full snapshots make up for it", r.known.version, why),
	})
}
