// Package cover chooses, from names alone, what a restore point is rebuilt from: one full snapshot and the fewest segments. It also says which restore
// points there are.
//
// It promises that a cover has no hole, that a restore point outside of every window is refused with its nearest neighbours, and
// that nothing needs to be downloaded to know. It is pure, but for Read; it believes the names, which the reader of a segment
// compares with its content.
package cover

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"etcd-steward/backup/repo"
)

// Snapshot is a full snapshot to build on.
type Snapshot struct {
	repo.Entry
	// Compact is the revision below which its history is gone, Unknown when its manifest was not read. A snapshot also holds the
	// revisions between Compact and its own: records above a revision are taken away (a rewind).
	Compact repo.Revision
}

// Unknown is the Compact of a snapshot whose manifest was not read: it cannot be rewound.
const Unknown repo.Revision = -1

// oldest is the first revision that the snapshot alone gives.
func (s Snapshot) oldest() repo.Revision {
	if s.Compact == Unknown {
		return s.Revision
	}
	return max(1, min(s.Compact, s.Revision))
}

// Snapshots are the complete ones of a catalog, none of which can be rewound as only names are known.
func Snapshots(c *repo.Catalog) []Snapshot {
	var out []Snapshot
	for _, e := range c.Backups() {
		out = append(out, Snapshot{Entry: e, Compact: Unknown})
	}
	return out
}

// Read is Snapshots with their manifests read. One whose manifest cannot be read is left out and reported in bad.
func Read(ctx context.Context, r *repo.Repo, c *repo.Catalog) (snaps []Snapshot, bad map[repo.SnapshotID]error, err error) {
	bad = map[repo.SnapshotID]error{}
	for _, e := range c.Backups() {
		m, err := r.Manifest(ctx, e)
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("read manifests: %w", ctx.Err())
		}
		if err != nil {
			bad[e.ID] = err
			continue
		}
		snaps = append(snaps, Snapshot{Entry: e, Compact: m.Database.CompactRevision})
	}
	return snaps, bad, nil
}

// span is a range of revisions, both ends included.
type span struct{ from, to repo.Revision }

// runs merges segments, in the order of repo.SortSegments and of one timeline, into ranges without a hole.
func runs(segs []repo.Segment) []span {
	var out []span
	for _, s := range segs {
		if n := len(out); n > 0 && s.First <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, s.Last)
			continue
		}
		out = append(out, span{s.First, s.Last})
	}
	return out
}

// reach is how far a snapshot of revision r can be taken forward with the runs.
func reach(rs []span, r repo.Revision) repo.Revision {
	// The last run that begins at or before r+1: those before it end earlier.
	i, _ := slices.BinarySearchFunc(rs, r+2, func(s span, at repo.Revision) int { return cmp.Compare(s.from, at) })
	if i == 0 {
		return r
	}
	return max(r, rs[i-1].to)
}

// of are the snapshots and the segments of one timeline, sorted.
func of(t repo.Timeline, snaps []Snapshot, segs []repo.Segment) ([]Snapshot, []repo.Segment) {
	var sn []Snapshot
	for _, s := range snaps {
		if s.Timeline == t {
			sn = append(sn, s)
		}
	}
	slices.SortFunc(sn, func(a, b Snapshot) int { return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.ID, b.ID)) })
	var sg []repo.Segment
	for _, s := range segs {
		if s.Timeline == t {
			sg = append(sg, s)
		}
	}
	repo.SortSegments(sg)
	return sn, sg
}

// Overlaps are pairs of segments that hold some of the same revisions: each segment with the one before it that goes furthest. If all
// pairs agree (changes.Agree), no two segments of a chain disagree.
func Overlaps(segs []repo.Segment) [][2]repo.Segment {
	segs = slices.Clone(segs)
	repo.SortSegments(segs)
	var out [][2]repo.Segment
	furthest := 0
	for i := 1; i < len(segs); i++ {
		same := segs[i].Timeline == segs[furthest].Timeline
		if same && segs[i].First <= segs[furthest].Last {
			out = append(out, [2]repo.Segment{segs[furthest], segs[i]})
		}
		if !same || segs[i].Last > segs[furthest].Last {
			furthest = i
		}
	}
	return out
}
