package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// forgiveAfter is how much must arrive between two broken reads for the first to be forgiven: a bound on retries that
// does not punish large objects.
const forgiveAfter = 1 << 20

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := s.checkKey("get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, &Error{Op: "get", Key: key, Kind: Invalid, Err: fmt.Errorf("offset %d is negative", offset)}
	}
	if length == 0 {
		return s.emptyRange(ctx, key, offset, nil)
	}
	r := &objectReader{s: s, ctx: ctx, key: key, off: offset, end: -1}
	if length > 0 {
		r.end = offset + length
	}
	if err := r.open(); err != nil {
		if status := httpStatus(err); status == 416 {
			return s.emptyRange(ctx, key, offset, err)
		}
		return nil, err
	}
	return r, nil
}

// emptyRange is a range without bytes, which HTTP has no words for: at the object's end, or of length 0.
func (s *s3Store) emptyRange(ctx context.Context, key string, offset int64, refusal error) (io.ReadCloser, error) {
	info, err := s.Head(ctx, key)
	if err != nil {
		return nil, err
	}
	if offset > info.Size {
		return nil, &Error{Op: "get", Key: key, Kind: Invalid, Err: fmt.Errorf("offset %d is beyond the object's end at %d", offset, info.Size)}
	}
	if offset < info.Size && refusal != nil {
		return nil, refusal
	}
	return io.NopCloser(strings.NewReader("")), nil
}

// objectReader reads a range, and goes on with a new request where a body ends too early.
type objectReader struct {
	s    *s3Store
	ctx  context.Context //nolint:containedctx // an io.Reader has nowhere else to take it from
	key  string
	etag string // of the first answer: the object must not change in between
	off  int64  // next byte, from the object's start
	end  int64  // where the range ends; -1 until the first answer when it was not asked for

	body   io.ReadCloser
	breaks tries // bodies that ended early, since forgiveAfter bytes came
	since  int64 // bytes since the last break
	broken error // what the present body ended with
	err    error // what every further Read returns
}

// open asks for the bytes from off on.
func (r *objectReader) open() error {
	in := &s3.GetObjectInput{Bucket: &r.s.bucket, Key: r.s.object(r.key)}
	ranged := r.off > 0 || r.end >= 0
	if ranged {
		spec := fmt.Sprintf("bytes=%d-", r.off)
		if r.end >= 0 {
			spec += strconv.FormatInt(r.end-1, 10)
		}
		in.Range = &spec
	}
	if r.etag != "" {
		in.IfMatch = &r.etag
	}
	var out *s3.GetObjectOutput
	err := r.s.goOn(r.ctx, "get", r.key, tries{reached: r.etag != ""}, func(ctx context.Context) (err error) {
		out, err = r.s.client.GetObject(ctx, in)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.place(out); err != nil {
		_ = out.Body.Close()
		return &Error{Op: "get", Key: r.key, Kind: Unsupported, Err: err}
	}
	r.body, r.etag = out.Body, aws.ToString(out.ETag)
	return nil
}

// place checks that the answer is the range that was asked for, and learns where it ends.
func (r *objectReader) place(out *s3.GetObjectOutput) error {
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return errors.New("the store answered without a length")
	}
	from := int64(0)
	if cr := aws.ToString(out.ContentRange); cr != "" {
		var to int64
		if _, err := fmt.Sscanf(cr, "bytes %d-%d/", &from, &to); err != nil || to-from+1 != *out.ContentLength {
			return fmt.Errorf("the store answered with the range %q of %d bytes", cr, *out.ContentLength)
		}
	}
	if from != r.off {
		return fmt.Errorf("the store answered from byte %d, not %d", from, r.off)
	}
	end := from + *out.ContentLength
	if r.etag != "" && end != r.end && out.ContentRange != nil {
		return fmt.Errorf("the store answered until byte %d, not %d", end, r.end)
	}
	if r.end < 0 || end < r.end {
		r.end = end // shorter than asked for: the object ends there
	}
	return nil
}

// Read implements io.Reader.
func (r *objectReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.off == r.end {
			r.err = io.EOF
			return 0, io.EOF
		}
		if r.broken == nil {
			n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.off)])
			r.off += int64(n)
			r.since += int64(n)
			r.broken = err // matters only if bytes are missing
			if n > 0 || err == nil {
				return n, nil
			}
		}
		if r.off == r.end {
			continue
		}
		if r.err = r.resume(r.broken); r.err != nil {
			return 0, r.err
		}
		r.broken = nil
	}
}

// resume goes on where a body broke off.
func (r *objectReader) resume(cause error) error {
	if r.since >= forgiveAfter {
		r.breaks = tries{}
	}
	r.since = 0
	_ = r.body.Close()
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	f := failure{kind: Unavailable, transient: r.etag != "", err: fmt.Errorf("the answer broke off at byte %d of %d: %w", r.off, r.end, cause)}
	var err error
	if r.s.again(r.ctx, f, &r.breaks) {
		err = r.open()
	} else {
		err = f.error(r.ctx, "get", r.key, r.breaks.n)
	}
	var e *Error
	if errors.As(err, &e) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Op: e.Op, Key: e.Key, Kind: e.Kind, Err: fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, e.Err)}
	}
	return err
}

// Close implements io.Closer.
func (r *objectReader) Close() error {
	if r.err == nil {
		r.err = errors.New("read after close")
	}
	return r.body.Close()
}
