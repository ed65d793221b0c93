package changes

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// UnsealReader gives a sealed segment's content back. Its io.EOF says that the trailer's hash was right.
type UnsealReader struct {
	zstd *zstd.Decoder
	src  *trailed
}

// NewUnsealReader reads a sealed segment from r. It takes a few frames' memory, whatever r holds. Close it after use.
func NewUnsealReader(r io.Reader, encrypted bool, identities []age.Identity) (*UnsealReader, error) {
	src := &source{r: r}
	var plain io.Reader = src
	if encrypted {
		dec, err := age.Decrypt(src, identities...)
		if err != nil {
			return nil, fmt.Errorf("decrypt segment: %w", src.blame(err))
		}
		plain = dec
	}
	t := &trailed{r: plain, sum: sha256.New(), src: src}
	dec, err := zstd.NewReader(t, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(FrameSize), zstd.WithDecoderMaxMemory(2*FrameSize))
	if err != nil {
		return nil, fmt.Errorf("decompress segment: %w", src.blame(err))
	}
	return &UnsealReader{zstd: dec, src: t}, nil
}

// Read implements io.Reader. Any error that is not the source's own is ErrDamaged.
func (u *UnsealReader) Read(p []byte) (int, error) {
	n, err := u.zstd.Read(p)
	end := errors.Is(err, io.EOF)
	if err == nil || end && u.src.done {
		return n, err
	}
	if end {
		return n, damaged("it ends without its trailer")
	}
	return n, u.src.src.blame(err)
}

// Close frees the buffers. It does not close the source.
func (u *UnsealReader) Close() { u.zstd.Close() }

// source remembers how its reader failed, so that a broken connection is not taken for a damaged segment.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame is the source's own error if it had one, and ErrDamaged because of err otherwise.
func (s *source) blame(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, ErrDamaged):
		return err
	}
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// trailed passes a stream on but for its last trailerLen bytes, and at its end compares them with the hash of the rest.
type trailed struct {
	r    io.Reader
	src  *source
	sum  hash.Hash
	buf  [streamBuffer]byte
	from int // buf[from:to] was read; all of it but the last trailerLen bytes may go out
	to   int
	done bool
}

func (t *trailed) Read(p []byte) (int, error) {
	for empty := 0; t.to-t.from <= trailerLen; {
		t.to = copy(t.buf[:], t.buf[t.from:t.to])
		t.from = 0
		n, err := t.r.Read(t.buf[t.to:])
		t.to += n
		if n > 0 {
			empty = 0
			continue
		}
		if err == io.EOF {
			return 0, t.end()
		}
		if err != nil {
			return 0, err
		}
		if empty++; empty > 100 {
			return 0, io.ErrNoProgress
		}
	}
	n := copy(p, t.buf[t.from:t.to-trailerLen])
	t.sum.Write(t.buf[t.from : t.from+n])
	t.from += n
	return n, nil
}

func (t *trailed) end() error {
	tail := t.buf[t.from:t.to]
	if len(tail) != trailerLen || binary.LittleEndian.Uint32(tail) != trailerMagic || binary.LittleEndian.Uint32(tail[4:]) != sha256.Size {
		return damaged("it ends without its trailer")
	}
	if subtle.ConstantTimeCompare(t.sum.Sum(nil), tail[8:]) != 1 {
		return damaged("its bytes do not have the hash that its trailer says")
	}
	t.done = true
	return io.EOF
}
