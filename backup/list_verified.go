package backup

import (
	"context"
	"slices"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// VerifiedReach says that of a window's change log everything up to To was verified as far as Level.
type VerifiedReach struct {
	Level string        `json:"level"`
	To    repo.Revision `json:"to"`
}

// verified adds to the windows what verifications have found. Credentials that may not read the marks see none.
func (a *AnyMoment) verified(ctx context.Context, r *repo.Repo, c *repo.Catalog) error {
	for _, t := range c.VerifiedChanges {
		marks, err := r.VerifiedRanges(ctx, t)
		if store.KindOf(err) == store.Denied {
			continue
		}
		if err != nil {
			return err
		}
		var runs []span
		for _, s := range c.SegmentsOf(t) {
			runs = joinSpan(runs, span{s.First, s.Last})
		}
		for i := range a.Windows {
			if w := &a.Windows[i]; w.Timeline == t {
				w.Verified = within(marks, span{w.From, w.To})
				w.Reach = reaches(w.Verified, runs, span{w.From, w.To})
			}
		}
	}
	return nil
}

// joinSpan adds a span that begins no earlier than those before it.
func joinSpan(runs []span, s span) []span {
	if n := len(runs); n > 0 && s.first <= runs[n-1].last+1 {
		runs[n-1].last = max(runs[n-1].last, s.last)
		return runs
	}
	return append(runs, s)
}

// within are the marks of a stretch.
func within(marks []repo.VerifiedRange, w span) []repo.VerifiedRange {
	var out []repo.VerifiedRange
	for _, m := range marks {
		if w.meets(m.First, m.Last) {
			m.First, m.Last = max(m.First, w.first), min(m.Last, w.last)
			out = append(out, m)
		}
	}
	return out
}

// reaches are how far each level goes without a hole from the window's first segment on, the strongest level first. What no segment holds is the
// snapshots', and not asked about here.
func reaches(marks []repo.VerifiedRange, runs []span, w span) []VerifiedReach {
	var out []VerifiedReach
	to := repo.Revision(0)
	for _, level := range []string{repo.LevelProven, repo.LevelRebuilt, repo.LevelContent, repo.LevelBytes} {
		if r := reachOf(level, marks, runs, w); r > to {
			out = append(out, VerifiedReach{Level: level, To: r})
			to = r
		}
	}
	return out
}

func reachOf(level string, marks []repo.VerifiedRange, runs []span, w span) (to repo.Revision) {
	for _, run := range runs {
		if !w.meets(run.first, run.last) {
			continue
		}
		last := min(run.last, w.last)
		for next := max(run.first, w.first); next <= last; {
			i := slices.IndexFunc(marks, func(m repo.VerifiedRange) bool {
				return m.OK && m.First <= next && next <= m.Last && repo.AtLeast(m.Level, level)
			})
			if i < 0 {
				return to
			}
			to = min(marks[i].Last, last)
			next = to + 1
		}
	}
	return to
}
