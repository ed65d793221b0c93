package backup

import (
	"context"
	"fmt"
	"slices"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
)

// holes looks for revisions that are in no segment though they should be. A gap that the recorder told of, or that a snapshot's own history
// bridges, is none; neither is what lies before the first segment.
func (l *logCheck) holes(ctx context.Context) error {
	rec, _, err := l.o.Repo.Recorded(ctx, l.timeline)
	if err != nil {
		return err
	}
	between := gapsBetween(l.all)
	last := l.all[0].Last
	for _, s := range l.all {
		last = max(last, s.Last)
	}
	if newest := l.newestStored(ctx, last, rec.Through); newest < rec.Through {
		between = append(between, span{newest + 1, rec.Through})
	}
	for _, hole := range between {
		if l.o.named() && !l.wanted(hole.first, hole.last) {
			continue
		}
		for _, h := range l.unexplained(hole, rec.Gaps) {
			l.find(ChangesFinding{First: h.first, Last: h.last, Problem: fmt.Sprintf("revisions %d to %d are in no segment, and no recorder has reported a gap", h.first, h.last)})
		}
	}
	for _, g := range rec.Gaps {
		if l.wanted(g.From, g.To) {
			l.note("gap: revisions %d to %d were not recorded: %s", g.From, g.To, g.Reason)
		}
	}
	if n := len(cover.Orphans(l.snaps, l.all)); n > 0 {
		l.note("%s nowhere: no backup comes right before", counted(n, "segment leads", "segments lead"))
	}
	return nil
}

// newestStored is the newest revision that a segment or a snapshot holds. The recorder's mark may be newer than the listing, so that is
// asked for once more before anything is called missing.
func (l *logCheck) newestStored(ctx context.Context, last, through repo.Revision) repo.Revision {
	for _, s := range l.snaps {
		last = max(last, s.Revision)
	}
	if last >= through {
		return last
	}
	again, err := l.o.Repo.Catalog(ctx)
	if err != nil {
		return through
	}
	for _, s := range again.SegmentsOf(l.timeline) {
		last = max(last, s.Last)
	}
	for _, e := range again.Backups() {
		if e.Timeline == l.timeline {
			last = max(last, e.Revision)
		}
	}
	return last
}

// gapsBetween are the revisions that lie between segments and in none, of segments in order.
func gapsBetween(segs []repo.Segment) []span {
	var out []span
	end := segs[0].Last
	for _, s := range segs {
		if s.First > end+1 {
			out = append(out, span{end + 1, s.First - 1})
		}
		end = max(end, s.Last)
	}
	return out
}

// unexplained is what is left of a hole without the gaps that were told of and what snapshots hold by themselves.
func (l *logCheck) unexplained(hole span, told []repo.RecordedGap) []span {
	left := []span{hole}
	cut := func(first, last repo.Revision) {
		var next []span
		for _, s := range left {
			if !s.meets(first, last) {
				next = append(next, s)
				continue
			}
			if s.first < first {
				next = append(next, span{s.first, first - 1})
			}
			if s.last > last {
				next = append(next, span{last + 1, s.last})
			}
		}
		left = next
	}
	for _, g := range told {
		cut(g.From, g.To)
	}
	for _, s := range l.snaps {
		cut(max(s.Compact, 1), s.Revision)
	}
	return slices.Clip(left)
}
