package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
)

// s3Store is a prefix in a bucket.
type s3Store struct {
	client *s3.Client
	bucket string
	prefix string // without slashes at its ends, may be empty
	opts   S3Options
}

var _ Store = (*s3Store)(nil)

func openS3(ctx context.Context, bucket, prefix string, opts S3Options) (Store, error) {
	invalid := func(err error) error { return &Error{Op: "open", Kind: Invalid, Err: err} }
	if bucket == "" {
		return nil, invalid(errors.New("store URL names no bucket: want s3://bucket/prefix"))
	}
	if prefix != "" {
		if err := validatePath(prefix); err != nil {
			return nil, invalid(fmt.Errorf("store URL: %w", err))
		}
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, invalid(fmt.Errorf("s3 options: %w", err))
	}
	transport, err := newTransport(opts)
	if err != nil {
		return nil, invalid(fmt.Errorf("s3 options: %w", err))
	}
	load := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}), config.WithClientLogMode(0), config.WithAppID("etcd-steward"),
	}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(opts.Profile))
	}
	if opts.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(opts.AccessKeyID, opts.SecretAccessKey, opts.SessionToken)))
	}
	// The SDK's own HTTP client stays in place for credentials: the store's CA file says nothing about STS or the metadata service.
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, &Error{Op: "open", Kind: BadCredentials, Err: fmt.Errorf("load the AWS configuration: %w", err)}
	}
	if cfg.Region == "" {
		if opts.Endpoint == "" && cfg.BaseEndpoint == nil {
			return nil, invalid(errors.New("no region: set s3.region (or AWS_REGION)"))
		}
		cfg.Region = "us-east-1"
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { s3ClientOptions(o, opts, transport) })
	return &s3Store{client: client, bucket: bucket, prefix: prefix, opts: opts}, nil
}

// s3ClientOptions spells out every option that decides about bytes or safety.
func s3ClientOptions(o *s3.Options, opts S3Options, transport http.RoundTripper) {
	if opts.Endpoint != "" {
		o.BaseEndpoint = aws.String(opts.Endpoint)
	}
	o.UsePathStyle = opts.Endpoint != ""
	if opts.PathStyle != nil {
		o.UsePathStyle = *opts.PathStyle
	}
	o.HTTPClient = &http.Client{
		Transport: transport,
		// A redirect means a wrong region or endpoint. Following it would send signed requests to whom nobody chose.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// Retries are ours (s3_retry.go): the SDK does not retry 409, gives up for good when its quota is empty, and does not
	// tell whether a failed attempt may have been executed.
	o.Retryer = aws.NopRetryer{}
	// Checksums of our own choice, as values in headers: what the SDK adds by itself goes as a trailer over TLS, which
	// Ceph, R2 and others reject.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	// Readers check content hashes of their own; ranges have no checksum anyway.
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	o.DisableLogOutputChecksumValidationSkipped = true
	o.ClientLogMode = 0
	o.Logger = logging.Nop{}
	// A body of more than this waits until the server has agreed to take it (100-continue), so that a refusal costs no upload.
	o.ContinueHeaderThresholdBytes = 1 << 20
}

// String implements Store.
func (s *s3Store) String() string { return strings.TrimSuffix("s3://"+s.bucket+"/"+s.prefix, "/") }

// object is the key inside the bucket.
func (s *s3Store) object(key string) *string { return aws.String(joinKey(s.prefix, key)) }

func (s *s3Store) checkKey(op, key string) error {
	err := ValidateKey(key)
	if err == nil && len(joinKey(s.prefix, key)) > keyMax {
		err = fmt.Errorf("key %q is too long under the prefix %q", key, s.prefix)
	}
	if err != nil {
		return &Error{Op: op, Key: key, Kind: Invalid, Err: err}
	}
	return nil
}

// Head implements Store.
func (s *s3Store) Head(ctx context.Context, key string) (Info, error) {
	info, _, err := s.head(ctx, key)
	return info, err
}

// head also returns the ID of the Put that wrote the object, if it has one.
func (s *s3Store) head(ctx context.Context, key string) (Info, string, error) {
	if err := s.checkKey("head", key); err != nil {
		return Info{}, "", err
	}
	var out *s3.HeadObjectOutput
	err := s.do(ctx, "head", key, func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{
			Bucket: &s.bucket, Key: s.object(key), ChecksumMode: types.ChecksumModeEnabled,
		})
		return err
	})
	if err != nil {
		return Info{}, "", s.explainHead(ctx, key, err)
	}
	info := Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
		SHA256:      fullSHA256(aws.ToString(out.ChecksumSHA256), out.ChecksumType),
		RetainUntil: aws.ToTime(out.ObjectLockRetainUntilDate),
	}
	return info, out.Metadata[putIDName], nil
}

// explainHead finds the reason of a refused HEAD, whose answer has no body and so no error code: a GET of one byte has. Above all, a 404 may
// come from a server that knows neither the bucket nor S3, and must not pass for "no such object" then.
func (s *s3Store) explainHead(ctx context.Context, key string, err error) error {
	if k := KindOf(err); k != Denied && k != Invalid {
		return err
	}
	r := &objectReader{s: s, ctx: ctx, key: key, end: 1}
	getErr := r.open()
	if getErr == nil {
		_ = r.body.Close() // made meanwhile, or HEAD alone is refused
		if httpStatus(err) == http.StatusNotFound {
			return &Error{Op: "head", Key: key, Kind: NotFound, Err: err}
		}
		return err
	}
	var e *Error
	if errors.As(getErr, &e) {
		return &Error{Op: "head", Key: key, Kind: e.Kind, Err: e.Err}
	}
	return err
}

// fullSHA256 decodes a checksum of the whole object; checksums over part checksums ("…-3", COMPOSITE) are none.
func fullSHA256(value string, kind types.ChecksumType) (sum [32]byte) {
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(b) != len(sum) || kind == types.ChecksumTypeComposite {
		return sum
	}
	return [32]byte(b)
}

// retainUntil is the lock that a Put with Retain asks for.
func (s *s3Store) retainUntil(opts PutOptions) (types.ObjectLockMode, *time.Time) {
	if !opts.Retain || s.opts.ObjectLock.Mode == "" {
		return "", nil
	}
	until := time.Now().AddDate(0, 0, s.opts.ObjectLock.Days).UTC()
	return types.ObjectLockMode(strings.ToUpper(s.opts.ObjectLock.Mode)), &until
}
