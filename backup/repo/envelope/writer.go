package envelope

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"etcd-steward/backup/repo"
	"filippo.io/age"
)

// Writer seals content. Write and Close are for one goroutine; Abort may come from any.
//
// Blocks of content go to the workers, frames come back in order to one goroutine that alone writes to the destination. All
// buffers are made once and pass around.
type Writer struct {
	blockSize int
	verify    bool

	ctx    context.Context // ends with the first error, as its cause
	cancel context.CancelCauseFunc
	joined sync.WaitGroup

	free  chan []byte // for content
	outs  chan []byte // for frames
	work  chan *block
	order chan *block
	cur   []byte // content not yet given to a worker
	ended bool   // Close was called

	dst    counted
	plain  io.Writer // dst, or age on it
	age    io.Closer // nil without recipients
	sealed Sealed    // of the writing goroutine until it is joined
}

// block is one piece of content on its way to a frame. Its frame, sum and length of content are set before ready is closed.
type block struct {
	in    []byte
	out   []byte
	sum   [sha256.Size]byte
	size  int64
	ready chan struct{}
}

// NewWriter begins an object on dst and writes the age header. The caller must Close or Abort.
func NewWriter(dst io.Writer, o Options) (*Writer, error) { return newWriter(dst, o, BlockSize) }

func newWriter(dst io.Writer, o Options, blockSize int) (*Writer, error) {
	n := workers(o.Workers, 4)
	w := &Writer{
		blockSize: blockSize, verify: o.VerifyEncoded, dst: counted{w: dst, sum: sha256.New()},
		free: make(chan []byte, n+2), outs: make(chan []byte, n+1), work: make(chan *block, n+2), order: make(chan *block, n+2),
	}
	w.sealed.BlockSize = int64(blockSize)
	w.plain = &w.dst
	if len(o.Recipients) > 0 {
		for _, r := range o.Recipients {
			text, ok := r.(fmt.Stringer)
			if !ok {
				return nil, fmt.Errorf("recipient of type %T has no public key to note in the manifest", r)
			}
			w.sealed.Recipients = append(w.sealed.Recipients, text.String())
		}
		enc, err := age.Encrypt(&w.dst, o.Recipients...)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		w.plain, w.age = enc, enc
	}
	encoders := make([]encoder, n)
	for i := range encoders {
		if err := encoders[i].open(w.verify, blockSize); err != nil {
			return nil, err
		}
	}
	for range n + 2 {
		w.free <- nil // made when first needed
	}
	for range n + 1 {
		w.outs <- nil
	}
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	for i := range encoders {
		w.joined.Go(func() { w.encode(&encoders[i]) })
	}
	w.joined.Go(w.deliver)
	return w, nil
}

// Write takes content in pieces of any size. It blocks while all workers are busy, and fails once the destination has failed or Abort was called.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.ended {
		return 0, errors.New("write to a closed envelope")
	}
	for len(p) > 0 {
		if w.cur == nil {
			if w.cur, err = w.buffer(); err != nil {
				return n, err
			}
		}
		k := copy(w.cur[len(w.cur):w.blockSize], p)
		w.cur = w.cur[:len(w.cur)+k]
		n, p = n+k, p[k:]
		if len(w.cur) == w.blockSize {
			w.submit()
		}
	}
	return n, nil
}

func (w *Writer) buffer() ([]byte, error) {
	if w.ctx.Err() != nil {
		return nil, context.Cause(w.ctx)
	}
	select {
	case b := <-w.free:
		if b == nil {
			b = make([]byte, 0, w.blockSize)
		}
		return b[:0], nil
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
}

// submit never blocks: the queues have room for every buffer.
func (w *Writer) submit() {
	b := &block{in: w.cur, ready: make(chan struct{})}
	w.cur = nil
	w.order <- b
	w.work <- b
}

// Close ends the object and describes it. Only without error is the object whole. The destination is not closed.
func (w *Writer) Close() (Sealed, error) {
	if w.ended {
		return Sealed{}, errors.New("close a closed envelope")
	}
	w.ended = true
	if len(w.cur) > 0 {
		w.submit()
	}
	close(w.work)
	close(w.order)
	w.joined.Wait()
	err := context.Cause(w.ctx)
	w.cancel(nil)
	if err != nil {
		return Sealed{}, err
	}
	return w.sealed, nil
}

// Abort gives up, and returns when nothing is written to the destination any more. It may be called at any time and more than
// once; after Close it does nothing.
func (w *Writer) Abort() {
	w.cancel(ErrAborted)
	w.joined.Wait()
}

// encode takes the buffer for a frame before it takes a block. The other way round, a worker that holds the next block in order could wait for buffers
// that later frames hold.
func (w *Writer) encode(enc *encoder) {
	for {
		var out []byte
		select {
		case out = <-w.outs:
		case <-w.ctx.Done():
			return
		}
		var b *block
		var ok bool
		select {
		case b, ok = <-w.work:
			if !ok {
				return
			}
		case <-w.ctx.Done():
			return
		}
		if out == nil {
			out = enc.room(b.in)
		}
		var err error
		if b.out, err = enc.frame(b.in, out[:0]); err != nil {
			w.cancel(err)
			return
		}
		b.sum, b.size = sha256.Sum256(b.out), int64(len(b.in))
		w.free <- b.in
		close(b.ready)
	}
}

// deliver writes the frames in order, then age's last chunk.
func (w *Writer) deliver() {
	for {
		b, ok := w.next()
		if w.ctx.Err() != nil {
			return
		}
		if !ok {
			break
		}
		if _, err := w.plain.Write(b.out); err != nil {
			w.cancel(fmt.Errorf("write the sealed object: %w", err))
			return
		}
		w.sealed.Blocks = append(w.sealed.Blocks, repo.Block{Size: int64(len(b.out)), SHA256: b.sum})
		w.sealed.ContentSize += b.size
		w.outs <- b.out
	}
	if w.age != nil {
		if err := w.age.Close(); err != nil {
			w.cancel(fmt.Errorf("write the sealed object: %w", err))
			return
		}
	}
	w.sealed.Size = w.dst.n
	w.dst.sum.Sum(w.sealed.SHA256[:0])
}

// next is the next block in order with its frame; false at the end.
func (w *Writer) next() (b *block, ok bool) {
	select {
	case b, ok = <-w.order:
	case <-w.ctx.Done():
	}
	if !ok {
		return nil, false
	}
	select {
	case <-b.ready:
		return b, true
	case <-w.ctx.Done():
		return nil, false
	}
}

// counted hashes and counts what goes through it.
type counted struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	return n, err
}
