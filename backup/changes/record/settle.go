package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
)

// fromSpool goes on without the store when the spool says where. What is recorded so is held back until the store says that it belongs there.
func (r *Recorder) fromSpool(ctx context.Context, m *member, err error) error {
	t, have := r.queue.newest(m.ClusterID)
	if have == 0 || r.ended != nil && r.ended.Timeline == t {
		return err
	}
	end, _ := r.queue.endOf(t)
	r.o.Log.Warn("the store does not answer; recording goes on where the spool ends", "timeline", t.String(), "revision", int64(have), "error", err)
	if err := r.goOn(t, have, m, end); err != nil {
		return err
	}
	if _, first, _ := r.queue.held(); first == 0 {
		r.unsure = false
	}
	r.known.away = true
	r.queue.hold()
	if why := r.contradiction(m); why != "" {
		r.end(ctx, why)
		return fmt.Errorf("%s, and the store does not answer: %w", why, err)
	}
	if r.known.check.Revision != have {
		r.unnoted(have)
	}
	return nil
}

// unnoted demands a snapshot since the spool does not say what its last revision held.
func (r *Recorder) unnoted(have repo.Revision) {
	r.unsure = true
	r.signal(Signal{
		Kind: SignalUnproven, NeedFull: true, Timeline: r.known.timeline, To: have,
		Text: fmt.Sprintf("what revision %d held, where the spool ends, was not noted: nothing shows that the log goes on there, and a full snapshot makes sure", have),
	})
}

// fromEnd takes into a mark what the spool's end knows better. What the store knows of a later revision was recorded by somebody else.
func (r *Recorder) fromEnd(rec repo.Recorded, t repo.Timeline) repo.Recorded {
	end, ok := r.queue.endOf(t)
	if !ok {
		return rec
	}
	if end.Check >= rec.Check {
		rec.Check, rec.CheckSHA256 = end.Check, end.CheckSHA256
	}
	rec.RaftTerm, rec.Highest = max(rec.RaftTerm, end.RaftTerm), max(rec.Highest, end.Highest)
	return rec
}

// settle decides, when the store answers, about what was recorded without it: it goes into the store when nothing says that the cluster's history is not
// that of the timeline.
func (r *Recorder) settle(ctx context.Context, m *member, newest repo.Timeline, rec repo.Recorded) error {
	t, first, last := r.queue.held()
	if first == 0 {
		r.queue.release()
		return nil
	}
	ended := r.ended != nil && r.ended.Timeline == t
	why := ""
	switch {
	case newest != t:
		why = "the store holds a newer timeline, " + newest.String()
	case rec.Ended != "" && !ended:
		why = "the store says that the timeline has ended: " + rec.Ended
	case ended && r.unsure:
		why = "the timeline has ended, and nothing shows that they are of it"
	case ended: // they came before
	default:
		var err error
		if why, err = r.against(ctx, m, rec); err != nil {
			return err
		}
		if why != "" {
			r.end(ctx, why)
		}
	}
	if why == "" {
		r.o.Log.Info("the store answers, and what was recorded without it belongs to its timeline", "timeline", t.String(), "from", int64(first), "to", int64(last))
		r.queue.release()
		return nil
	}
	if err := r.queue.discard(); err != nil {
		return err
	}
	r.signal(Signal{
		Kind: SignalUnproven, NeedFull: true, Timeline: t,
		Text: fmt.Sprintf("revisions %d to %d, which were recorded while the store did not answer, are not stored: %s; their files stay in the spool folder", first, last, why),
	})
	return nil
}

// against says why the cluster's history cannot be the one that the store's mark is of; "" if it may be.
func (r *Recorder) against(ctx context.Context, m *member, rec repo.Recorded) (string, error) {
	switch {
	case m.rev < rec.Highest:
		return fmt.Sprintf("the cluster's revision went back from %d to %d", rec.Highest, m.rev), nil
	case m.term < rec.RaftTerm:
		return fmt.Sprintf("the cluster's raft term went back from %d to %d", rec.RaftTerm, m.term), nil
	case rec.Check == 0 || rec.Check > m.rev || m.rev-rec.Check > checkMax:
		return "", nil
	}
	same, err := m.same(ctx, fingerprint{rec.Check, rec.CheckSHA256})
	if err != nil || same {
		return "", err
	}
	return fmt.Sprintf("revision %d holds other events than the store knows", rec.Check), nil
}

// sameTimeout bounds one comparison: a member may need long for the first message of a watch that is behind.
const sameTimeout = time.Minute

// same says whether a revision still holds what it held; also when that cannot be known because it is compacted.
func (m *member) same(ctx context.Context, f fingerprint) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sameTimeout)
	defer cancel()
	// Nothing is written beyond the revision's own message, so the buffer stays in memory.
	t := &tail{buf: buffer{limit: 2 * wholeMax}}
	if err := t.restart(f.Revision); err != nil {
		return false, err
	}
	// At the very revision of a compaction events may be missing (etcd before 3.5.18), and nothing follows from it.
	if held, err := m.holds(ctx, f.Revision-1); err != nil || !held {
		return true, err
	}
	stream, err := watch.Open(ctx, m.cli.ActiveConnection(), watch.Options{From: f.Revision})
	if err != nil {
		return false, err
	}
	defer stream.Close()
	t.resume(f.Revision, f)
	for t.check.Revision != 0 {
		resp, err := stream.Next()
		if err != nil {
			return false, fmt.Errorf("compare revision %d: %w", f.Revision, err)
		}
		if err := t.response(resp, time.Time{}); err != nil {
			var other *otherHistoryError
			if errors.As(err, &other) {
				return false, nil
			}
			return false, err
		}
	}
	return true, nil
}

// await ends the session when the store answers again, so that what was recorded without it is decided about.
func (s *session) await(ctx context.Context) {
	tick := time.NewTicker(s.r.o.Progress)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.r.mu.Lock()
		away, t := s.r.known.away, s.r.known.timeline
		s.r.mu.Unlock()
		if !away {
			return
		}
		if s.r.answers(ctx, t) {
			s.cancel(errAgain)
			return
		}
	}
}

// answers says whether the store can be asked.
func (r *Recorder) answers(ctx context.Context, t repo.Timeline) bool {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, _, err := r.o.Repo.Recorded(ask, t)
	return err == nil
}
