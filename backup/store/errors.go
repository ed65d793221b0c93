package store

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Kind classifies what went wrong, for callers that branch on it and for the hint that a user is shown.
type Kind string

// The kinds. A caller that needs none of them treats the error as final for this attempt.
const (
	// NotFound: there is no such object.
	NotFound Kind = "not found"
	// Exists: an exclusive create found another object under the key.
	Exists Kind = "exists already"
	// Changed: a compare-and-swap found another version than the caller's.
	Changed Kind = "changed by another writer"
	// Denied: the credentials are valid but not allowed to do this.
	Denied Kind = "access denied"
	// BadCredentials: the store does not know the key, or the signature is wrong.
	BadCredentials Kind = "bad credentials"
	// NoBucket: the bucket (or the folder of a file store) does not exist.
	NoBucket Kind = "no such bucket"
	// ClockSkew: this machine's clock is too far from the store's.
	ClockSkew Kind = "clock skew"
	// Unreachable: no connection (name, route, port, timeout).
	Unreachable Kind = "unreachable"
	// Untrusted: the store's certificate is expired, or not signed by a trusted CA, or for another name.
	Untrusted Kind = "certificate not trusted"
	// Locked: an Object Lock forbids the deletion.
	Locked Kind = "locked"
	// NoSpace: the store's disk or quota is full.
	NoSpace Kind = "no space"
	// Damaged: the bytes that were stored or sent are not the ones that were meant.
	Damaged Kind = "damaged"
	// Unsupported: the store cannot do what was asked.
	Unsupported Kind = "not supported by this store"
	// Unavailable: the store answers with server errors or throttles, also after retries.
	Unavailable Kind = "unavailable"
	// Invalid: the request itself was wrong (a key, a URL, a range).
	Invalid Kind = "invalid request"
	// SourceFailed: the reader that a Put was given failed; the store has no part in it.
	SourceFailed Kind = "source failed"
	// Interrupted: the caller's context ended. errors.Is(err, context.Canceled) holds as well when it was cancelled.
	Interrupted Kind = "interrupted"
)

// Error makes a Kind usable with errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is what every Store method returns: which operation failed, on which key, and why.
type Error struct {
	Op   string // put, get, head, list, delete, open
	Key  string // "" when the operation has none
	Kind Kind
	Err  error // the cause, as the SDK or the file system said it
}

// Error is one line: operation, key, kind, cause.
func (e *Error) Error() string {
	s := e.Op
	if e.Key != "" {
		s += " " + e.Key
	}
	s += ": " + string(e.Kind)
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

// Unwrap gives errors.Is both the kind and the cause. It never gives io.EOF: that is how a connection breaks off, too, and whoever reads an object would
// take it for the object's end.
func (e *Error) Unwrap() []error {
	switch {
	case e.Err == nil:
		return []error{e.Kind}
	case errors.Is(e.Err, io.EOF):
		return []error{e.Kind, brokenOff{e.Err}}
	}
	return []error{e.Kind, e.Err}
}

// brokenOff is an error that wraps io.EOF and is no end.
type brokenOff struct{ err error }

func (b brokenOff) Error() string        { return b.err.Error() }
func (b brokenOff) Is(target error) bool { return target != io.EOF && errors.Is(b.err, target) } //nolint:errorlint // this value it is not
func (b brokenOff) As(target any) bool   { return errors.As(b.err, target) }

// KindOf is the kind of err, or "" when it did not come from a store.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

// interrupted is the error of an operation whose context has ended.
func interrupted(ctx context.Context, op, key string) *Error {
	return &Error{Op: op, Key: key, Kind: Interrupted, Err: interruption(ctx, nil)}
}

// interruption keeps the last cause beside the context's own error: "deadline exceeded" alone does not say what was slow.
func interruption(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if ctx.Err() != nil && !errors.Is(cause, ctx.Err()) {
		cause = fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	if last == nil || errors.Is(last, ctx.Err()) {
		return cause
	}
	return fmt.Errorf("%w; last: %w", cause, last)
}
