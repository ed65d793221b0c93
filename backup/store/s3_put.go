package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
)

// putIDName is the metadata (x-amz-meta-…) that carries a random ID of the Put which wrote an object. With it a Put recognises
// its own work after a lost answer, whatever the content, and never takes another writer's equal content for its own.
const putIDName = "steward-put"

// put is one call of Put under way.
type put struct {
	s    *s3Store
	key  string
	opts PutOptions
	id   string
	body *verifiedReader
	// uncertain: an attempt failed in a way that does not exclude that it was executed.
	uncertain bool
	lock      types.ObjectLockMode
	until     *time.Time // when the lock ends; nil without one
}

// Put implements Store.
func (s *s3Store) Put(ctx context.Context, key string, src Source, opts PutOptions) (Info, error) {
	if err := checkPut(s.checkKey("put", key), key, src, opts); err != nil {
		return Info{}, err
	}
	single := src.Size != Unknown && src.Size <= s.opts.SinglePutMax
	if single {
		var err error
		if src, single, err = hashed(ctx, src, s.opts.PartSize); err != nil {
			return Info{}, keyed(err, key)
		}
	}
	p := &put{s: s, key: key, opts: opts, id: rand.Text(), body: newVerifiedReader(ctx, src)}
	p.lock, p.until = s.retainUntil(opts)
	if single {
		return p.single(ctx)
	}
	return p.multipart(ctx)
}

// checkPut is what every store refuses.
func checkPut(keyErr error, key string, src Source, opts PutOptions) error {
	invalid := func(text string) error { return &Error{Op: "put", Key: key, Kind: Invalid, Err: errors.New(text)} }
	switch {
	case keyErr != nil:
		return keyErr
	case src.Reader == nil:
		return invalid("a source without a reader")
	case src.Size < Unknown:
		return invalid("a source with a negative size")
	case opts.IfAbsent && opts.IfMatch != "":
		return invalid("a Put cannot ask for absence and for a version at once")
	}
	return nil
}

// keyed says which object a source's failure was about.
func keyed(err error, key string) error {
	var e *Error
	if errors.As(err, &e) {
		e.Key = key
	}
	return err
}

// single sends the object as one request, with its SHA-256 both as S3's checksum and as the signed hash of the payload: whichever of
// the two a server checks, it takes no other bytes. Neither needs the trailers that some servers reject.
func (p *put) single(ctx context.Context) (Info, error) {
	src := p.body.src
	sum := src.SHA256
	in := &s3.PutObjectInput{
		Bucket: &p.s.bucket, Key: p.s.object(p.key), Body: p.body, ContentLength: &src.Size,
		ContentType:    aws.String("application/octet-stream"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		Metadata:       map[string]string{putIDName: p.id},
		ObjectLockMode: p.lock, ObjectLockRetainUntilDate: p.until,
	}
	in.IfNoneMatch, in.IfMatch = p.conditions()
	if src.Size == 0 {
		// The SDK does not read an empty body; a source that is longer than announced must still be noticed.
		if _, err := p.body.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return Info{}, keyed(p.body.failure(err), p.key)
		}
	}
	var made tries
	for {
		out, err := p.s.client.PutObject(ctx, in, withPayloadHash(sum))
		if err == nil {
			return p.info(src.Size, aws.ToString(out.ETag), sum), nil
		}
		if p.body.fault != nil {
			return Info{}, p.sourceFailed()
		}
		f := examine(ctx, err)
		if info, done, err := p.resolve(ctx, f, src.Size); done {
			return info, err
		}
		if !p.body.canRewind() || !p.s.again(ctx, f, &made) {
			return p.giveUp(ctx, f, src.Size, made.n)
		}
		if err := p.body.rewind(); err != nil {
			return Info{}, p.sourceFailed()
		}
	}
}

// info describes what this Put has just written; the time is about right.
func (p *put) info(size int64, etag string, sum [32]byte) Info {
	return Info{Key: p.key, Size: size, ETag: etag, Modified: time.Now(), SHA256: sum, RetainUntil: aws.ToTime(p.until)}
}

func (p *put) conditions() (ifNoneMatch, ifMatch *string) {
	if p.opts.IfAbsent {
		ifNoneMatch = aws.String("*")
	}
	if p.opts.IfMatch != "" {
		ifMatch = &p.opts.IfMatch
	}
	return ifNoneMatch, ifMatch
}

func (p *put) sourceFailed() error {
	return keyed(p.body.failure(p.body.fault), p.key)
}

