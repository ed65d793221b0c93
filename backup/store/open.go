package store

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says where a store is and how to get in.
type Config struct {
	// URL is s3://bucket/prefix or file:///absolute/path.
	URL string
	S3  S3Options
}

// S3Options are for s3:// URLs; the zero value is AWS with the SDK's own credential chain (environment, shared profile,
// web identity, instance role) and region.
type S3Options struct {
	Endpoint  string // URL of the server; "" means AWS. http:// must be said explicitly.
	Region    string // "" means the SDK's chain, then us-east-1 when Endpoint is set
	PathStyle *bool  // endpoint/bucket/key instead of bucket.endpoint/key; nil means: when Endpoint is set
	CAFile    string // PEM; the only authorities that are trusted for the store then

	Profile         string // of the shared AWS config files
	AccessKeyID     string // static credentials, when set
	SecretAccessKey string
	SessionToken    string

	ObjectLock ObjectLock

	PartSize     int64         // of multipart uploads; 0 means 8 MiB; the minimum is 5 MiB
	SinglePutMax int64         // the longest object that goes as one request; 0 means 5 GiB
	DialTimeout  time.Duration // 0 means 10 s
	StallTimeout time.Duration // of a connection on which no byte moves either way; 0 means 2 min
	Attempts     int           // per request, the first included; 0 means 10
	BackoffMax   time.Duration // between attempts; 0 means 10 s

	// Transport, when set, wraps the HTTP transport: tests inject faults with it.
	Transport func(http.RoundTripper) http.RoundTripper
}

// ObjectLock is the retention that a Put with Retain asks for.
type ObjectLock struct {
	Mode string // governance, compliance, or "" for none
	Days int
}

// String leaves the secrets out.
func (o S3Options) String() string {
	return fmt.Sprintf("endpoint=%q region=%q ca_file=%q profile=%q access_key_id=%q", o.Endpoint, o.Region, o.CAFile, o.Profile, o.AccessKeyID)
}

// GoString is String: a %#v must not print secrets either.
func (o S3Options) GoString() string { return o.String() }

// Open makes a store from cfg. For a folder it checks that the folder is there; for S3 it sends nothing yet, so that
// what is wrong with a bucket shows at the first operation, or in Probe.
func Open(ctx context.Context, cfg Config) (Store, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, &Error{Op: "open", Kind: Invalid, Err: fmt.Errorf("store URL: %w", err)}
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, &Error{Op: "open", Kind: Invalid, Err: fmt.Errorf("store URL %s: credentials, queries and fragments have no place in it", u.Redacted())}
	}
	switch u.Scheme {
	case "s3":
		return openS3(ctx, u.Host, strings.Trim(u.Path, "/"), cfg.S3)
	case "file":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return nil, &Error{Op: "open", Kind: Invalid, Err: fmt.Errorf("store URL %q: a folder is file:///absolute/path", cfg.URL)}
		}
		if cfg.S3.ObjectLock != (ObjectLock{}) {
			return nil, &Error{Op: "open", Kind: Unsupported, Err: fmt.Errorf("%s: a folder cannot lock objects; object_lock needs an s3:// store", cfg.URL)}
		}
		return openFile(u.Path)
	default:
		return nil, &Error{Op: "open", Kind: Invalid, Err: fmt.Errorf("store URL %q: want s3://bucket/prefix or file:///path", u.Redacted())}
	}
}

func (o S3Options) withDefaults() (S3Options, error) {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.PartSize, 8<<20)
	def(&o.SinglePutMax, 5<<30)
	def((*int64)(&o.DialTimeout), int64(10*time.Second))
	def((*int64)(&o.StallTimeout), int64(2*time.Minute))
	def((*int64)(&o.BackoffMax), int64(10*time.Second))
	if o.Attempts == 0 {
		o.Attempts = 10
	}
	switch {
	case o.PartSize < 5<<20:
		return o, fmt.Errorf("part size %d is below S3's minimum of 5 MiB", o.PartSize)
	case o.SinglePutMax < 0 || o.SinglePutMax > 5<<30:
		return o, fmt.Errorf("single put maximum %d is not between 0 and 5 GiB", o.SinglePutMax)
	case (o.AccessKeyID == "") != (o.SecretAccessKey == ""):
		return o, fmt.Errorf("an access key ID and a secret access key go together")
	case o.Attempts < 1 || o.DialTimeout < 0 || o.StallTimeout < 0 || o.BackoffMax < 0:
		return o, fmt.Errorf("attempts and timeouts must be positive")
	}
	return o, o.ObjectLock.validate()
}

func (l ObjectLock) validate() error {
	switch l.Mode {
	case "":
		if l.Days != 0 {
			return fmt.Errorf("object lock: %d days but no mode", l.Days)
		}
	case "governance", "compliance":
		if l.Days < 1 || l.Days > 36500 {
			return fmt.Errorf("object lock: %d days is not between 1 and 36500", l.Days)
		}
	default:
		return fmt.Errorf("object lock mode %q: want governance or compliance", l.Mode)
	}
	return nil
}
