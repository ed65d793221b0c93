package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ranged is an object of one store as the source of a Put into another: it can be read again from any place, as a Put that retries does.
type ranged struct {
	ctx     context.Context
	open    func(offset int64) (io.ReadCloser, error)
	size    int64
	advance func(int64)
	// failed is why the object could not be read: then the Put's error is about this side.
	failed error

	at, seen int64
	body     io.ReadCloser
}

func (r *ranged) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.body == nil {
		body, err := r.open(r.at)
		if err != nil {
			r.failed = err
			return 0, err
		}
		r.body = body
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	if r.at > r.seen {
		r.advance(r.at - r.seen)
		r.seen = r.at
	}
	if err != nil && (!errors.Is(err, io.EOF) || r.at < r.size) {
		r.failed = fmt.Errorf("read from the first store: %w", err)
	}
	return n, err
}

// Seek implements io.Seeker; the next Read opens the object there.
func (r *ranged) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return r.at, errors.New("seek before the start")
	}
	if offset != r.at {
		r.close()
	}
	r.at, r.failed = offset, nil
	return offset, nil
}

func (r *ranged) close() {
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
}
