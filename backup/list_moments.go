package backup

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// AnyMoment is what the change log adds to the snapshots: the ranges in which every revision is a restore point, and what is missing between them. It is
// made of names and of the manifests of the rows; a snapshot that is not shown in full counts without the history that it holds.
type AnyMoment struct {
	Windows []MomentWindow `json:"windows"`
	// Gaps are the ranges between windows, and behind the last one, that a change log should have closed: none of their revisions can be restored.
	Gaps []MomentGap `json:"gaps"`
	// Recorded is how far the change log has come, per timeline.
	Recorded []RecordedThrough `json:"recorded"`
	// Orphans are segments that no snapshot leads to.
	Orphans int `json:"orphaned_segments"`
	// Segments is how many there are in all.
	Segments int `json:"segments"`
}

// MomentWindow is a window, and its time as far as names say it.
type MomentWindow struct {
	cover.Window
	// FromTime is when its first snapshot was taken; history that this one holds reaches further back. Until is the last time at which To is known to have been the newest.
	FromTime time.Time `json:"from_time,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	// Verified is what verifications have found of the window's revisions, and Reach how far each level goes from the window's first segment on.
	Verified []repo.VerifiedRange `json:"verified,omitempty"`
	Reach    []VerifiedReach      `json:"verified_reach,omitempty"`
}

// MomentGap is a gap, with the reason that a recorder gave.
type MomentGap struct {
	cover.Gap
	Reason string    `json:"reason,omitempty"`
	Noted  time.Time `json:"noted,omitzero"`
}

// RecordedThrough is how far a timeline's change log has come: at Time, everything up to Through was in the store, and Through was the newest. While nothing
// changes, Time goes on; when it stands still, nobody records.
type RecordedThrough struct {
	Timeline repo.Timeline `json:"timeline"`
	Through  repo.Revision `json:"through"`
	Time     time.Time     `json:"time,omitzero"`
	Age      float64       `json:"age_seconds"`
	// Highest is the highest revision ever seen, stored or not.
	Highest repo.Revision `json:"highest"`
	// Ended is why the timeline has ended; empty while it goes on.
	Ended string `json:"ended,omitempty"`
	Host  string `json:"host"`
}

// anyMoment sums up what the snapshots of the rows and the segments give.
func anyMoment(ctx context.Context, r *repo.Repo, c *repo.Catalog, snaps []cover.Snapshot, now time.Time) (*AnyMoment, error) {
	recorded, err := readRecorded(ctx, r, c)
	if err != nil {
		return nil, err
	}
	ws := cover.Windows(snaps, c.Segments)
	a := &AnyMoment{
		Windows: []MomentWindow{}, Gaps: []MomentGap{}, Recorded: []RecordedThrough{},
		Orphans: len(cover.Orphans(snaps, c.Segments)), Segments: len(c.Segments),
	}
	for _, w := range ws {
		a.Windows = append(a.Windows, timed(w, snaps, c.Segments, recorded))
	}
	for _, g := range cover.Gaps(ws) {
		if gap, ok := explained(g, c.Segments, recorded); ok {
			a.Gaps = append(a.Gaps, gap)
		}
	}
	for _, rec := range recorded {
		if w, ok := lastWindow(ws, rec.Timeline); ok && w.To < rec.Through { // behind a gap, nothing can be restored before there is a snapshot
			gap, _ := explained(cover.Gap{Timeline: rec.Timeline, From: w.To + 1, To: rec.Through}, c.Segments, recorded)
			a.Gaps = append(a.Gaps, gap)
		}
		a.Recorded = append(a.Recorded, RecordedThrough{
			Timeline: rec.Timeline, Through: rec.Through, Time: rec.Time, Age: now.Sub(rec.Time).Seconds(), Highest: rec.Highest, Ended: rec.Ended, Host: rec.Host,
		})
	}
	return a, a.verified(ctx, r, c)
}

// readRecorded reads the recorders' marks that say how far a log has come.
func readRecorded(ctx context.Context, r *repo.Repo, c *repo.Catalog) ([]repo.Recorded, error) {
	all, err := readMarks(ctx, r, c)
	return slices.DeleteFunc(all, func(rec repo.Recorded) bool { return rec.Time.IsZero() }), err
}

// readMarks reads the recorders' marks. Credentials that may not read them see none.
func readMarks(ctx context.Context, r *repo.Repo, c *repo.Catalog) ([]repo.Recorded, error) {
	all := make([]repo.Recorded, len(c.Recorded))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, t := range c.Recorded {
		g.Go(func() error {
			rec, _, err := r.Recorded(gctx, t)
			if store.KindOf(err) == store.Denied {
				return nil
			}
			all[i] = rec
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(rec repo.Recorded) bool { return rec.Timeline == repo.Timeline{} }), nil
}

// timed adds what names say of a window's time.
func timed(w cover.Window, snaps []cover.Snapshot, segs []repo.Segment, recorded []repo.Recorded) MomentWindow {
	out := MomentWindow{Window: w}
	later := func(t time.Time) {
		if t.After(out.Until) {
			out.Until = t
		}
	}
	if len(w.Snapshots) > 0 {
		out.FromTime = w.Snapshots[0].Time()
	}
	for _, s := range snaps {
		if s.Timeline == w.Timeline && s.Revision == w.To {
			later(s.ID.Time())
		}
	}
	for _, s := range segs {
		if s.Timeline == w.Timeline && s.Last == w.To {
			later(s.ID.Time())
		}
	}
	for _, rec := range recorded {
		if rec.Timeline == w.Timeline && rec.Through == w.To {
			later(rec.Time)
		}
	}
	return out
}

// explained is a gap with the reason that was noted. What lies before the first segment of a timeline is no gap of its log: there was none yet.
func explained(g cover.Gap, segs []repo.Segment, recorded []repo.Recorded) (MomentGap, bool) {
	out := MomentGap{Gap: g}
	for _, rec := range recorded {
		for _, n := range rec.Gaps {
			if rec.Timeline == g.Timeline && n.From <= g.To && n.To >= g.From {
				out.Reason, out.Noted = n.Reason, n.Time
			}
		}
	}
	begun := slices.ContainsFunc(segs, func(s repo.Segment) bool { return s.Timeline == g.Timeline && s.First <= g.To })
	return out, begun || out.Reason != ""
}
