package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// probe finds out what goes beyond the common interface.
func (s *s3Store) probe(ctx context.Context, key string, caps *Capabilities) error {
	caps.ConfiguredLock = s.opts.ObjectLock.String()
	var err error
	if caps.ExclusiveParts, err = s.probeParts(ctx, key); err != nil {
		return err
	}
	caps.Versioning = s.probeVersioning(ctx)
	caps.ObjectLock, caps.DefaultLock = s.probeLock(ctx)
	if ctx.Err() != nil {
		return interrupted(ctx, "probe", key)
	}
	if caps.ConfiguredLock != "" && caps.ObjectLock == No {
		return &Error{Op: "probe", Kind: Unsupported, Err: fmt.Errorf("object lock %s is configured, but bucket %s cannot lock objects", caps.ConfiguredLock, s.bucket)}
	}
	return nil
}

// probeParts completes a multipart upload of one small part over the object that is there, if the condition lets it. Some servers honour
// If-None-Match on PutObject alone.
func (s *s3Store) probeParts(ctx context.Context, key string) (Answer, error) {
	api := &uploadAPI{Client: s.client, p: &put{s: s, key: key}}
	text := []byte("etcd-steward tries what this store can do in parts\n")
	sum := sha256.Sum256(text)
	created, err := api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: s.object(key), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return unasked(err)
	}
	// Also after a success that should not have been: then there is nothing to abort.
	defer func() {
		_, _ = api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: s.object(key), UploadId: created.UploadId})
	}()
	part, err := api.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.bucket, Key: s.object(key), UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(text),
	})
	if err != nil {
		return unasked(err)
	}
	err = s.do(ctx, "probe", key, func(ctx context.Context) error {
		_, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &s.bucket, Key: s.object(key), UploadId: created.UploadId, IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{
				PartNumber: aws.Int32(1), ETag: part.ETag, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
			}}},
		})
		return err
	})
	switch {
	case err == nil:
		return No, nil
	case errors.Is(err, Changed):
		return Yes, nil
	case errors.Is(err, Unsupported):
		return No, nil
	}
	return unasked(err)
}

// unasked turns what a role may not do, or a server cannot, into an answer; other failures stay errors.
func unasked(err error) (Answer, error) {
	if k := KindOf(err); k == Denied || k == Unsupported || k == Invalid || k == NotFound {
		return Unasked, nil
	}
	return Unasked, err
}

func (s *s3Store) probeVersioning(ctx context.Context) Answer {
	var out *s3.GetBucketVersioningOutput
	err := s.do(ctx, "probe", "", func(ctx context.Context) (err error) {
		out, err = s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.bucket})
		return err
	})
	switch {
	case err != nil:
		return Unasked
	case out.Status == types.BucketVersioningStatusEnabled:
		return Yes
	}
	return No
}

func (s *s3Store) probeLock(ctx context.Context) (Answer, string) {
	var out *s3.GetObjectLockConfigurationOutput
	err := s.do(ctx, "probe", "", func(ctx context.Context) (err error) {
		out, err = s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.bucket})
		return err
	})
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode() == "ObjectLockConfigurationNotFoundError":
		return No, ""
	case err != nil:
		return Unasked, ""
	}
	c := out.ObjectLockConfiguration
	if c == nil || c.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		return No, ""
	}
	if c.Rule == nil || c.Rule.DefaultRetention == nil {
		return Yes, ""
	}
	days := int(aws.ToInt32(c.Rule.DefaultRetention.Days)) + 365*int(aws.ToInt32(c.Rule.DefaultRetention.Years))
	return Yes, ObjectLock{Mode: string(c.Rule.DefaultRetention.Mode), Days: days}.String()
}
