package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/retention"
	"etcd-steward/internal/fail"
)

// SegmentsFate is what becomes of a stretch of the change log.
type SegmentsFate struct {
	Timeline repo.Timeline `json:"timeline"`
	First    repo.Revision `json:"first"`
	Last     repo.Revision `json:"last"`
	Segments int           `json:"segments"`
	Bytes    int64         `json:"bytes"`
	// Oldest and Newest are when the first and the last of them were closed.
	Oldest time.Time `json:"oldest"`
	Newest time.Time `json:"newest"`
	Keep   bool      `json:"keep"`
	Why    string    `json:"why"`
}

// decideSegments decides about the change log, and so which backups stay for its sake: ds is changed.
func (o *PruneOptions) decideSegments(res *PruneResult, c *repo.Catalog, ds []retention.Decision) error {
	now := o.Now()
	res.segments = retention.Moments(o.Policy, ds, c.Segments, now)
	for _, d := range res.segments {
		res.Segments = addFate(res.Segments, d)
	}
	gone := slices.ContainsFunc(res.segments, func(d retention.SegmentDecision) bool { return !d.Keep })
	over := retention.OverdueMoments(o.Policy, ds, res.segments, now, o.Location)
	if !gone || over <= overdueSegments || o.AllowLarge {
		return nil
	}
	return fail.Refused(fmt.Errorf("%d segments of the change log would have been removed by the policy (%s) a week ago: it was changed, or prune has not run for long", over, o.Policy),
		"look at `steward backup prune --dry-run`; if that is meant: steward backup prune --allow-large")
}

// overdueSegments is what a clock that is corrected, or a verification that fails for a day, can make overdue.
const overdueSegments = 2

// addFate joins neighbours that share their fate, so that thousands of segments are some lines.
func addFate(all []SegmentsFate, d retention.SegmentDecision) []SegmentsFate {
	s := d.Segment
	at := s.ID.Time()
	if n := len(all); n > 0 {
		if last := &all[n-1]; last.Timeline == s.Timeline && last.Keep == d.Keep && last.Why == d.Why {
			last.Last = max(last.Last, s.Last)
			last.Segments++
			last.Bytes += s.Size
			if at.Before(last.Oldest) {
				last.Oldest = at
			}
			if at.After(last.Newest) {
				last.Newest = at
			}
			return all
		}
	}
	return append(all, SegmentsFate{
		Timeline: s.Timeline, First: s.First, Last: s.Last, Segments: 1, Bytes: s.Size, Oldest: at, Newest: at, Keep: d.Keep, Why: d.Why,
	})
}

// segmentsToGo are the segments that are removed, and the reason of each.
func (r *PruneResult) segmentsToGo() (segs []repo.Segment, why func(repo.Segment) string) {
	reasons := map[string]string{}
	for _, d := range r.segments {
		if !d.Keep {
			segs = append(segs, d.Segment)
			reasons[d.Segment.Key] = d.Why
		}
	}
	return segs, func(s repo.Segment) string { return reasons[s.Key] }
}

// executePlan stores one plan of bounded size and executes it; it returns how many backups and segments the plan names.
func (o *PruneOptions) executePlan(ctx context.Context, res *PruneResult, remove []repo.Removal, keep []repo.Kept, segs []repo.Segment, why func(repo.Segment) string,
	report func(repo.Removed),
) (backups, segments int, err error) {
	p := o.Repo.NewPlan(o.Now(), o.Host, res.Policy, remove, keep)
	if p.RemoveLater == 0 { // backups first: what is left of an interrupted prune are segments that lead on from a backup, not the other way round
		segments = p.AddSegments(segs, why)
		p.SegmentsLater = len(segs) - segments
	}
	if err := o.Repo.PutPlan(ctx, p); err != nil {
		return 0, 0, err
	}
	out, err := o.Repo.Execute(ctx, p, repo.ExecuteOptions{Now: o.Now(), Report: report})
	res.Plans = append(res.Plans, p.ID)
	res.Removed += out.Gone
	res.SegmentsRemoved += out.Segments.Gone
	res.SegmentsLocked += out.Segments.Locked
	if out.Segments.LockedUntil.After(res.SegmentsLockedUntil) {
		res.SegmentsLockedUntil = out.Segments.LockedUntil
	}
	res.Freed += out.Bytes + out.Segments.Bytes
	res.Left = append(res.Left, out.Left...)
	return len(p.Remove), segments, err
}
