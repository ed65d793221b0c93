package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// buffer holds the open segment's records: in memory, or, when one transaction is larger than memory should be, in a file without
// a name.
type buffer struct {
	dir   string
	limit int // bytes held in memory
	mem   []byte
	file  *os.File
	saved int64 // bytes in file; mem follows them
}

// bufferMin is what an idle cluster's buffer has.
const bufferMin = 64 << 10

// Len is the number of bytes in the buffer.
func (b *buffer) Len() int64 { return b.saved + int64(len(b.mem)) }

// Write appends p.
func (b *buffer) Write(p []byte) (int, error) {
	if len(b.mem) > 0 && len(b.mem)+len(p) > b.limit {
		if err := b.spill(); err != nil {
			return 0, err
		}
	}
	if need := len(b.mem) + len(p); need > cap(b.mem) { // doubling leaves less behind than append does
		b.mem = slices.Grow(b.mem, max(need, min(b.limit, max(bufferMin, 2*need)))-len(b.mem))
	}
	b.mem = append(b.mem, p...)
	return len(p), nil
}

func (b *buffer) spill() error {
	if b.file == nil {
		f, err := os.CreateTemp(b.dir, tempPrefix)
		if err != nil {
			return fmt.Errorf("spool a large transaction: %w", err)
		}
		b.file = f
		// Without a name it vanishes with the process.
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("spool a large transaction: %w", err)
		}
	}
	if _, err := b.file.WriteAt(b.mem, b.saved); err != nil {
		return fmt.Errorf("spool a large transaction: %w", err)
	}
	b.saved += int64(len(b.mem))
	b.mem = b.mem[:0]
	return nil
}

// Truncate forgets what follows the first n bytes.
func (b *buffer) Truncate(n int64) {
	if n >= b.saved {
		b.mem = b.mem[:n-b.saved]
		return
	}
	b.saved, b.mem = n, b.mem[:0]
}

// Section reads the bytes from one offset to another; it is of no use after the next change of the buffer.
func (b *buffer) Section(from, to int64) io.Reader {
	var parts []io.Reader
	if from < b.saved {
		parts = append(parts, io.NewSectionReader(b.file, from, min(to, b.saved)-from))
	}
	if to > b.saved {
		parts = append(parts, &sliceReader{b.mem[max(from, b.saved)-b.saved : to-b.saved]})
	}
	return io.MultiReader(parts...)
}

// Reset empties the buffer and gives the file back. Memory is kept, unless one large event had made it large.
func (b *buffer) Reset() error {
	b.mem, b.saved = b.mem[:0], 0
	if cap(b.mem) > 2*b.limit {
		b.mem = nil
	}
	f := b.file
	b.file = nil
	if f == nil {
		return nil
	}
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close a spooled transaction: %w", err)
	}
	return nil
}

type sliceReader struct{ b []byte }

func (s *sliceReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}
