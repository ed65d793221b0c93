package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// Time says when a recorder saw a revision first, by its clock: not yet at After, but by By. Either is zero when the log that was read
// does not say. A recorder sees a change milliseconds after it was made, or, when it was away, when it has caught up.
type Time struct {
	After, By time.Time
}

// mark takes a time mark in, for the revision r.
func (t *Time) mark(m changes.TimeMark, r revision.Revision) {
	switch {
	case !t.By.IsZero(): // an overlapping segment's says nothing new
	case m.Revision < r:
		t.After = m.Time
	default:
		t.By = m.Time
	}
}

// newestProofs are the proofs in order of their revisions, the newest of each, at most proofsMax.
func newestProofs(all []changes.Proof) []changes.Proof {
	slices.SortStableFunc(all, func(a, b changes.Proof) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.Time.Compare(b.Time))
	})
	all = slices.CompactFunc(all, func(a, b changes.Proof) bool {
		return a.Revision == b.Revision && a.CompactRevision == b.CompactRevision && a.Hash == b.Hash
	})
	return slices.Clone(all[max(0, len(all)-proofsMax):])
}

// marksMax bounds what Marks gives: ten a second for a day.
const marksMax = 1 << 20

// Marks reads the time marks of segments, for cover.Resolve; the segments need not follow each other, nor be of one timeline. It reads each
// to its end, since only that says that it is undamaged.
func Marks(ctx context.Context, segs []Segment) (marks []cover.Mark, err error) {
	for _, s := range segs {
		err := eachRecord(ctx, s, repo.Timeline{}, func(h changes.Header, r *changes.Record) error {
			switch {
			case r.Kind != changes.KindTime:
			case len(marks) == marksMax:
				return fmt.Errorf("more than %d time marks", marksMax)
			default:
				marks = append(marks, cover.Mark{Timeline: h.Timeline, Revision: r.Time.Revision, Time: r.Time.Time})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the time marks of segment %s: %w", s.Name, err)
		}
	}
	return marks, nil
}

// eachRecord reads one segment to its end.
func eachRecord(ctx context.Context, s Segment, line repo.Timeline, visit func(changes.Header, *changes.Record) error) (err error) {
	recs, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recs.Close()) }()
	h := recs.Header()
	if err := checkHeader(h, s, line); err != nil {
		return err
	}
	for {
		rec, err := recs.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = visit(h, rec)
		}
		if err != nil {
			return err
		}
	}
}
