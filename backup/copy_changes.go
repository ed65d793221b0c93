package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// CopiedChanges is the outcome for the change log.
type CopiedChanges struct {
	Copied  int   `json:"copied"`
	Skipped int   `json:"skipped"`
	Failed  int   `json:"failed"`
	Bytes   int64 `json:"bytes"` // that went over the wire into the second store
	// Problems are why segments could not be copied, by their names.
	Problems []Damage `json:"problems,omitempty"`
}

const (
	copySegmentWorkers = 8
	// copyBuffer is how large a segment may be to be held in memory between its hash and its way out; larger ones are read twice.
	copyBuffer = 12 << 20
)

// changes copies all segments, byte for byte, and then what is known of the log.
func (c *copier) changes(ctx context.Context, from *repo.Catalog, out *Copied) error {
	there := map[string]int64{}
	for _, s := range c.there.Segments {
		there[s.Key] = s.Size
	}
	problems := make([]string, len(from.Segments))
	var copied, skipped, size atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copySegmentWorkers)
	for i, s := range from.Segments {
		g.Go(func() error {
			if has, ok := there[s.Key]; ok && has == s.Size { // it was hashed on its way, and exclusive when it was put
				skipped.Add(1)
				c.advance(s.Size)
				return nil
			}
			err := c.segment(gctx, s)
			if err == nil {
				copied.Add(1)
				size.Add(s.Size)
				return nil
			}
			problem, about := aboutObject(gctx, err)
			if !about && !errors.Is(err, store.Exists) {
				return err
			}
			if problem == "" {
				problem = err.Error()
			}
			problems[i] = problem
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out.Changes = CopiedChanges{Copied: int(copied.Load()), Skipped: int(skipped.Load()), Bytes: size.Load()}
	for i, p := range problems {
		if p != "" {
			out.Changes.Failed++
			out.Changes.Problems = append(out.Changes.Problems, Damage{Key: from.Segments[i].Key, Problem: p})
		}
	}
	return c.logMarks(ctx, from, out)
}

// segment copies one segment. It has no manifest: what can be checked is the store's own hash of it, its content when that is not encrypted, and
// that what arrives is what was read.
func (c *copier) segment(ctx context.Context, s repo.Segment) error {
	if !s.Encrypted {
		if _, err := (&VerifyOptions{Repo: c.o.From}).segmentContent(ctx, s); err != nil {
			return err
		}
	}
	sum, content, err := c.o.hashSegment(ctx, c.o.From, s)
	if err != nil {
		return err
	}
	src := store.Source{Size: s.Size, SHA256: sum}
	if content != nil {
		src.Reader = bytes.NewReader(content)
	} else {
		again := &ranged{ctx: ctx, size: s.Size, advance: func(int64) {}, open: func(offset int64) (io.ReadCloser, error) {
			return c.o.From.Store().Get(ctx, s.Key, offset, -1)
		}}
		defer again.close()
		src.Reader = again
	}
	err = c.o.To.PutSegment(ctx, s, src)
	exists := errors.Is(err, store.Exists)
	if err != nil && !exists {
		return err
	}
	c.advance(s.Size)
	info, headErr := c.o.To.Store().Head(ctx, s.Key)
	if headErr == nil && info.Size == s.Size && info.SHA256 == sum {
		return nil
	}
	there, _, err := c.o.hashSegment(ctx, c.o.To, s)
	if err != nil {
		return fmt.Errorf("check the copy of segment %s: %w", s.Key, err)
	}
	if there != sum {
		return findingf("segment %s: %s holds other bytes under its name", s.Key, c.o.To.Store())
	}
	return nil
}

// hashSegment reads a segment; content is nil when it is too large to keep.
func (o *CopyOptions) hashSegment(ctx context.Context, r *repo.Repo, s repo.Segment) (sum [32]byte, content []byte, err error) {
	body, err := r.SegmentData(ctx, s)
	if err != nil {
		return sum, nil, err
	}
	h := sha256.New()
	var to io.Writer = h
	var buf bytes.Buffer
	if s.Size <= copyBuffer {
		buf.Grow(int(s.Size))
		to = io.MultiWriter(h, &buf)
	}
	n, err := io.Copy(to, body)
	if err = errors.Join(err, body.Close()); err != nil {
		return sum, nil, fmt.Errorf("read segment %s: %w", s.Key, err)
	}
	h.Sum(sum[:0])
	info, err := r.Store().Head(ctx, s.Key)
	switch {
	case n != s.Size:
		return sum, nil, findingf("segment %s: it has %d bytes, the listing says %d", s.Key, n, s.Size)
	case err != nil && !errors.Is(err, store.Denied):
		return sum, nil, fmt.Errorf("look at segment %s: %w", s.Key, err)
	case err == nil && info.SHA256 != [32]byte{} && info.SHA256 != sum:
		return sum, nil, findingf("segment %s: its bytes do not have the SHA-256 that %s says", s.Key, r.Store())
	}
	if s.Size <= copyBuffer {
		content = buf.Bytes()
	}
	return sum, content, nil
}

// logMarks copies what the recorders said and what was verified. A recorder's mark may be newer than the listing of the segments: then it is set
// back to what was copied.
func (c *copier) logMarks(ctx context.Context, from *repo.Catalog, out *Copied) error {
	for _, t := range from.Recorded {
		rec, ok, err := c.o.From.Recorded(ctx, t)
		if err != nil {
			return err
		}
		if !ok {
			continue // a damaged one is as good as none
		}
		if segs := from.SegmentsOf(t); len(segs) > 0 {
			newest := segs[0]
			for _, s := range segs {
				if s.Last > newest.Last {
					newest = s
				}
			}
			if rec.Through > newest.Last {
				rec.Through, rec.Time = newest.Last, newest.ID.Time()
			}
		}
		if has, ok, err := c.o.To.Recorded(ctx, t); err != nil || ok && reflect.DeepEqual(has, rec) {
			if err != nil {
				return err
			}
			continue
		}
		if err := c.o.To.PutRecorded(ctx, rec); err != nil {
			return err
		}
		out.Documents++
	}
	for _, t := range from.VerifiedChanges {
		wrote, err := c.o.To.TakeVerifiedRanges(ctx, c.o.From, t)
		if err != nil {
			return err
		}
		if wrote {
			out.Documents++
		}
	}
	return nil
}
