package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	tm "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	partConcurrency = 4
	partsMax        = 10000 // S3's limit
	// abandonTimeout bounds what is still sent after the caller's context has ended: the abort, and a create under way.
	abandonTimeout = 30 * time.Second
)

// multipart sends a source whose length is not known, that is longer than one request may be, or that can be read only once without its
// hash being known. Memory: about (partConcurrency+3) parts.
func (p *put) multipart(ctx context.Context) (Info, error) {
	api := &uploadAPI{Client: p.s.client, p: p}
	manager := tm.New(api, func(o *tm.Options) {
		o.PartSizeBytes = p.s.opts.PartSize
		o.MultipartUploadThreshold = p.s.opts.PartSize
		o.Concurrency = partConcurrency
		o.MaxUploadParts = partsMax
		// Without it a cancelled upload is not aborted and its parts stay, invisible and paid for.
		o.FailTimeout = abandonTimeout
		// Declares SHA-256 part checksums; uploadAPI gives them as values, so that no trailer is sent.
		o.ChecksumAlgorithm = tmtypes.ChecksumAlgorithmSha256
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	in := &tm.UploadObjectInput{
		Bucket: &p.s.bucket, Key: p.s.object(p.key), Body: p.body,
		ContentType:    aws.String("application/octet-stream"),
		Metadata:       map[string]string{putIDName: p.id},
		ObjectLockMode: tmtypes.ObjectLockMode(p.lock), ObjectLockRetainUntilDate: p.until,
	}
	in.IfNoneMatch, in.IfMatch = p.conditions()
	if p.body.src.Size > 0 {
		in.ContentLength = &p.body.src.Size // so that parts get larger when there would be too many
	}
	out, err := manager.UploadObject(ctx, in)
	switch {
	case p.body.fault != nil:
		return Info{}, p.sourceFailed()
	case api.failed != nil:
		return api.result, *api.failed
	case err != nil:
		f := examine(ctx, err)
		return Info{}, f.error(ctx, "put", p.key, 1)
	}
	info := p.info(p.body.n, aws.ToString(out.ETag), p.body.sha256())
	if api.result.Key != "" {
		info.ETag = api.result.ETag
	}
	return info, nil
}

// uploadAPI stands between the transfer manager and the client: it retries each request our way, gives checksums as values, and keeps
// the ends of an upload (complete, abort) to itself, since the manager cannot tell a lost answer from a failure and
// writes to the standard logger.
type uploadAPI struct {
	*s3.Client
	p      *put
	result Info   // set when the object was recognised as ours, or the outcome was decided here
	failed *error // set when completing failed; the manager was told that it succeeded
}

var _ tm.S3APIClient = (*uploadAPI)(nil)

// sumOf hashes a part, which the manager holds in memory.
func sumOf(body io.Reader) (sum [32]byte, size int64, err error) {
	r, ok := body.(*bytes.Reader)
	if !ok {
		return sum, 0, fmt.Errorf("the transfer manager sent a %T as a part", body)
	}
	h := sha256.New()
	if size, err = r.WriteTo(h); err != nil {
		return sum, 0, err
	}
	_, err = r.Seek(0, io.SeekStart)
	return [32]byte(h.Sum(nil)), size, err
}

// PutObject sends a source that turned out to fit into one part.
func (u *uploadAPI) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	sum, size, err := sumOf(in.Body)
	if err != nil {
		return nil, err
	}
	one := *u.p
	one.body = newVerifiedReader(ctx, Source{Reader: in.Body, Size: size, SHA256: sum})
	info, err := one.single(ctx)
	if err != nil {
		u.failed = &err
		return nil, err
	}
	u.result = info
	return &s3.PutObjectOutput{ETag: &info.ETag}, nil
}

// CreateMultipartUpload is not cancelled with the caller's context: an upload whose ID nobody learned cannot be aborted.
func (u *uploadAPI) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (
	out *s3.CreateMultipartUploadOutput, err error,
) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	err = u.p.s.do(ctx, "put", u.p.key, func(ctx context.Context) (err error) {
		out, err = u.Client.CreateMultipartUpload(ctx, in)
		return err
	})
	return out, err
}

// UploadPart implements tm.S3APIClient.
func (u *uploadAPI) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (out *s3.UploadPartOutput, err error) {
	sum, size, err := sumOf(in.Body)
	if err != nil {
		return nil, err
	}
	part := *in
	part.ChecksumAlgorithm = ""
	part.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	part.ContentLength = &size
	body := in.Body.(*bytes.Reader)
	err = u.p.s.do(ctx, "put", u.p.key, func(ctx context.Context) error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		out, err = u.Client.UploadPart(ctx, &part, withPayloadHash(sum))
		return err
	})
	return out, err
}

// CompleteMultipartUpload makes the parts an object. On failure it aborts the upload itself and reports success to the manager; the Put's
// outcome is in u.failed then.
func (u *uploadAPI) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (
	*s3.CompleteMultipartUploadOutput, error,
) {
	var made tries
	for {
		out, err := u.Client.CompleteMultipartUpload(ctx, in)
		if err == nil {
			return out, nil
		}
		f := examine(ctx, err)
		info, done, err := u.p.resolve(ctx, f, u.p.body.n)
		// A completed upload is no upload any more: a retry after a lost answer finds none.
		if !done && !u.p.s.again(ctx, f, &made) {
			info, err = u.p.giveUp(ctx, f, u.p.body.n, made.n)
			done = true
		}
		if !done {
			continue
		}
		if err == nil {
			u.result = info
			return &s3.CompleteMultipartUploadOutput{ETag: &info.ETag}, nil
		}
		abort := &s3.AbortMultipartUploadInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId}
		if _, abortErr := u.AbortMultipartUpload(ctx, abort); abortErr != nil {
			err = withNote(err, "the upload could not be aborted: %w", abortErr)
		}
		u.failed = &err
		return &s3.CompleteMultipartUploadOutput{}, nil
	}
}

// AbortMultipartUpload removes the parts; it must work after the caller's context has ended.
func (u *uploadAPI) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (
	out *s3.AbortMultipartUploadOutput, err error,
) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	err = u.p.s.do(ctx, "put", u.p.key, func(ctx context.Context) (err error) {
		out, err = u.Client.AbortMultipartUpload(ctx, in)
		return err
	})
	if errors.Is(err, NotFound) {
		return &s3.AbortMultipartUploadOutput{}, nil
	}
	return out, err
}

// withNote adds to the cause of a store error and keeps its kind.
func withNote(err error, format string, note error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	noted := *e
	noted.Err = fmt.Errorf("%w; "+format, e.Err, note)
	return &noted
}
