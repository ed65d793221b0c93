package rebuild

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

// A change log has a segment for every few seconds in which something changed: thousands of small objects, each of which costs a store's latency.
const (
	// aheadMax is the largest segment that is fetched before it is asked for; the time of a larger one is in its bytes.
	aheadMax = 1 << 20
	// aheadCount is how many of them are under way or wait, and so, times aheadMax, what they take in memory.
	aheadCount = 16
)

// Ahead is FromRepo for segments that are read once and in order: small ones are fetched before their turn, several at a time. stop ends that and waits for it;
// call it when the segments are not used any more.
func Ahead(ctx context.Context, r *repo.Repo, segs []repo.Segment, identities []age.Identity) (out []Segment, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{repo: r, slots: make(chan struct{}, aheadCount)}
	out = FromRepo(r, segs, identities)
	var small []*fetched
	for i, s := range segs {
		if s.Size > aheadMax {
			continue
		}
		f := &fetched{segment: s, done: make(chan struct{})}
		small = append(small, f)
		direct := out[i].Open
		out[i].Open = func(ctx context.Context) (Records, error) {
			if f.taken.Swap(true) {
				return direct(ctx)
			}
			return a.open(ctx, f, identities)
		}
	}
	a.wg.Go(func() { a.fetch(ctx, small) })
	return out, func() {
		cancel()
		a.wg.Wait()
	}
}

// ahead fetches segments in their order.
type ahead struct {
	repo  *repo.Repo
	slots chan struct{} // one for each segment that is being fetched, or was and is not opened yet
	wg    sync.WaitGroup
}

// fetched is a segment's object, or will be when done is closed.
type fetched struct {
	segment repo.Segment
	taken   atomic.Bool
	done    chan struct{}
	data    []byte
	err     error
}

// fetch begins with one segment after the other while there are slots. The segment that is opened next always has one, as they are given in the order of opening.
func (a *ahead) fetch(ctx context.Context, small []*fetched) {
	for _, f := range small {
		select {
		case a.slots <- struct{}{}:
		case <-ctx.Done():
			f.err = ctx.Err()
			close(f.done)
			continue
		}
		a.wg.Go(func() {
			f.data, f.err = a.read(ctx, f.segment)
			close(f.done)
		})
	}
}

func (a *ahead) read(ctx context.Context, s repo.Segment) (data []byte, err error) {
	body, err := a.repo.SegmentData(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := body.Close(); err == nil {
			err = e
		}
	}()
	// What is longer than the listing said is not what was listed, and damage to whoever decodes it.
	if data, err = io.ReadAll(io.LimitReader(body, s.Size+1)); err != nil {
		return nil, fmt.Errorf("read segment %s: %w", s.Key, err)
	}
	return data, nil
}

// open decodes a fetched segment and gives its slot to the next one.
func (a *ahead) open(ctx context.Context, f *fetched, identities []age.Identity) (Records, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, err := f.data, f.err
	f.data = nil
	select {
	case <-a.slots:
	default: // it had none: everything has been stopped
	}
	if err != nil {
		return nil, err
	}
	seg, err := changes.NewSegment(io.NopCloser(bytes.NewReader(data)), f.segment, identities)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", f.segment.Key, err)
	}
	return seg, nil
}
