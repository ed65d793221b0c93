package record

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
)

// digest draws the conclusions from how a session ended; what it returns is why recording is interrupted.
func (r *Recorder) digest(ctx context.Context, m *member, err error) error {
	if ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail.rollback()
	r.late = false
	r.wake()
	var compacted *watch.CompactedError
	var hole *holeError
	var repeat *repeatError
	var other *otherHistoryError
	var ended *endedError
	var behind *behindError
	var stalled *stallError
	switch {
	case errors.As(err, &compacted):
		return cmp.Or(r.compacted(ctx, m, compacted.Compacted), err)
	case errors.As(err, &hole):
		if r.known.faults++; r.known.faults < faultsMax {
			return err
		}
		return cmp.Or(r.gap(hole.Next-1, GapMissing, "the member has no events of them", true), err)
	case errors.As(err, &repeat):
		if r.known.faults++; r.known.faults < faultsMax {
			return err
		}
		return cmp.Or(r.skip(ctx, m, r.tail.have+1, GapRepeated, "the member repeats events and gives no others"), err)
	case errors.As(err, &other):
		return cmp.Or(r.otherHistory(ctx, m, other.Revision), err)
	case errors.As(err, &ended):
		r.end(ctx, ended.why)
	case errors.Is(err, watch.ErrTooLarge):
		r.known.large = true
		return errAgain
	case errors.As(err, &stalled):
		r.known.stalls++
	case errors.As(err, &behind):
		return cmp.Or(r.skip(ctx, m, r.tail.have+1, GapBehind, "the recorder was too far behind; a full snapshot holds those since its compaction"), err)
	}
	return err
}

// faultsMax is how many watches in a row must leave revisions out before they are given up.
const faultsMax = 3

// endedError ends a session because the timeline has ended.
type endedError struct{ why string }

func (e *endedError) Error() string { return e.why }

// compacted goes on where history begins now.
func (r *Recorder) compacted(ctx context.Context, m *member, at repo.Revision) error {
	have := r.tail.have
	if at <= have+1 {
		if r.known.check.Revision > 0 {
			r.unproven(at)
		}
		r.known.check, r.known.plain = fingerprint{}, true
		return nil
	}
	return r.skip(ctx, m, at, GapCompacted, fmt.Sprintf("history was compacted at %d before they were recorded", at))
}

// skip gives revisions up and goes on at the newest snapshot, if that is at least at `at` and near enough, or else at the cluster's newest revision,
// which takes a snapshot.
func (r *Recorder) skip(ctx context.Context, m *member, at repo.Revision, reason GapReason, why string) error {
	rev, _, err := m.now(ctx)
	if err != nil {
		return err
	}
	rev = max(rev, at)
	if c, err := r.o.Repo.Catalog(ctx); err == nil {
		if s := newestSnapshot(c, r.known.timeline).Revision; s >= at && s <= rev && rev-s <= r.o.CatchUpMax {
			return r.gap(s, reason, why, false)
		}
	}
	return r.gap(rev, reason, why, true)
}

// behindError says that the watch is so far behind that catching up would harm the member.
type behindError struct{ have, now repo.Revision }

func (e *behindError) Error() string {
	return fmt.Sprintf("%d revisions behind, more than etcd can give without harm", e.now-e.have)
}

// tooFar says whether the log is too far behind to be continued by a watch.
func (r *Recorder) tooFar(m *member) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.rev-r.tail.have > r.o.CatchUpMax {
		return &behindError{r.tail.have, m.rev}
	}
	return nil
}

// gap gives up the revisions up to `to` and goes on behind them.
func (r *Recorder) gap(to repo.Revision, reason GapReason, why string, needFull bool) error {
	if err := r.seal(); err != nil {
		return err
	}
	g := repo.RecordedGap{From: r.tail.have + 1, To: to, Reason: why, Time: time.Now().UTC()}
	if err := r.tail.restart(to); err != nil {
		return err
	}
	r.queue.skip(to)
	k := &r.known
	k.check, k.plain, k.faults, k.highest = fingerprint{}, false, 0, max(k.highest, to)
	k.gaps = append(k.gaps, g)[max(0, len(k.gaps)+1-gapsMax):]
	r.signal(Signal{
		Kind: SignalGap, NeedFull: needFull, Timeline: k.timeline, From: g.From, To: g.To, Reason: reason,
		Text: fmt.Sprintf("revisions %d to %d are not recorded: %s", g.From, g.To, why),
	})
	return nil
}

// gapsMax is how many gaps a recorder remembers for its mark.
const gapsMax = 32

// otherHistory decides what it means that a recorded revision holds other events now.
func (r *Recorder) otherHistory(ctx context.Context, m *member, rev repo.Revision) error {
	// At the very revision of a compaction, events may be missing (etcd before 3.5.18), and nothing follows from it.
	held, err := m.holds(ctx, rev-1)
	if err != nil {
		return err
	}
	if !held {
		r.unproven(rev)
		r.known.check, r.known.plain = fingerprint{}, true
		return nil
	}
	r.end(ctx, fmt.Sprintf("revision %d holds other events than were recorded: the history was cut and has grown past it", rev))
	return nil
}

// unproven demands a snapshot since nothing shows that the log goes on where it ended.
func (r *Recorder) unproven(compacted repo.Revision) {
	r.unsure = true
	r.signal(Signal{
		Kind: SignalUnproven, NeedFull: true, Timeline: r.known.timeline,
		Text: fmt.Sprintf("revision %d, which was noted to recognise the history by, is compacted at %d: a full snapshot makes sure", r.known.check.Revision, compacted),
	})
}
