package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// readManifests reads the manifests of the timelines in question: how far back each snapshot reaches stands nowhere else. One that cannot be read is
// set aside; a store that does not answer is an error.
func (l *locator) readManifests(ctx context.Context) error {
	only := l.point.Timeline
	l.manifests, l.bad = map[repo.SnapshotID]*repo.Manifest{}, map[repo.SnapshotID]error{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, e := range l.catalog.Backups() {
		if only != (repo.Timeline{}) && e.Timeline != only {
			continue
		}
		g.Go(func() error {
			m, err := l.repo.Manifest(gctx, e)
			mu.Lock()
			defer mu.Unlock()
			if _, about := aboutObject(gctx, err); about {
				l.bad[e.ID] = err
				return nil
			}
			if err != nil {
				return err
			}
			l.manifests[e.ID] = m
			l.snaps = append(l.snaps, cover.Snapshot{Entry: e, Compact: m.Database.CompactRevision})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.windows = cover.Windows(l.snaps, l.catalog.Segments)
	return nil
}

// byTime resolves a time to the last revision at or before it.
func (l *locator) byTime(ctx context.Context) (*Located, error) {
	marks := l.nameMarks()
	at, line := l.point.Time, l.point.Timeline
	if !l.outside(marks) {
		more, err := l.segmentMarks(ctx)
		if err != nil {
			return nil, err
		}
		marks = append(marks, more...)
	}
	m, err := cover.Resolve(l.windows, marks, line, at, l.Now)
	if err != nil {
		return nil, err
	}
	out, err := l.cover(ctx, m.Timeline, m.Revision)
	if err != nil {
		return nil, err
	}
	out.At, out.Moment = m.Time, &m
	return out, nil
}

// nameMarks are what manifests, the recorders' notes and the names of segments say of times. A segment's last revision was the newest that its recorder had
// seen when it closed the segment; its name has the milliseconds of that, rounded down.
func (l *locator) nameMarks() []cover.Mark {
	var marks []cover.Mark
	for _, m := range l.manifests {
		marks = append(marks, cover.Mark{Timeline: m.Timeline, Revision: m.Database.Revision, Time: seenAt(m)})
	}
	for _, s := range l.catalog.Segments {
		marks = append(marks, cover.Mark{Timeline: s.Timeline, Revision: s.Last, Time: s.ID.Time().Add(time.Millisecond)})
	}
	for _, rec := range l.recorded {
		if !rec.Time.IsZero() {
			marks = append(marks, cover.Mark{Timeline: rec.Timeline, Revision: rec.Through, Time: rec.Time})
		}
	}
	return marks
}

// outsideBy is longer than a segment may have been open: whoever asks for a time further before everything stored is refused without a download.
const outsideBy = time.Hour

// outside says whether a time lies certainly before or behind all that was recorded, so that no segment needs to be read to know.
func (l *locator) outside(marks []cover.Mark) bool {
	var first, last time.Time
	for _, m := range marks {
		if first.IsZero() || m.Time.Before(first) {
			first = m.Time
		}
		if m.Time.After(last) {
			last = m.Time
		}
	}
	return l.point.Time.After(last) || l.point.Time.Before(first.Add(-outsideBy))
}

// segmentMarks reads the segments near the time.
func (l *locator) segmentMarks(ctx context.Context) ([]cover.Mark, error) {
	segs := l.catalog.Segments
	if line := l.point.Timeline; line != (repo.Timeline{}) {
		segs = l.catalog.SegmentsOf(line)
	}
	near := cover.Near(segs, l.point.Time)
	if err := needIdentity(near, len(l.Identities) > 0); err != nil {
		return nil, err
	}
	var all []cover.Mark
	for _, s := range near {
		marks, err := rebuild.Marks(ctx, rebuild.FromRepo(l.repo, []repo.Segment{s}, l.Identities))
		if _, about := aboutObject(ctx, err); about && l.spare(s) {
			l.notes = append(l.notes, fmt.Sprintf("segment %s cannot be read (%v); what can be reached does not need it", s.Key, err))
			return l.segmentMarks(ctx) // others are near now
		}
		if err != nil {
			return nil, wantingSegment(ctx, err)
		}
		all = append(all, marks...)
	}
	return all, nil
}

// spare leaves a segment out of the search if all that can be reached with it is reached without it as well.
func (l *locator) spare(bad repo.Segment) bool {
	c := *l.catalog
	c.Segments = slices.DeleteFunc(slices.Clone(c.Segments), func(s repo.Segment) bool { return s.Key == bad.Key })
	rest := cover.Windows(l.snaps, c.Segments)
	for _, w := range l.windows {
		from, to := max(w.From, bad.First), min(w.To, bad.Last)
		if w.Timeline == bad.Timeline && from <= to && !slices.ContainsFunc(rest, func(o cover.Window) bool { return o.Timeline == w.Timeline && o.From <= from && to <= o.To }) {
			return false
		}
	}
	l.catalog, l.windows = &c, rest
	return true
}

func needIdentity(segs []repo.Segment, have bool) error {
	for _, s := range segs {
		if s.Encrypted && !have {
			return fail.New(fail.Usage, errors.New("the change log is encrypted, and no identity was given"), "give the file with the private key: --identity FILE")
		}
	}
	return nil
}

// wantingSegment is wanting for an error about the change log: it is the log that is damaged, and a snapshot may still be good.
func wantingSegment(ctx context.Context, err error) error {
	if err = wanting(ctx, err); fail.ExitCode(err) == fail.Wanting && fail.HintOf(err) == "" {
		return fail.Hint(fmt.Errorf("the change log: %w", err), "take a snapshot alone (--id), or a revision below the damage; `steward backup list` shows what there is")
	}
	return err
}
