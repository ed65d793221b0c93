package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// errShort, errLong and errOtherBytes say how a source was not what it was announced to be.
var (
	errShort      = fmt.Errorf("the source ended early: %w", io.ErrUnexpectedEOF)
	errLong       = errors.New("the source is longer than announced")
	errOtherBytes = errors.New("the source does not have the announced SHA-256")
)

// verifiedReader gives a source's bytes while it counts and hashes them, and never gives the last ones of a source that is not what it
// was announced to be, nor those of one whose context has ended. Whoever sends its bytes with their length known can therefore not
// complete a wrong object. Its io.EOF comes only when length and hash were right.
type verifiedReader struct {
	ctx   context.Context //nolint:containedctx // an io.Reader has nowhere else to take it from
	src   Source
	start int64 // where in the seeker the source begins
	sum   hash.Hash
	n     int64 // bytes given so far
	err   error // io.EOF, or why the source is bad; sticks until rewound
	fault error // why the source is bad, or nil
}

// newVerifiedReader begins at the source's present position.
func newVerifiedReader(ctx context.Context, src Source) *verifiedReader {
	v := &verifiedReader{ctx: ctx, src: src, sum: sha256.New()}
	if s, ok := src.Reader.(io.Seeker); ok {
		at, err := s.Seek(0, io.SeekCurrent)
		if err != nil {
			// A pipe is an *os.File, hence a Seeker that cannot seek.
			v.src.Reader = struct{ io.Reader }{src.Reader}
		}
		v.start = at
	}
	return v
}

// Len is how many bytes are to come; the SDK asks for it. Only for a known size.
func (v *verifiedReader) Len() int { return int(v.src.Size - v.n) }

// canRewind says whether a failed attempt may start again.
func (v *verifiedReader) canRewind() bool {
	_, ok := v.src.Reader.(io.Seeker)
	return ok || v.n == 0
}

// rewind starts again from the first byte.
func (v *verifiedReader) rewind() error {
	s, ok := v.src.Reader.(io.Seeker)
	if !ok {
		if v.n == 0 {
			return nil
		}
		return errors.New("the source cannot be read again")
	}
	if _, err := s.Seek(v.start, io.SeekStart); err != nil {
		return v.fail(fmt.Errorf("read the source again: %w", err))
	}
	v.sum.Reset()
	v.n, v.err = 0, nil
	return nil
}

// Read implements io.Reader.
func (v *verifiedReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	known := v.src.Size != Unknown
	if known && v.n == v.src.Size {
		return 0, v.end()
	}
	if known {
		p = p[:min(int64(len(p)), v.src.Size-v.n)]
	}
	n, err := v.src.Reader.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	if v.ctx.Err() != nil {
		v.err = interruption(v.ctx, nil)
		return 0, v.err
	}
	switch {
	case err != nil && err != io.EOF:
		return 0, v.fail(fmt.Errorf("read the source: %w", err))
	case known && v.n == v.src.Size:
		// These are the last bytes: they go out only if all of them are right.
		if err := v.end(); !errors.Is(err, io.EOF) {
			return 0, err
		}
		return n, nil
	case err == io.EOF:
		return n, v.end()
	}
	return n, nil
}

// end is io.EOF when the whole source was right.
func (v *verifiedReader) end() error {
	var sum [32]byte
	v.sum.Sum(sum[:0])
	switch {
	case v.src.Size != Unknown && v.n < v.src.Size:
		return v.fail(errShort)
	case v.src.SHA256 != [32]byte{} && sum != v.src.SHA256:
		return v.fail(errOtherBytes)
	}
	if v.src.Size != Unknown {
		var more [1]byte
		n, err := io.ReadFull(v.src.Reader, more[:])
		if n > 0 {
			return v.fail(errLong)
		}
		if err != io.EOF {
			return v.fail(fmt.Errorf("read the source: %w", err))
		}
	}
	v.err = io.EOF
	return io.EOF
}

func (v *verifiedReader) fail(err error) error {
	v.err, v.fault = err, err
	return err
}

// sha256 is the hash of what was read; only after io.EOF.
func (v *verifiedReader) sha256() (sum [32]byte) {
	v.sum.Sum(sum[:0])
	return sum
}

// failure is the error of a Put whose source failed, or whose context ended while the source was read.
func (v *verifiedReader) failure(err error) *Error {
	e := &Error{Op: "put", Kind: SourceFailed, Err: err}
	switch {
	case v.fault == nil:
		e.Kind = Interrupted
	case errors.Is(v.fault, errShort), errors.Is(v.fault, errLong), errors.Is(v.fault, errOtherBytes):
		e.Kind, e.Err = Damaged, v.fault
	default:
		e.Err = v.fault
	}
	return e
}

// hashed returns src with its SHA-256, reading it once if it has to; ok is false when the source can be read only once and the hash is not known.
// Such sources of at most small bytes are held in memory instead, so that a failed attempt can be repeated.
func hashed(ctx context.Context, src Source, small int64) (_ Source, ok bool, err error) {
	known := src.SHA256 != [32]byte{}
	v := newVerifiedReader(ctx, src)
	_, seeks := v.src.Reader.(io.Seeker)
	if known && (seeks || src.Size > small) {
		return src, true, nil
	}
	if seeks {
		if _, err := io.Copy(io.Discard, v); err != nil {
			return src, false, v.failure(err)
		}
		src.SHA256 = v.sha256()
		if err := v.rewind(); err != nil {
			return src, false, v.failure(err)
		}
		return src, true, nil
	}
	if src.Size > small {
		return src, false, nil
	}
	data, err := io.ReadAll(v)
	if err != nil {
		return src, false, v.failure(err)
	}
	return Source{Reader: bytes.NewReader(data), Size: src.Size, SHA256: v.sha256()}, true, nil
}
