package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// segmentChoice is what the revisions above base up to target are read from, and what else holds some of them. Where segments overlap, one may
// be damaged while another is not, and they may contradict each other: both is found out before anything that was read counts.
type segmentChoice struct {
	repo         *repo.Repo
	identities   []age.Identity
	base, target repo.Revision
	all          []repo.Segment // of the timeline
	chosen       []repo.Segment // of all
	// choose chooses among what is left; false when that does not hold every revision.
	choose func(rest []repo.Segment) ([]repo.Segment, bool)
	notes  []string
}

// settle reads each segment that overlaps another one, once. One that cannot be read is left out, with a note, and its revisions are taken from the others; when
// there are none, that is the error. Segments that overlap must say the same.
func (c *segmentChoice) settle(ctx context.Context) error {
	for again := true; again; {
		within := slices.DeleteFunc(slices.Clone(c.all), func(s repo.Segment) bool { return s.Last <= c.base || s.First > c.target })
		o := newOverlaps(cover.Overlaps(within), c.base, c.target)
		if err := o.read(ctx, c.repo, c.identities); err != nil {
			return err
		}
		again = false
		for _, r := range o.reads {
			if r.err == nil {
				continue
			}
			again = true
			if err := c.drop(ctx, r.segment, r.err); err != nil {
				return err
			}
		}
		if again {
			continue
		}
		if err := o.disagreement(ctx, c.repo, c.identities); err != nil {
			return err
		}
	}
	return nil
}

// drop leaves a segment out that cannot be read.
func (c *segmentChoice) drop(ctx context.Context, s repo.Segment, why error) error {
	rest := slices.DeleteFunc(slices.Clone(c.all), func(o repo.Segment) bool { return o.Key == s.Key })
	chosen, ok := c.choose(rest)
	if !ok {
		return wantingSegment(ctx, &rebuild.SegmentError{Segment: s.Key, Revision: s.First, Err: why})
	}
	instead := "nothing needed it"
	if slices.ContainsFunc(c.chosen, func(o repo.Segment) bool { return o.Key == s.Key }) {
		instead = "its revisions were taken from others that hold them"
	}
	c.notes = append(c.notes, fmt.Sprintf("segment %s cannot be read (%v); %s", s.Key, why, instead))
	c.all, c.chosen = rest, chosen
	return nil
}

// overlaps are pairs of segments that hold some of the same revisions, and what was read of them.
type overlaps struct {
	target repo.Revision
	pairs  []overlap
	reads  []*overlapRead
}

// overlap is a pair with the hashes of what both hold.
type overlap struct {
	segments [2]repo.Segment
	parts    [2]*part
}

// part is a range of a segment's revisions and the hash of its events.
type part struct {
	first, last repo.Revision
	hash        hash.Hash
}

// overlapRead is one segment and the parts of it that are compared.
type overlapRead struct {
	segment repo.Segment
	parts   []*part
	err     error // it cannot be read
}

func newOverlaps(pairs [][2]repo.Segment, base, target repo.Revision) *overlaps {
	o := &overlaps{target: target}
	byKey := map[string]*overlapRead{}
	for _, p := range pairs {
		next := overlap{segments: p}
		for i, s := range p {
			next.parts[i] = &part{first: max(base+1, p[0].First, p[1].First), last: min(target, p[0].Last, p[1].Last), hash: sha256.New()}
			if byKey[s.Key] == nil {
				byKey[s.Key] = &overlapRead{segment: s}
				o.reads = append(o.reads, byKey[s.Key])
			}
			byKey[s.Key].parts = append(byKey[s.Key].parts, next.parts[i])
		}
		o.pairs = append(o.pairs, next)
	}
	return o
}

// read reads every segment of the pairs. Its error is about the way to them.
func (o *overlaps) read(ctx context.Context, r *repo.Repo, ids []age.Identity) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(segmentWorkers / 2)
	for _, one := range o.reads {
		g.Go(func() error {
			err := one.read(gctx, r, ids)
			var locked *age.NoIdentityMatchError
			if _, about := aboutObject(gctx, err); about || errors.As(err, &locked) {
				one.err, err = err, nil
			}
			return err
		})
	}
	return g.Wait()
}

func (r *overlapRead) read(ctx context.Context, from *repo.Repo, ids []age.Identity) (err error) {
	if r.segment.Encrypted && len(ids) == 0 {
		return findingf("it is encrypted, and no identity was given")
	}
	seg, err := changes.OpenSegment(ctx, from, r.segment, ids)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seg.Close()) }()
	for {
		rec, err := seg.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if rec.Kind == changes.KindEvent {
			r.event(&rec.Event)
		}
	}
}

func (r *overlapRead) event(e *changes.Event) {
	main, _ := e.Revision()
	for _, p := range r.parts {
		if rev := repo.Revision(main); rev < p.first || rev > p.last {
			continue
		}
		// With their lengths, so that nothing can move from one to the next.
		for _, b := range [][]byte{e.Bytes(), e.Value} {
			_, _ = p.hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b)))) // a hash's Write does not fail
			_, _ = p.hash.Write(b)
		}
	}
}

// ContradictionError names two segments that hold different changes for the same revision. One of them is not of the history that it claims.
type ContradictionError struct {
	A, B repo.Segment
	// From is the first revision that both hold.
	From repo.Revision
	Err  error
}

// Error names both objects.
func (e *ContradictionError) Error() string {
	return fmt.Sprintf("%v: %v; the objects are %s and %s", rebuild.ErrContradiction, e.Err, e.A.Key, e.B.Key)
}

// Unwrap makes it one of the contradictions that a rebuild finds.
func (e *ContradictionError) Unwrap() []error { return []error{rebuild.ErrContradiction, e.Err} }

// disagreement is the first pair that does not say the same.
func (o *overlaps) disagreement(ctx context.Context, r *repo.Repo, ids []age.Identity) error {
	for _, p := range o.pairs {
		if slices.Equal(p.parts[0].hash.Sum(nil), p.parts[1].hash.Sum(nil)) {
			continue
		}
		err := compareSegments(ctx, r, ids, p.segments)
		if err == nil { // they were read differently a moment ago
			err = changes.ErrDisagree
		}
		if errors.Is(err, changes.ErrDisagree) {
			from := p.parts[0].first
			err = fail.New(fail.Wanting, &ContradictionError{A: p.segments[0], B: p.segments[1], From: from, Err: err}, fmt.Sprintf(
				"`steward backup export --to-revision %d --to FILE` says which of them leads to a hash that a member gave, if one was recorded; until then: --to-revision %d, or a snapshot alone (--id)", o.target, from-1))
		}
		return wantingSegment(ctx, err)
	}
	return nil
}

// compareSegments says on which revision two segments disagree.
func compareSegments(ctx context.Context, r *repo.Repo, ids []age.Identity, s [2]repo.Segment) (err error) {
	a, err := changes.OpenSegment(ctx, r, s[0], ids)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := changes.OpenSegment(ctx, r, s[1], ids)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return changes.Agree(a.Decoder, b.Decoder)
}
