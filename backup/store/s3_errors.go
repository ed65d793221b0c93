package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/aws/smithy-go"
)

// s3Codes maps the error codes of docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and of the servers that
// speak S3. A code that is not here is judged by its HTTP status.
var s3Codes = map[string]failure{
	"NoSuchKey":     {kind: NotFound},
	"NotFound":      {kind: Invalid}, // the SDK's word for a 404 without a code: see explainHead
	"NoSuchVersion": {kind: NotFound},
	"NoSuchUpload":  {kind: NotFound},

	"PreconditionFailed":         {kind: Changed},
	"ConditionalRequestConflict": {kind: Unavailable, transient: true},
	"OperationAborted":           {kind: Unavailable, transient: true},

	"AccessDenied":          {kind: Denied},
	"AllAccessDisabled":     {kind: Denied},
	"AccountProblem":        {kind: Denied},
	"InvalidAccessKeyId":    {kind: BadCredentials},
	"SignatureDoesNotMatch": {kind: BadCredentials},
	"InvalidToken":          {kind: BadCredentials},
	"ExpiredToken":          {kind: BadCredentials},
	"InvalidSecurity":       {kind: BadCredentials},
	"NotSignedUp":           {kind: BadCredentials},
	"XAdminUserNotFound":    {kind: BadCredentials}, // versitygw's word, with a 404

	"NoSuchBucket":                 {kind: NoBucket},
	"RequestTimeTooSkewed":         {kind: ClockSkew, transient: true},
	"RequestInTheFuture":           {kind: ClockSkew, transient: true},
	"RequestExpired":               {kind: ClockSkew, transient: true},
	"PermanentRedirect":            {kind: Invalid}, // another region
	"TemporaryRedirect":            {kind: Invalid},
	"AuthorizationHeaderMalformed": {kind: Invalid}, // another region, too
	"IllegalLocationConstraint":    {kind: Invalid},
	"InvalidRange":                 {kind: Invalid},

	"QuotaExceeded":               {kind: NoSpace},
	"InsufficientStorage":         {kind: NoSpace},
	"XMinioStorageFull":           {kind: NoSpace},
	"InsufficientCapacity":        {kind: NoSpace},
	"BadDigest":                   {kind: Damaged, transient: true},
	"IncompleteBody":              {kind: Damaged, transient: true},
	"XAmzContentSHA256Mismatch":   {kind: Damaged, transient: true},
	"XAmzContentChecksumMismatch": {kind: Damaged, transient: true},
	"NotImplemented":              {kind: Unsupported},
	"MethodNotAllowed":            {kind: Unsupported},
	"InvalidBucketState":          {kind: Unsupported},
	"SlowDown":                    {kind: Unavailable, transient: true, refused: true},
	"RequestTimeout":              {kind: Unavailable, transient: true},
	"RequestTimeoutException":     {kind: Unavailable, transient: true},
	"Throttling":                  {kind: Unavailable, transient: true, refused: true},
	"ThrottlingException":         {kind: Unavailable, transient: true, refused: true},
	"RequestLimitExceeded":        {kind: Unavailable, transient: true, refused: true},
	"TooManyRequests":             {kind: Unavailable, transient: true, refused: true},
	"ServiceUnavailable":          {kind: Unavailable, transient: true},
	"InternalError":               {kind: Unavailable, transient: true},
}

// examine classifies what one attempt failed of.
func examine(ctx context.Context, err error) failure {
	if ctx.Err() != nil {
		return failure{kind: Interrupted, err: err}
	}
	var own *Error
	if errors.As(err, &own) {
		return failure{kind: own.Kind, refused: true, err: own.Err}
	}
	// Before all else: what a metadata or token service answered, or that there is none, is no word of the store's.
	if strings.Contains(err.Error(), "get identity") {
		f, _ := examineConnection(err)
		return failure{kind: BadCredentials, transient: f.transient, refused: true, err: trimSDK(err)}
	}
	var api smithy.APIError
	status := httpStatus(err)
	if errors.As(err, &api) {
		return examineAPI(api, status, err)
	}
	if f, ok := examineConnection(err); ok {
		return f
	}
	if status >= 300 {
		return byStatus(status, err)
	}
	// An answer that cannot be decoded: cut off, or not S3's.
	return failure{kind: Unavailable, transient: true, err: trimSDK(err)}
}

