package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

const (
	defaultReadAhead = 2
	// chunkBytes is how many bytes of events travel together; an event that is larger travels alone.
	chunkBytes = 512 << 10
	// chunksAhead is how many chunks of one segment wait to be applied.
	chunksAhead = 2
)

// chunk is a run of a segment's records, copied out of its decoder.
type chunk struct {
	items []item
	data  []byte           // the events' values, one after the other
	marks []changes.Record // the other records
	err   error            // after the items; io.EOF says that the segment is undamaged
	taken chan struct{}    // of a chunk that grew for a large event: closed when it has been used
}

// item is an event, or with keyLen 0 the next of the chunk's marks.
type item struct {
	key    [changes.TombstoneKeyLen]byte
	keyLen int
	size   int
	lease  int64
}

// pipeline decodes segments ahead of whoever takes their chunks, a few at a time.
type pipeline struct {
	wg   sync.WaitGroup
	stop context.CancelFunc
	outs []chan *chunk // one per segment, each closed after a chunk with an error
	free chan *chunk   // chunks to use again
}

// startPipeline begins to decode. The pipeline ends with its segments, with ctx, or with close.
func startPipeline(ctx context.Context, segs []Segment, line repo.Timeline, ahead int) *pipeline {
	if ahead <= 0 {
		ahead = defaultReadAhead
	}
	ctx, stop := context.WithCancel(ctx)
	p := &pipeline{stop: stop, free: make(chan *chunk, (ahead+1)*(chunksAhead+2))}
	for range segs {
		p.outs = append(p.outs, make(chan *chunk, chunksAhead))
	}
	next := make(chan int, len(segs))
	for i := range segs {
		next <- i
	}
	close(next)
	// Segments are taken in order, so the one that is waited for is always among those being decoded.
	for range min(ahead, len(segs)) {
		p.wg.Go(func() {
			for i := range next {
				p.decode(ctx, segs[i], line, p.outs[i])
			}
		})
	}
	return p
}

// close ends the pipeline and waits for its goroutines.
func (p *pipeline) close() {
	p.stop()
	p.wg.Wait()
}

// decode sends one segment's chunks to out.
func (p *pipeline) decode(ctx context.Context, s Segment, line repo.Timeline, out chan<- *chunk) {
	defer close(out)
	c := p.chunk()
	send := func() bool {
		var taken chan struct{}
		if cap(c.data) > 2*chunkBytes {
			taken = make(chan struct{})
			c.taken = taken
		}
		select {
		case out <- c:
		case <-ctx.Done():
			return false
		}
		// Behind a large event nothing is read before it has been used: a queue of them would take a lot of memory.
		if taken != nil {
			select {
			case <-taken:
			case <-ctx.Done():
				return false
			}
		}
		return true
	}
	if c.err = ctx.Err(); c.err == nil {
		c.err = p.read(ctx, s, line, &c, send)
	}
	if !errors.Is(c.err, errStopped) {
		send()
	}
}

// errStopped means that nobody takes the chunks any more.
var errStopped = errors.New("stopped")

// read fills chunks from a segment, and sends the full ones; the last one is for the caller to send, with the error.
func (p *pipeline) read(ctx context.Context, s Segment, line repo.Timeline, c **chunk, send func() bool) (err error) {
	recs, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := recs.Close(); cerr != nil && errors.Is(err, io.EOF) {
			err = cerr
		}
	}()
	if err := checkHeader(recs.Header(), s, line); err != nil {
		return err
	}
	for {
		rec, err := recs.Next()
		if err != nil {
			return err
		}
		if !(*c).room(rec) {
			if !send() {
				return errStopped
			}
			*c = p.chunk()
		}
		(*c).add(rec)
	}
}

// checkHeader holds a segment's header against its name and the timeline; the zero timeline is any.
func checkHeader(h changes.Header, s Segment, line repo.Timeline) error {
	if line.Cut != 0 && h.Timeline != line {
		return fmt.Errorf("%w: it is of timeline %s, not of %s", ErrContradiction, h.Timeline, line)
	}
	if h.First != s.First || h.Last != s.Last {
		return fmt.Errorf("%w: its name says revisions %d to %d, its header %d to %d", changes.ErrDamaged, s.First, s.Last, h.First, h.Last)
	}
	return nil
}

// room says whether the record fits; one always fits into an empty chunk.
func (c *chunk) room(rec *changes.Record) bool {
	return len(c.items) == 0 || len(c.items) < chunkBytes/128 && len(c.marks) < 64 && len(c.data)+len(rec.Event.Value) <= chunkBytes
}

func (c *chunk) add(rec *changes.Record) {
	if rec.Kind != changes.KindEvent {
		m := *rec
		m.Event = changes.Event{}
		m.Leases.Leases = append([]changes.Lease(nil), rec.Leases.Leases...)
		c.marks = append(c.marks, m)
		c.items = append(c.items, item{})
		return
	}
	it := item{key: rec.Event.Key, keyLen: rec.Event.KeyLen, size: len(rec.Event.Value)}
	if !rec.Event.Tombstone() {
		if kv, err := changes.ParseKeyValue(rec.Event.Value); err == nil {
			it.lease = kv.Lease
		}
	}
	c.data = append(c.data, rec.Event.Value...)
	c.items = append(c.items, it)
}

// chunk is an empty one.
func (p *pipeline) chunk() *chunk {
	select {
	case c := <-p.free:
		return c
	default:
		return &chunk{data: make([]byte, 0, chunkBytes)}
	}
}

// release gives a chunk back, unless it grew for a large event.
func (p *pipeline) release(c *chunk) {
	if c.taken != nil {
		close(c.taken)
		return
	}
	*c = chunk{items: c.items[:0], data: c.data[:0], marks: c.marks[:0]}
	select {
	case p.free <- c:
	default:
	}
}
