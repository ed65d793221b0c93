package repo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/store"
)

// SegmentsRemoved is what became of a plan's segments.
type SegmentsRemoved struct {
	Gone  int   `json:"gone"`
	Bytes int64 `json:"bytes"`
	// Locked is how many stay since the store has them locked, until LockedUntil at most as far as it says.
	Locked      int       `json:"locked,omitempty"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// AddSegments puts removals of segments into a plan, as many as it may name, and returns how many that were. segs are of any timelines, oldest first;
// why gives the reason of each.
func (p *Plan) AddSegments(segs []Segment, why func(Segment) string) int {
	segs = segs[:min(len(segs), planSegmentsMax)]
	for _, s := range segs {
		w := why(s)
		if n := len(p.Segments); n == 0 || p.Segments[n-1].Timeline != s.Timeline || p.Segments[n-1].Why != w {
			p.Segments = append(p.Segments, SegmentRemoval{Timeline: s.Timeline, Why: w})
		}
		last := &p.Segments[len(p.Segments)-1]
		last.Keys = append(last.Keys, s.Key)
		last.Bytes += s.Size
	}
	return len(segs)
}

// validateSegments makes sure that a plan names segments and nothing else.
func (p *Plan) validateSegments() error {
	n := 0
	for _, rm := range p.Segments {
		n += len(rm.Keys)
		for _, key := range rm.Keys {
			s, err := ParseSegmentKey(key)
			if err != nil || s.Timeline != rm.Timeline {
				return fmt.Errorf("prune plan %s: object %q is no segment of timeline %s", p.ID, key, rm.Timeline)
			}
		}
	}
	if n > planSegmentsMax {
		return fmt.Errorf("prune plan %s: %d segments, more than a plan may name", p.ID, n)
	}
	return nil
}

// removeWorkers is how many segments are removed at once.
const removeWorkers = 16

// removeSegments removes a plan's segments. The removal of one segment is one step, so that there is nothing to finish of a prune that was interrupted.
func (r *Repo) removeSegments(ctx context.Context, p *Plan, o ExecuteOptions) (SegmentsRemoved, error) {
	var out SegmentsRemoved
	for _, rm := range p.Segments { // oldest first
		all, err := r.removeKeys(ctx, rm.Keys, o.Now)
		for _, res := range all {
			if res.Gone {
				out.Gone++
				out.Bytes += rm.Bytes / int64(len(rm.Keys)) // a role that may not read data is not told of sizes
				continue
			}
			out.Locked++
			if res.LockedUntil.After(out.LockedUntil) {
				out.LockedUntil = res.LockedUntil
			}
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// removeKeys says what became of those that it came to.
func (r *Repo) removeKeys(ctx context.Context, keys []string, now time.Time) ([]Removed, error) {
	var mu sync.Mutex
	var all []Removed
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(removeWorkers)
	for _, key := range keys {
		g.Go(func() error {
			res, err := r.removeSegment(gctx, key, now)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, res)
			return nil
		})
	}
	err := g.Wait()
	return all, err
}

func (r *Repo) removeSegment(ctx context.Context, key string, now time.Time) (res Removed, err error) {
	ok, err := r.unlocked(ctx, key, now, &res)
	if err != nil || !ok {
		return res, err
	}
	err = r.store.Delete(ctx, key)
	if errors.Is(err, store.Locked) {
		info, _ := r.store.Head(ctx, key)
		res.LockedUntil = info.RetainUntil
		return res, nil
	}
	res.Gone = err == nil
	return res, err
}