func examineAPI(api smithy.APIError, status int, err error) failure {
	f, known := s3Codes[api.ErrorCode()]
	if !known {
		f = byStatus(status, err)
	}
	// Both AWS and versitygw answer AccessDenied, and only the text tells a lock from a missing right.
	if strings.Contains(api.ErrorMessage(), "object protected by object lock") {
		f.kind = Locked
	}
	// InvalidRequest, "Bucket is missing Object Lock Configuration"; versitygw spells it without spaces.
	if strings.Contains(strings.ReplaceAll(api.ErrorMessage(), " ", ""), "missingObjectLockConfiguration") {
		f.kind = Unsupported
	}
	f.refused = f.refused || status >= 300 && status < 500
	f.err = &apiError{api: api, status: status, requestID: requestID(err), err: err}
	return f
}

// byStatus judges an answer without a code that is known. A 404 is not NotFound then: it is not S3 that speaks.
func byStatus(status int, err error) failure {
	f := failure{kind: Unavailable, refused: status < 500, err: trimSDK(err)}
	switch status {
	case http.StatusPreconditionFailed:
		f.kind = Changed
	case http.StatusForbidden:
		f.kind = Denied
	case http.StatusUnauthorized:
		f.kind = BadCredentials
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusRequestTimeout:
		f.transient = true
	case http.StatusNotImplemented:
		f.kind = Unsupported
	case http.StatusInsufficientStorage:
		f.kind = NoSpace
	default:
		if status < 500 {
			f.kind = Invalid
		} else {
			f.transient = true
		}
	}
	return f
}

func examineConnection(err error) (failure, bool) {
	cause := err
	var u *url.Error
	if errors.As(err, &u) {
		cause = u.Err // without the method and the URL
	}
	f := failure{kind: Unreachable, transient: true, err: cause}
	var (
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		dns      *net.DNSError
		op       *net.OpError
		netErr   net.Error
	)
	switch {
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid):
		return failure{kind: Untrusted, notSent: true, err: cause}, true
	case errors.As(err, &record), strings.Contains(cause.Error(), "server gave HTTP response to HTTPS client"):
		return failure{kind: Unreachable, notSent: true, err: fmt.Errorf("the endpoint does not speak TLS: %w", cause)}, true
	case errors.As(err, &dns):
		f.notSent, f.transient = true, !dns.IsNotFound
		return f, true
	case errors.As(err, &op) && op.Op == "dial":
		f.notSent = true
		return f, true
	case errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), u != nil:
		return f, true
	}
	return failure{}, false
}

func httpStatus(err error) int {
	var re interface{ HTTPStatusCode() int }
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}

func requestID(err error) string {
	var re interface{ ServiceRequestID() string }
	if errors.As(err, &re) {
		return re.ServiceRequestID()
	}
	return ""
}

// trimSDK drops the SDK's outermost words, which repeat ours.
func trimSDK(err error) error {
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// apiError says in one short line what the SDK spreads over several clauses.
type apiError struct {
	api       smithy.APIError
	status    int
	requestID string
	err       error
}

// Error implements error.
func (e *apiError) Error() string {
	text := e.api.ErrorCode()
	if m := e.api.ErrorMessage(); m != "" && m != text {
		text += ": " + m
	}
	text = fmt.Sprintf("%s (HTTP %d", text, e.status)
	if e.requestID != "" {
		text += ", request " + e.requestID
	}
	return text + ")"
}

// Unwrap gives the SDK's error.
func (e *apiError) Unwrap() error { return e.err }
