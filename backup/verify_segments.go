package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

const (
	// segmentWorkers is how many segments are decoded at once; each takes some 20 MiB.
	segmentWorkers = 4
	// segmentProofsMax bounds what one segment's proofs take.
	segmentProofsMax = 256
)

// segmentRead is what came of reading one segment.
type segmentRead struct {
	problem string
	removed bool  // since it was listed
	blind   bool  // it is encrypted, and there is no identity
	locked  error // no identity opens it
	proofs  []changes.Proof
}

// read reads every chosen segment to its end.
func (l *logCheck) read(ctx context.Context) error {
	reads := make([]segmentRead, len(l.chosen))
	var done atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(segmentWorkers)
	for i, s := range l.chosen {
		g.Go(func() (err error) {
			reads[i], err = l.o.segment(gctx, s)
			l.o.Progress.report("changes", done.Add(s.Size), l.verdict.Bytes)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := noneOpened(reads); err != nil && !l.opened {
		return err
	}
	removed := 0
	for i, r := range reads {
		s := l.chosen[i]
		switch {
		case r.removed:
			removed++
			l.bad[s.Key] = true
		case r.problem != "":
			l.find(ChangesFinding{Key: s.Key, First: s.First, Last: s.Last, Problem: r.problem, level: l.verdict.Level})
		}
		if r.blind {
			l.verdict.Level = repo.LevelBytes
		}
		l.proofs = append(l.proofs, r.proofs...)
	}
	if removed > 0 {
		l.note("%s removed while the log was verified", counted(removed, "segment was", "segments were"))
	}
	if l.verdict.Level == repo.LevelBytes {
		l.note("bytes only: without an identity segments cannot be decrypted")
	}
	return nil
}

// noneOpened tells an identity that is the wrong one from a segment whose list of recipients is damaged.
func noneOpened(reads []segmentRead) error {
	for _, r := range reads {
		if r.locked == nil {
			return nil
		}
	}
	return fail.Hint(reads[0].locked, "--identity FILE with one of the keys that it is encrypted to")
}

// segment reads one segment as far as it can be. Its error is about the way to it.
func (o *VerifyOptions) segment(ctx context.Context, s repo.Segment) (segmentRead, error) {
	out := segmentRead{blind: s.Encrypted && len(o.Identities) == 0}
	var err error
	if out.blind {
		err = o.segmentBytes(ctx, s)
	} else {
		out.proofs, err = o.segmentContent(ctx, s)
	}
	var none *age.NoIdentityMatchError
	switch problem, about := aboutObject(ctx, err); {
	case errors.As(err, &none):
		out.locked = err
		out.problem = "the identities that open others do not open this one: its beginning is damaged, or it is encrypted to another key (--identity may be repeated)"
	case errors.Is(err, store.NotFound):
		out.removed = true // by a prune: one that was lost is a hole in the next listing
	case about:
		out.problem = problem
	case err != nil:
		return out, err
	}
	return out, nil
}

// ageIntro is how an age file begins.
const ageIntro = "age-encryption.org/v1\n"

// segmentBytes reads what is stored: without an identity, only the store's own hash can tell whether it is what was written.
func (o *VerifyOptions) segmentBytes(ctx context.Context, s repo.Segment) error {
	body, err := o.Repo.SegmentData(ctx, s)
	if err != nil {
		return err
	}
	h := sha256.New()
	var intro head
	n, err := io.Copy(io.MultiWriter(h, &intro), body)
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read segment %s: %w", s.Key, err)
	}
	switch info, err := o.Repo.Store().Head(ctx, s.Key); {
	case n != s.Size:
		return findingf("segment %s: it has %d bytes, the listing says %d", s.Key, n, s.Size)
	case !bytes.Equal(intro.b, []byte(ageIntro)):
		return findingf("segment %s: it is not encrypted with age, as its name says", s.Key)
	case err != nil && !errors.Is(err, store.Denied):
		return fmt.Errorf("look at segment %s: %w", s.Key, err)
	case err == nil && info.SHA256 != [32]byte{} && info.SHA256 != [32]byte(h.Sum(nil)):
		return findingf("segment %s: its bytes do not have the SHA-256 that the store says", s.Key)
	}
	return nil
}

// head keeps the first bytes that are written to it.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), len(ageIntro)-len(h.b))]...)
	return len(p), nil
}

// segmentContent decodes a segment: its header against its name, the order of its events, all hashes.
func (o *VerifyOptions) segmentContent(ctx context.Context, s repo.Segment) (proofs []changes.Proof, err error) {
	seg, err := changes.OpenSegment(ctx, o.Repo, s, o.Identities)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, seg.Close()) }()
	for {
		rec, err := seg.Next()
		if errors.Is(err, io.EOF) {
			return proofs, nil
		}
		if err != nil {
			return proofs, fmt.Errorf("segment %s: %w", s.Key, err)
		}
		if rec.Kind == changes.KindProof && len(proofs) < segmentProofsMax {
			proofs = append(proofs, rec.Proof)
		}
	}
}

// agree compares segments that hold some of the same revisions: they must say the same.
func (l *logCheck) agree(ctx context.Context) error {
	pairs := cover.Overlaps(l.good())
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(segmentWorkers / 2)
	found := make([]string, len(pairs))
	for i, p := range pairs {
		if !l.wanted(p[0].First, p[0].Last) && !l.wanted(p[1].First, p[1].Last) {
			continue
		}
		g.Go(func() (err error) {
			found[i], err = l.o.compare(gctx, p[0], p[1])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, p := range pairs {
		if found[i] != "" { // which of the two is wrong, only a proof can tell
			l.find(ChangesFinding{Key: p[1].Key, First: max(p[0].First, p[1].First), Last: min(p[0].Last, p[1].Last), Problem: found[i] + "; the other one is " + p[0].Key, level: repo.LevelContent})
			l.bad[p[0].Key] = true
		}
	}
	return nil
}

// compare is what two segments disagree on, or "".
func (o *VerifyOptions) compare(ctx context.Context, a, b repo.Segment) (string, error) {
	x, err := changes.OpenSegment(ctx, o.Repo, a, o.Identities)
	if err != nil {
		return "", err
	}
	y, err := changes.OpenSegment(ctx, o.Repo, b, o.Identities)
	if err != nil {
		return "", errors.Join(err, x.Close())
	}
	err = changes.Agree(x.Decoder, y.Decoder)
	problem := ""
	if text, about := aboutObject(ctx, err); about {
		problem, err = text, nil
	}
	return problem, errors.Join(err, x.Close(), y.Close())
}

// counted is a number with its noun.
func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
