package envelope

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

const (
	partSize = 4 << 20 // of one ranged read
	inFlight = 4       // ranged reads at once, and the parts that are held
)

// object is a stored object read in parallel ranges, as one stream in order. The parts that are fetched ahead are all its memory.
type object struct {
	ctx      context.Context // of the whole decoding
	key      string
	size     int64
	fetch    Fetch
	progress func(int64)
	sum      hash.Hash // of what was read; nil when not asked for

	mu    sync.Mutex // guards next and the order of parts
	next  int64      // offset of the part that nobody fetches yet
	free  chan []byte
	order chan *part

	cur  *part
	rest []byte // of cur
	off  int64  // how far Read has come
	err  error  // sticky: what ended the reading, io.EOF at the end
}

type part struct {
	off   int64
	buf   []byte
	err   error
	ready chan struct{}
}

// openObject starts the fetchers in g; they end when all is fetched or ctx is done.
func openObject(ctx context.Context, g *errgroup.Group, o repo.Object, fetch Fetch, whole bool, progress func(int64)) *object {
	s := &object{ctx: ctx, key: o.Key, size: o.Size, fetch: fetch, progress: progress, free: make(chan []byte, inFlight), order: make(chan *part, inFlight)}
	if whole {
		s.sum = sha256.New()
	}
	for range inFlight {
		s.free <- nil
		g.Go(func() error { return s.fetchAll(ctx) })
	}
	return s
}

// fetchAll claims one part after the other. The buffer comes first, so that whoever holds the earliest part also has its memory.
func (s *object) fetchAll(ctx context.Context) error {
	for {
		p, err := s.claim(ctx)
		if p == nil || err != nil {
			return err
		}
		if !s.fill(ctx, p) {
			return nil
		}
	}
}

// fill fetches a part and hands it to the reader, who reports its error in order.
func (s *object) fill(ctx context.Context, p *part) bool {
	err := s.fetchPart(ctx, p)
	p.err = err
	close(p.ready)
	return err == nil
}

func (s *object) claim(ctx context.Context) (*part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next >= s.size {
		return nil, nil
	}
	select {
	case buf := <-s.free:
		n := min(partSize, s.size-s.next)
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		p := &part{off: s.next, buf: buf[:n], ready: make(chan struct{})}
		s.next += n
		s.order <- p // has room for every buffer
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetchPart reads one part. The last one asks for a byte more than there should be: so an object that has grown is found without another request.
func (s *object) fetchPart(ctx context.Context, p *part) error {
	n := int64(len(p.buf))
	ask := n
	if p.off+n == s.size {
		ask++
	}
	body, err := s.fetch(ctx, p.off, ask)
	if errors.Is(err, store.Invalid) { // a range beyond the end
		return s.damaged(p.off, "it ends before that: its manifest says %d bytes", s.size)
	}
	if err != nil {
		return s.unavailable(p.off, err)
	}
	defer func() { _ = body.Close() }()
	got, err := readUpTo(body, p.buf)
	switch {
	case errors.Is(err, store.Damaged):
		return s.damaged(p.off+int64(got), "%w", err)
	case err != nil:
		return s.unavailable(p.off+int64(got), err)
	case got < len(p.buf):
		return s.damaged(p.off+int64(got), "it ends there: its manifest says %d bytes", s.size)
	}
	if ask > n {
		var extra [1]byte
		if k, err := readUpTo(body, extra[:]); k > 0 {
			return s.damaged(s.size, "it goes on: its manifest says %d bytes", s.size)
		} else if err != nil {
			return s.unavailable(s.size, err)
		}
	}
	return nil
}

// readUpTo fills buf or stops at a clean end. io.ReadFull would hide the difference between an object that ends and a connection that broke,
// which a store's reader reports as io.ErrUnexpectedEOF.
func readUpTo(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if err == io.EOF { //nolint:errorlint // io.Reader's contract is this value
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *object) unavailable(off int64, err error) error {
	return fmt.Errorf("read object %s at byte %d: %w", s.key, off, err)
}

func (s *object) damaged(off int64, format string, args ...any) error {
	return fmt.Errorf("object %s at byte %d: %w: %w", s.key, off, ErrDamaged, fmt.Errorf(format, args...))
}

// Read implements io.Reader. It is for one goroutine.
func (s *object) Read(p []byte) (int, error) {
	if s.err == nil && len(s.rest) == 0 {
		s.err = s.advance()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.rest)
	if s.sum != nil {
		s.sum.Write(s.rest[:n])
	}
	s.rest = s.rest[n:]
	s.off += int64(n)
	return n, nil
}

// advance gives the last part's buffer back and waits for the next part.
func (s *object) advance() error {
	if s.cur != nil {
		s.free <- s.cur.buf
		s.cur = nil
	}
	if s.off == s.size {
		return io.EOF
	}
	var p *part
	select {
	case p = <-s.order:
	case <-s.ctx.Done():
		return s.unavailable(s.off, s.ctx.Err())
	}
	select {
	case <-p.ready:
	case <-s.ctx.Done():
		return s.unavailable(s.off, s.ctx.Err())
	}
	if p.err != nil {
		return p.err
	}
	s.cur, s.rest = p, p.buf
	if s.progress != nil {
		s.progress(s.off)
	}
	return nil
}

// finish reads what is left - nothing, unless someone stopped early - and compares the sum.
func (s *object) finish(want repo.SHA256) error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	if s.sum != nil {
		if got := repo.SHA256(s.sum.Sum(nil)); got != want {
			return s.damaged(0, "its SHA-256 is %s, its manifest says %s", got, want)
		}
	}
	if s.progress != nil {
		s.progress(s.size)
	}
	return nil
}

// failed is why the object could not be read, whatever a reader on top of this one made of it; nil when it could, or ended.
func (s *object) failed() error {
	if s.err == nil || s.err == io.EOF { //nolint:errorlint // set by advance
		return nil
	}
	return s.err
}
