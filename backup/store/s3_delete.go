package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Delete implements Store. Locks are looked up first: where versions are kept, S3 answers every plain DELETE with success and only hides
// the object, a locked one too. In such a bucket a deleted object's old versions stay until a lifecycle rule removes them.
func (s *s3Store) Delete(ctx context.Context, key string) error {
	if err := s.checkKey("delete", key); err != nil {
		return err
	}
	until, err := s.lockOf(ctx, key)
	var e *Error
	switch {
	case errors.Is(err, NotFound):
		return nil
	case errors.As(err, &e):
		return &Error{Op: "delete", Key: key, Kind: e.Kind, Err: e.Err}
	case until.After(time.Now()):
		return &Error{Op: "delete", Key: key, Kind: Locked, Err: fmt.Errorf("until %s", until.UTC().Format(time.RFC3339))}
	}
	err = s.do(ctx, "delete", key, func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.object(key)})
		return err
	})
	if errors.Is(err, NotFound) {
		return nil
	}
	return err
}

// lockOf is when an object's lock ends. A role that may delete need not be allowed to read; it can be allowed to ask for the lock alone
// (s3:GetObjectRetention). Without either right the lock is not known, and the store's own refusal has to do.
func (s *s3Store) lockOf(ctx context.Context, key string) (time.Time, error) {
	info, _, err := s.head(ctx, key)
	if !errors.Is(err, Denied) {
		return info.RetainUntil, err
	}
	var out *s3.GetObjectRetentionOutput
	err = s.do(ctx, "delete", key, func(ctx context.Context) (err error) {
		out, err = s.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.bucket, Key: s.object(key)})
		return err
	})
	switch k := KindOf(err); {
	case err == nil && out.Retention != nil:
		return aws.ToTime(out.Retention.RetainUntilDate), nil
	case k == Interrupted, k == Unreachable, k == Unavailable:
		return time.Time{}, err
	}
	return time.Time{}, nil // no lock, no such object, or no right to know
}
