package record

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// checkMax is how many revisions are read again to compare the one that was noted, rather than none.
const checkMax = 100000

// locate finds out where the log ends, and whether the cluster goes on from there. After the first time it only looks whether the cluster
// still does, unless the store did not answer then.
func (r *Recorder) locate(ctx context.Context, m *member) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known.located {
		if why := r.contradiction(m); why != "" {
			r.end(ctx, why)
		}
	}
	if r.known.located && !r.known.away {
		return nil
	}
	c, t, rec, err := r.look(ctx, m)
	var final *refusedError
	switch {
	case errors.As(err, &final):
		return err
	case err != nil && r.known.located:
		return nil // it goes on without the store
	case err != nil:
		return r.fromSpool(ctx, m, err)
	}
	// Another recorder may have got further than the cluster was when we connected.
	if m.rev, m.term, err = m.now(ctx); err != nil {
		return err
	}
	if err := r.seal(); err != nil {
		return err
	}
	if err := r.settle(ctx, m, t, rec); err != nil {
		return err
	}
	if r.ended != nil && r.ended.Timeline == t && rec.Ended == "" {
		rec.Ended = r.ended.Ended
		if err := r.o.Repo.PutRecorded(ctx, *r.ended); err != nil {
			return err
		}
		r.queue.ended(*r.ended, true)
	}
	if rec.Ended != "" {
		t.Cut++
		return r.begin(ctx, t, m)
	}
	return r.find(ctx, m, c, t, rec)
}

// look asks the store which timeline the cluster is on, and how far its log has come.
func (r *Recorder) look(ctx context.Context, m *member) (c *repo.Catalog, t repo.Timeline, rec repo.Recorded, err error) {
	if err = r.o.Repo.Admit(ctx, m.ClusterID, time.Now()); err != nil {
		if fail.ExitCode(err) == fail.Unsafe {
			err = &refusedError{err}
		}
		return c, t, rec, err
	}
	if c, err = r.o.Repo.Catalog(ctx); err != nil {
		return c, t, rec, err
	}
	t = newestTimeline(c, m.ClusterID)
	if waits, _ := r.queue.newest(m.ClusterID); waits.Cut > t.Cut {
		t = waits
	}
	rec, _, err = r.o.Repo.Recorded(ctx, t)
	return c, t, rec, err
}

// find takes up the timeline's log where the store and the spool end.
func (r *Recorder) find(ctx context.Context, m *member, c *repo.Catalog, t repo.Timeline, rec repo.Recorded) (err error) {
	waiting := r.queue.of(t)
	segs := append(slices.Clone(waiting), c.SegmentsOf(t)...)
	have := r.snapshotted(ctx, c, t, &rec)
	if len(segs) > 0 {
		if have, err = r.behindGap(ctx, m, t, lastOf(segs), rec); err != nil {
			return err
		}
	}
	if have == 0 {
		return r.begin(ctx, t, m)
	}
	switch {
	case len(segs) == 0:
		have, err = r.again(ctx, t, have, m, rec)
	case r.known.located && r.known.away && r.known.timeline == t && r.tail.have >= have:
		have, r.known.away = r.tail.have, false
		r.known.from, r.known.highest, r.known.term = cmp.Or(rec.From, r.known.from), max(r.known.highest, rec.Highest), max(r.known.term, rec.RaftTerm)
	default:
		rec = r.fromEnd(rec, t)
		if err = r.goOn(t, have, m, rec); err == nil && len(waiting) > 0 && lastOf(waiting) == have && lastOf(c.SegmentsOf(t)) < have && r.known.check.Revision != have {
			r.unnoted(have)
		}
	}
	if err != nil {
		return err
	}
	ws := cover.Windows(cover.Snapshots(c), segs)
	if !slices.ContainsFunc(ws, func(w cover.Window) bool { return w.Timeline == t && w.To >= have }) {
		r.signal(Signal{Kind: SignalFirst, NeedFull: true, Timeline: t, To: have, Text: fmt.Sprintf("no full snapshot leads to revision %d, at which the change log goes on: one must follow", have)})
	}
	if why := r.contradiction(m); why != "" {
		r.end(ctx, why)
		return errors.New(why) // locate again, on the next timeline
	}
	return nil
}

