package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"filippo.io/age"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Settle reads what overlaps on the way to the point: what cannot be read is replaced where it can be, and a contradiction ends it. The snapshot stays the same: the
// restored cluster's identity, and what other hosts are told, hang on it. Forward does it as well, once.
func (l *Located) Settle(ctx context.Context, r *repo.Repo, ids []age.Identity) error {
	if l.settled || len(l.Segments) == 0 {
		return nil
	}
	c := segmentChoice{
		repo: r, identities: ids, base: l.Snapshot.Database.Revision, target: l.Revision, all: l.segments, chosen: l.Segments,
		choose: func(rest []repo.Segment) ([]repo.Segment, bool) {
			p, err := cover.Cover([]cover.Snapshot{l.base()}, rest, l.Timeline, l.Revision)
			return p.Segments, err == nil
		},
	}
	err := c.settle(ctx)
	l.segments = c.all
	if err != nil {
		return l.around(err)
	}
	l.settled, l.Segments = true, c.chosen
	l.Notes = append(l.Notes, c.notes...)
	return nil
}

func (l *Located) base() cover.Snapshot {
	m := l.Snapshot
	return cover.Snapshot{Entry: repo.Entry{Timeline: m.Timeline, Revision: m.Database.Revision, ID: m.ID}, Compact: m.Database.CompactRevision}
}

// around adds to an error about one segment the way that leads around it, if there is one: from another snapshot, which a person must choose.
func (l *Located) around(err error) error {
	var at *rebuild.SegmentError
	if !errors.As(err, &at) || fail.ExitCode(err) != fail.Wanting {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(l.segments), func(s repo.Segment) bool { return s.Key == at.Segment })
	p, none := cover.Cover(l.snaps, rest, l.Timeline, l.Revision)
	if none != nil || p.Snapshot.ID == l.Snapshot.ID {
		return err
	}
	way := fmt.Sprintf("--id %s --to-revision %d leads there without it, from snapshot %s of revision %d, with the users and roles of that one", p.Snapshot.ID, l.Revision, p.Snapshot.ID, p.Snapshot.Revision)
	return fail.New(fail.Wanting, err, way+"; or "+fail.HintOf(err))
}

// which tells of two segments that contradict each other the one that leads to a hash which a member gave, if only one does. The db file of the snapshot at o.Path is
// used up by it.
func (l *Located) which(ctx context.Context, r *repo.Repo, o MaterialiseOptions, why error) error {
	var c *ContradictionError
	if !errors.As(why, &c) || ctx.Err() != nil {
		return why
	}
	var proven []repo.Segment
	for i, try := range []repo.Segment{c.A, c.B} {
		other := []repo.Segment{c.B, c.A}[i]
		if i > 0 && l.refetch(ctx, r, o) != nil {
			return why
		}
		if l.provenWithout(ctx, r, o, c.From, other) {
			proven = append(proven, try)
		}
	}
	way := "no recorded hash of a member tells which of them is right"
	if len(proven) == 1 {
		wrong := c.A
		if proven[0].Key == c.A.Key {
			wrong = c.B
		}
		way = fmt.Sprintf("%s leads to the hash that a member gave, so %s is the wrong one", proven[0].Key, wrong.Key)
	}
	return fail.New(fail.Wanting, why, fmt.Sprintf("%s. Move the wrong one out of the repository and repeat it; until then: --to-revision %d, or a snapshot alone (--id)", way, c.From-1))
}

// provenWithout says whether the log without one segment leads to a hash of a member that covers the revisions from `from` on.
func (l *Located) provenWithout(ctx context.Context, r *repo.Repo, o MaterialiseOptions, from repo.Revision, without repo.Segment) bool {
	rest := slices.DeleteFunc(slices.Clone(l.segments), func(s repo.Segment) bool { return s.Key == without.Key })
	p, err := cover.Cover([]cover.Snapshot{l.base()}, rest, l.Timeline, l.Revision)
	if err != nil {
		return false
	}
	res, err := rebuild.To(ctx, rebuild.Options{Path: o.Path, Target: l.Revision, Timeline: l.Timeline, Segments: rebuild.FromRepo(r, p.Segments, o.Identities)})
	return err == nil && res.Proof != nil && res.Proof.Revision >= from
}

// refetch writes the snapshot's db file once more over what was made of it.
func (l *Located) refetch(ctx context.Context, r *repo.Repo, o MaterialiseOptions) (err error) {
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := decode(ctx, r, l.Snapshot, &scratch{f: f}, o.Identities, o.Progress.stage("fetch", l.Snapshot.Object.Size), false); err != nil {
		return err
	}
	return f.Truncate(l.Snapshot.Database.Size)
}
