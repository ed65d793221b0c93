package backup

import (
	"context"
	"fmt"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Span is a stretch of a timeline's history, and where to read it from.
type Span struct {
	Timeline repo.Timeline `json:"timeline"`
	// Current is the timeline that goes on now, when the span is of another one.
	Current repo.Timeline `json:"current_timeline,omitzero"`
	// First and Last bound it, both included. With First 0 it begins with what the snapshot holds: of a key that was not changed since
	// the snapshot's compaction, its last change before; else nothing from before Complete.
	First repo.Revision `json:"first"`
	Last  repo.Revision `json:"last"`
	// Complete is the first revision from which on every change is there.
	Complete repo.Revision `json:"complete_from"`
	// Snapshot is nil when the segments alone hold the span.
	Snapshot *repo.Manifest `json:"-"`
	Segments []repo.Segment `json:"-"`

	all []repo.Segment // of the timeline
}

// settle reads what overlaps in the span, as Located.Settle does.
func (s *Span) settle(ctx context.Context, o ViewOptions) error {
	if len(s.Segments) == 0 {
		return nil
	}
	before := cover.Snapshot{Entry: repo.Entry{Timeline: s.Timeline, Revision: s.First - 1}, Compact: cover.Unknown}
	if s.Snapshot != nil {
		before.Revision = s.Snapshot.Database.Revision
	}
	c := segmentChoice{
		repo: o.Repo, identities: o.Identities, base: s.Segments[0].First - 1, target: s.Last, all: s.all, chosen: s.Segments,
		choose: func(rest []repo.Segment) ([]repo.Segment, bool) {
			p, err := cover.Cover([]cover.Snapshot{before}, rest, s.Timeline, s.Last)
			return p.Segments, err == nil
		},
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	s.all, s.Segments = c.all, c.chosen
	o.tell(c.notes)
	return nil
}

// Stored is how many bytes are downloaded for it.
func (s *Span) Stored() int64 {
	n := segmentBytes(s.Segments)
	if s.Snapshot != nil {
		n += s.Snapshot.Object.Size
	}
	return n
}

// LocateSpan finds out how the history between two restore points of one timeline is read: what was changed after `since` (zero: as far
// back as it goes; a revision: from that one on) until `until` (zero: the newest point). It refuses as Locate does, and downloads nothing more.
func LocateSpan(ctx context.Context, r *repo.Repo, since, until Point, o LocateOptions) (*Span, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Catalog == nil {
		var err error
		if o.Catalog, err = r.Catalog(ctx); err != nil {
			return nil, err
		}
	}
	end, err := Locate(ctx, r, until, o)
	if err != nil {
		return nil, err
	}
	first := repo.Revision(0)
	if asked := since; asked.ID != "" || asked.Revision != 0 || !asked.Time.IsZero() {
		if asked.ID == "" && asked.Timeline == (repo.Timeline{}) {
			asked.Timeline = end.Timeline
		}
		begin, err := Locate(ctx, r, asked, o)
		if err != nil {
			return nil, err
		}
		if first = begin.Revision; since.Revision == 0 {
			first++
		}
		if begin.Timeline != end.Timeline || begin.Revision > end.Revision {
			return nil, fail.New(fail.Usage, fmt.Errorf("revision %d of timeline %s does not come before revision %d of timeline %s",
				begin.Revision, begin.Timeline, end.Revision, end.Timeline), "give an earlier point to begin with; `steward backup list` shows what there is")
		}
	}
	l := locator{repo: r, catalog: o.Catalog, point: Point{Timeline: end.Timeline}, LocateOptions: o}
	if err := l.readManifests(ctx); err != nil {
		return nil, err
	}
	s, err := l.span(end, first)
	if err != nil {
		return nil, err
	}
	s.Current, s.all = end.Current, end.segments
	return s, nil
}

// span chooses what is read: from one snapshot at most, as each costs a download of its own.
func (l *locator) span(end *Located, first repo.Revision) (*Span, error) {
	var best *Span
	if first > 0 { // perhaps the segments alone
		before := cover.Snapshot{Entry: repo.Entry{Timeline: end.Timeline, Revision: first - 1}, Compact: cover.Unknown}
		if p, err := cover.Cover([]cover.Snapshot{before}, l.catalog.Segments, end.Timeline, end.Revision); err == nil {
			best = &Span{Timeline: end.Timeline, First: first, Last: end.Revision, Complete: first, Segments: p.Segments}
		}
	}
	earliest := end.Revision + 1
	for _, s := range l.snaps {
		p, err := cover.Cover([]cover.Snapshot{s}, l.catalog.Segments, end.Timeline, end.Revision)
		if err != nil {
			continue
		}
		m := l.manifests[s.ID]
		next := &Span{Timeline: end.Timeline, First: first, Last: end.Revision, Complete: max(first, m.Database.CompactRevision+1), Snapshot: m, Segments: p.Segments}
		earliest = min(earliest, next.Complete)
		switch {
		case first > 0 && next.Complete > first: // it does not reach back so far
		case best == nil, next.Complete < best.Complete, next.Complete == best.Complete && next.Stored() < best.Stored():
			best = next
		}
	}
	if best == nil {
		return nil, fail.Refused(fmt.Errorf("the history from revision %d to %d is not there in one piece: what leads to %d begins at %d", first, end.Revision, end.Revision, earliest),
			fmt.Sprintf("--from-revision %d, or an earlier end with --to-revision", earliest))
	}
	return best, nil
}