// behindGap is where a log goes on that ends before a gap which was noted, when etcd can no longer give what it lacks; else it ends where it did, and the gap is
// filled.
func (r *Recorder) behindGap(ctx context.Context, m *member, t repo.Timeline, have repo.Revision, rec repo.Recorded) (repo.Revision, error) {
	to := have
	gaps := append(slices.Clone(rec.Gaps), r.unreported(t)...)
	slices.SortFunc(gaps, func(a, b repo.RecordedGap) int { return cmp.Compare(a.From, b.From) })
	for _, g := range gaps {
		if g.From <= to+1 && g.To > to {
			to = g.To
		}
	}
	if to == have || m.rev < to {
		return have, nil
	}
	if m.rev-have > r.o.CatchUpMax {
		return to, nil
	}
	held, err := m.holds(ctx, have+1)
	if err != nil || held {
		return have, err
	}
	return to, nil
}

// lastOf is the last revision that segments hold; 0 when there are none.
func lastOf(segs []repo.Segment) (last repo.Revision) {
	for _, s := range segs {
		last = max(last, s.Last)
	}
	return last
}

// again begins a log of which nothing is stored: where it was begun before, if it was, or else behind the newest snapshot.
func (r *Recorder) again(ctx context.Context, t repo.Timeline, snapshot repo.Revision, m *member, rec repo.Recorded) (have repo.Revision, err error) {
	have = snapshot
	begun := rec.From
	if begun > 0 && begun < have && rec.Through <= begun {
		have = begun
	}
	rec.From = have
	if err := r.goOn(t, have, m, rec); err != nil || have == begun {
		return have, err
	}
	return have, r.note(ctx)
}

// goOn takes up a log that ends at have.
func (r *Recorder) goOn(t repo.Timeline, have repo.Revision, m *member, rec repo.Recorded) error {
	if err := r.tail.restart(have); err != nil {
		return err
	}
	r.known = knowledge{
		located: true, timeline: t, check: fingerprint{rec.Check, rec.CheckSHA256}, term: rec.RaftTerm, auth: rec.AuthRevision, authSeen: rec.AuthRevision > 0,
		highest: max(rec.Highest, have), from: rec.From, gaps: r.unreported(t), suspect: r.known.suspect, version: m.Version,
	}
	if c := r.known.check.Revision; c == 0 || c > have || have-c > checkMax {
		r.known.check = fingerprint{}
	}
	r.notes, r.book.listed = notes{}, time.Time{} // leases that were in the notes alone are listed again
	r.queue.restart(t, have)
	r.status.set(func(s *Status) {
		s.Timeline, s.Received, s.Stored, s.Through, s.ThroughTime = t, have, 0, 0, time.Time{}
	})
	return nil
}

// unreported are the gaps that an earlier process noted in the spool, perhaps only there.
func (r *Recorder) unreported(t repo.Timeline) []repo.RecordedGap {
	end, ok := r.queue.endOf(t)
	if !ok {
		return nil
	}
	return slices.Clone(end.Gaps)
}

// begin starts the log of a timeline on which nothing has been recorded, at the cluster's newest revision. Its mark is written at once: it tells
// whoever takes the snapshot that is needed now which timeline this is (repo.NextTimeline).
func (r *Recorder) begin(ctx context.Context, t repo.Timeline, m *member) error {
	if err := r.goOn(t, m.rev, m, repo.Recorded{From: m.rev}); err != nil {
		return err
	}
	if err := r.note(ctx); err != nil {
		return err
	}
	r.signal(Signal{
		Kind: SignalFirst, NeedFull: true, Timeline: t, To: m.rev,
		Text: fmt.Sprintf("the change log of timeline %s begins behind revision %d: a full snapshot must follow", t, m.rev),
	})
	return nil
}

// note writes the mark before anything is recorded; without it, locate begins anew.
func (r *Recorder) note(ctx context.Context) error {
	r.known.located = false
	if err := r.o.Repo.PutRecorded(ctx, r.recorded()); err != nil {
		return err
	}
	r.known.located = true
	return nil
}

