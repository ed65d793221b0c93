package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"
	"time"

	"etcd-steward/backup/repo"
)

// content splits a stream into records and hashes it. Its buffer grows only as bytes come, so a length that lies costs nothing.
type content struct {
	r        io.Reader
	sum      hash.Hash
	buf      []byte
	from, to int // buf[from:to] has been read and not been taken
	hashed   int // buf[:hashed] is in sum, buf[hashed:from] is not yet
	before   [sha256.Size]byte
	framed   []byte // the last record with its framing
}

const readSize = 256 << 10

// take returns the next n bytes, valid until the next call.
func (c *content) take(n int) ([]byte, error) {
	if err := c.fill(n); err != nil {
		return nil, err
	}
	b := c.buf[c.from : c.from+n]
	c.from += n
	return b, nil
}

// fill makes n bytes available.
func (c *content) fill(n int) error {
	for c.to-c.from < n {
		if c.from > 0 {
			c.hash()
			c.hashed = 0
			c.to = copy(c.buf, c.buf[c.from:c.to])
			c.from = 0
		}
		if c.to == len(c.buf) {
			// Doubling, so at most twice what really came; and not beyond what is needed.
			c.buf = slices.Grow(c.buf, min(max(readSize, len(c.buf)), n-len(c.buf)+readSize))
			c.buf = c.buf[:cap(c.buf)]
		}
		k, err := c.r.Read(c.buf[c.to:])
		c.to += k
		if k > 0 {
			continue
		}
		if err == io.EOF {
			return damaged("it ends in the middle")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hash brings the hash up to what has been taken; a Splitter has none.
func (c *content) hash() {
	if c.sum != nil {
		c.sum.Write(c.buf[c.hashed:c.from])
	}
	c.hashed = c.from
}

// record returns the next record, valid until the next call. When it is the end record, before is the hash of what precedes it.
func (c *content) record() (Kind, []byte, error) {
	if err := c.fill(1); err != nil {
		return 0, nil, err
	}
	k := Kind(c.buf[c.from])
	if k == kindEnd {
		c.hash()
		c.sum.Sum(c.before[:0])
	}
	size, head, err := c.length(1)
	if err != nil {
		return 0, nil, err
	}
	limit := uint64(MaxOther)
	if k == KindEvent {
		limit = MaxEvent
	}
	if size > limit {
		return 0, nil, damaged("a record %q of %d bytes", k, size)
	}
	b, err := c.take(head + int(size))
	if err != nil {
		return 0, nil, err
	}
	c.framed = b
	return k, b[head:], nil
}

// Splitter walks framed records that are not a segment: a recorder's buffer.
type Splitter struct {
	in   content
	body []byte
}

// NewSplitter reads from r, which holds whole records and nothing else.
func NewSplitter(r io.Reader) *Splitter { return &Splitter{in: content{r: r}} }

// Next returns the next record with its framing, valid until the next call, or io.EOF.
func (s *Splitter) Next() (Kind, []byte, error) {
	if s.in.from == s.in.to {
		n, err := s.in.r.Read(s.in.space())
		if s.in.from, s.in.to = 0, n; n == 0 && err != nil {
			return 0, nil, err
		}
	}
	k, body, err := s.in.record()
	s.body = body
	return k, s.in.framed, err
}

// Body is the last record without its framing, valid until the next call of Next.
func (s *Splitter) Body() []byte { return s.body }

// space is the whole buffer, for a content of which everything has been taken.
func (c *content) space() []byte {
	if c.buf == nil {
		c.buf = make([]byte, readSize)
	}
	return c.buf
}

// length reads the uvarint that follows the next skip bytes, and says how long both are together.
func (c *content) length(skip int) (size uint64, head int, err error) {
	for n := 1; n <= binary.MaxVarintLen32; n++ {
		if err := c.fill(skip + n); err != nil {
			return 0, 0, err
		}
		if c.buf[c.from+skip+n-1] < 0x80 {
			size, k := binary.Uvarint(c.buf[c.from+skip : c.from+skip+n])
			if k != n || n > 1 && c.buf[c.from+skip+n-1] == 0 {
				return 0, 0, damaged("a record's length is not the shortest form")
			}
			return size, skip + n, nil
		}
	}
	return 0, 0, damaged("a record's length has no end")
}

// nothing checks that the stream ends here. It also makes the reader below check its own end.
func (c *content) nothing() error {
	if c.to > c.from {
		return damaged("bytes after the end record")
	}
	var one [1]byte
	for range 100 {
		n, err := c.r.Read(one[:])
		if n > 0 {
			return damaged("bytes after the end record")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// fields reads a record's fields; the first malformed one spoils all that follow.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	return advance(f, v, n)
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	return advance(f, v, n)
}

func advance[T any](f *fields, v T, n int) (zero T) {
	if n <= 0 || f.bad {
		f.bad = true
		return zero
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) revision() repo.Revision {
	v := f.uvarint()
	if v > 1<<63-1 {
		f.bad = true
	}
	return repo.Revision(v)
}

func (f *fields) time() time.Time { return time.Unix(0, f.varint()).UTC() }

func (f *fields) fixed(n int) (v uint64) {
	if f.bad || len(f.b) < n {
		f.bad = true
		return 0
	}
	for _, x := range f.b[:n] {
		v = v<<8 | uint64(x)
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) end() error {
	if f.bad || len(f.b) > 0 {
		return errors.New("a record whose fields do not fill it")
	}
	return nil
}
