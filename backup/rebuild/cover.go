package rebuild

import (
	"context"
	"fmt"
	"slices"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// Records is an open segment; a [changes.Segment] is one.
type Records interface {
	Header() changes.Header
	// Next gives the next record, valid until the next call, and io.EOF only when the whole segment was read and is undamaged.
	Next() (*changes.Record, error)
	Close() error
}

var _ Records = (*changes.Segment)(nil)

// Segment is a piece of the change log that is opened when its turn comes.
type Segment struct {
	// Name is what errors call it: the object's key.
	Name string
	// First and Last are the revisions that it holds, as its name says.
	First, Last revision.Revision
	// Open opens it; whoever calls it closes the records.
	Open func(ctx context.Context) (Records, error)
}

// FromRepo makes the segments of a repository readable. Without an identity, only unencrypted ones are.
func FromRepo(r *repo.Repo, segs []repo.Segment, identities []age.Identity) []Segment {
	var out []Segment
	for _, s := range segs {
		out = append(out, Segment{Name: s.Key, First: s.First, Last: s.Last, Open: func(ctx context.Context) (Records, error) {
			seg, err := changes.OpenSegment(ctx, r, s, identities)
			if err != nil {
				return nil, err
			}
			return seg, nil
		}})
	}
	return out
}

// reach drops the segments that begin above the target, and says what is missing between the snapshot at base and the target, by
// the segments' names alone: nothing is fetched for a rebuild that cannot succeed.
func reach(segs []Segment, base, target revision.Revision) ([]Segment, error) {
	segs = slices.DeleteFunc(slices.Clone(segs), func(s Segment) bool { return s.First > target })
	if !slices.IsSortedFunc(segs, func(a, b Segment) int { return int(a.First - b.First) }) {
		return nil, fmt.Errorf("segments are not in order of their first revision")
	}
	end := base
	for _, s := range segs {
		if s.First > end+1 && end < target {
			return nil, fmt.Errorf("%w: %d to %d, before segment %s", ErrMissing, end+1, s.First-1, s.Name)
		}
		end = max(end, s.Last)
	}
	if end < target {
		return nil, fmt.Errorf("%w: %d to %d, after the newest segment", ErrMissing, end+1, target)
	}
	return segs, nil
}