// contradiction says why the cluster cannot be the one that was recorded; "" if it may be.
func (r *Recorder) contradiction(m *member) string {
	k := &r.known
	switch {
	case m.ClusterID != k.timeline.Cluster:
		return fmt.Sprintf("the cluster ID changed from %s to %s", k.timeline.Cluster, m.ClusterID)
	case m.rev < r.tail.have:
		return fmt.Sprintf("the cluster's revision went back from %d to %d", r.tail.have, m.rev)
	case m.term < k.term:
		return fmt.Sprintf("the cluster's raft term went back from %d to %d", k.term, m.term)
	}
	k.term, k.highest, k.version = max(k.term, m.term), max(k.highest, m.rev), m.Version
	return ""
}

// end closes the timeline: what the cluster writes now is another history. The next locate begins its log.
func (r *Recorder) end(ctx context.Context, why string) {
	rec := r.recorded()
	rec.Ended = why
	r.tail.rollback()
	if err := r.seal(); err != nil {
		r.o.Log.Error("the end of a timeline is lost", "error", err)
	}
	r.known.located, r.known.away, r.ended = false, false, &rec
	err := r.o.Repo.PutRecorded(ctx, rec)
	r.queue.ended(rec, err == nil)
	if err != nil {
		// The next locate does it, before anything else.
		r.o.Log.Error("the end of a timeline is not noted", "error", err)
	}
	r.signal(Signal{Kind: SignalEnded, NeedFull: true, Timeline: rec.Timeline, Text: "timeline " + rec.Timeline.String() + " has ended: " + why})
}

// newestTimeline is the cluster's, as snapshots, segments and recorders' marks tell.
func newestTimeline(c *repo.Catalog, id repo.ClusterID) repo.Timeline {
	t := repo.Timeline{Cluster: id, Cut: max(1, c.CutOf(id))}
	if e, ok := c.NewestOf(id); ok {
		t.Cut = max(t.Cut, e.Timeline.Cut)
	}
	return t
}

// newestSnapshot is the timeline's complete snapshot of the highest revision; that is 0 if there is none.
func newestSnapshot(c *repo.Catalog, t repo.Timeline) (newest repo.Entry) {
	for _, e := range c.Backups() {
		if e.Timeline == t && e.Revision > newest.Revision {
			newest = e
		}
	}
	return newest
}

// snapshotted is the newest snapshot's revision. Its auth revision is what a change is measured by, since it is what would be restored.
func (r *Recorder) snapshotted(ctx context.Context, c *repo.Catalog, t repo.Timeline, rec *repo.Recorded) repo.Revision {
	e := newestSnapshot(c, t)
	if e.Revision == 0 {
		return 0
	}
	m, err := r.o.Repo.Manifest(ctx, e)
	if err != nil {
		r.o.Log.Warn("the newest snapshot's manifest cannot be read", "snapshot", string(e.ID), "error", err)
		return e.Revision
	}
	rec.AuthRevision, rec.RaftTerm = m.Database.AuthRevision, max(rec.RaftTerm, m.Source.RaftTerm)
	return e.Revision
}

// start is the revision to watch from, and what to compare on the way. It begins at one that is recorded, so that the watch shows
// whether the history is still the same, and so that etcd answers requests for progress at once.
func (r *Recorder) start() (repo.Revision, fingerprint) {
	switch k := &r.known; {
	case k.plain:
		return r.tail.have + 1, fingerprint{}
	case k.check.Revision > 0 && k.check.Revision <= r.tail.have:
		return k.check.Revision, k.check
	}
	return max(1, r.tail.have), fingerprint{}
}

// recorded is the mark of this moment.
func (r *Recorder) recorded() repo.Recorded {
	k := &r.known
	through, at := r.queue.through()
	return repo.Recorded{
		Timeline: k.timeline, Highest: max(k.highest, r.tail.have), Through: through, Time: at.UTC(), From: k.from, RaftTerm: k.term, AuthRevision: k.auth,
		Check: k.check.Revision, CheckSHA256: k.check.SHA256, Gaps: k.gaps, Host: r.o.Host, Steward: steward(),
	}
}