// resolve looks at what is under the key after a condition was refused, or after an attempt whose outcome is unknown: before all of the
// body is sent again. (A server may refuse a condition while the body is still coming, and close the connection; then its answer is lost.)
// It is done with the Put unless another attempt can still succeed.
func (p *put) resolve(ctx context.Context, f failure, size int64) (Info, bool, error) {
	missed := f.kind == Changed || f.kind == NotFound && p.opts.IfMatch != ""
	missed = missed && (p.opts.IfAbsent || p.opts.IfMatch != "")
	if f.mayBeDone() {
		p.uncertain = true
	}
	if ended(ctx) || !missed && !f.mayBeDone() {
		return Info{}, false, nil
	}
	info, own, err := p.identify(ctx, size)
	if own {
		return info, true, nil
	}
	if !missed {
		return p.doomed(f, info, err)
	}
	var unknown *Error
	if p.uncertain && errors.As(err, &unknown) && unknown.Kind != NotFound {
		err = fmt.Errorf("an answer was lost, and whose object is there now cannot be seen: %w", unknown.Err)
		return Info{}, true, &Error{Op: "put", Key: p.key, Kind: unknown.Kind, Err: err}
	}
	return Info{}, true, p.lost(f.err)
}

// doomed ends a Put of unknown outcome when another's object shows that no further attempt can succeed.
func (p *put) doomed(f failure, there Info, err error) (Info, bool, error) {
	gone := errors.Is(err, NotFound)
	switch {
	case p.opts.IfAbsent && err == nil && there.Key != "",
		p.opts.IfMatch != "" && (gone || err == nil && there.Key != "" && there.ETag != p.opts.IfMatch):
		return Info{}, true, p.lost(f.err)
	}
	return Info{}, false, nil
}

// lost is the error of a Put whose condition does not hold.
func (p *put) lost(cause error) error {
	if p.opts.IfAbsent {
		return &Error{Op: "put", Key: p.key, Kind: Exists, Err: cause}
	}
	if p.uncertain {
		cause = fmt.Errorf("%w; this Put may have been there before", cause)
	}
	return &Error{Op: "put", Key: p.key, Kind: Changed, Err: cause}
}

// identify tells whether the object under the key is the one that this Put wrote: by the Put's ID; by the content where a server
// drops metadata; and where this role may not read, by the size in a listing. A size alone proves little: it counts only after an attempt
// whose outcome is unknown, and only for an exclusive create, where an older object of the same size and name would mean a name used twice.
func (p *put) identify(ctx context.Context, size int64) (Info, bool, error) {
	info, id, err := p.s.head(ctx, p.key)
	switch {
	case err == nil && id != "":
		return info, id == p.id, nil
	case err == nil:
		sum := p.body.src.SHA256
		return info, p.uncertain && sum != [32]byte{} && info.SHA256 == sum && info.Size == size, nil
	case !errors.Is(err, Denied) || !p.uncertain || !p.opts.IfAbsent:
		return Info{}, false, err
	}
	for info, err := range p.s.List(ctx, p.key, "") {
		if err != nil || info.Key != p.key {
			return Info{}, false, err
		}
		return p.info(info.Size, info.ETag, p.body.src.SHA256), info.Size == size, nil
	}
	return Info{}, false, nil
}

// giveUp ends a Put that failed for good. An upload in parts that was completed, and whose answer was lost, is refused at the next attempt as
// unknown: so it looks.
func (p *put) giveUp(ctx context.Context, f failure, size int64, attempts int) (Info, error) {
	if p.uncertain && f.refused && ctx.Err() == nil {
		if info, own, err := p.identify(ctx, size); err == nil && own {
			return info, nil
		}
	}
	return Info{}, f.error(ctx, "put", p.key, attempts)
}

// withPayloadHash signs the known SHA-256 of the body instead of "UNSIGNED-PAYLOAD" (the SDK's choice over TLS), and spares the SDK
// reading the body twice without TLS.
func withPayloadHash(sum [32]byte) func(*s3.Options) {
	text := hex.EncodeToString(sum[:])
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			err := stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("steward:payloadHash",
				func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
					middleware.FinalizeOutput, middleware.Metadata, error,
				) {
					return next.HandleFinalize(v4.SetPayloadHash(ctx, text), in)
				}), "ComputePayloadHash", middleware.Before)
			if err != nil {
				return fmt.Errorf("sign the payload's hash: %w", err)
			}
			return nil
		})
	}
}
