// Package store keeps objects: S3 and folders behind one small interface.
//
// It promises the same semantics for both: an object appears whole or not at all, an exclusive create never
// replaces anything, and what was acknowledged is durable. It does not promise that List is complete the moment
// after a Put (some S3 servers are eventually consistent), so nothing that must be right may depend on List.
package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store is a flat space of immutable-by-convention objects. Keys are slash-separated, relative to the prefix of the
// store's URL, and never start or end with a slash. Implementations are safe for concurrent use, and retry what is
// safe to retry (lost responses, 409, 429, 500, 503) by themselves, within the context's deadline.
//
// Every error is an [*Error]; errors.Is(err, NotFound) and so on tell the kinds apart.
type Store interface {
	// Put writes one object from src. It returns only when the object is durable and, when src has a SHA-256, only when
	// the bytes that were stored had that hash. A source that ends before src.Size, or whose bytes do not have src.SHA256,
	// never becomes an object; neither does a Put whose context ends early, and no parts of it stay behind. (A context that
	// ends while the store is already committing the whole object comes too late: then the object may exist.)
	//
	// With IfAbsent, a Put that finds an object of the same key returns Exists and changes nothing - unless that object
	// is the very one that this call wrote (a lost response, then a retry): identity is compared before giving up.
	// With IfMatch, the object is replaced only if its ETag is still that one; otherwise Changed. After a lost answer Changed does not
	// exclude that this Put was done and then replaced by the next writer: what swaps must carry the identity of its writer.
	Put(ctx context.Context, key string, src Source, opts PutOptions) (Info, error)

	// Get reads length bytes from offset; a negative length means to the end. The reader returns io.ErrUnexpectedEOF
	// when fewer bytes came than the object has in that range. A range that goes beyond the object's end is cut there; an
	// offset beyond it is Invalid. Whoever calls Get closes the reader.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Head describes an object, or returns NotFound.
	Head(ctx context.Context, key string) (Info, error)

	// List yields the objects whose key starts with prefix and sorts after the key `after`, in byte order of their keys.
	// It stops at the first error, which it yields last.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes an object. Deleting what is not there is no error. An object under a lock returns Locked.
	Delete(ctx context.Context, key string) error

	// String names the store for people, without secrets: its URL.
	String() string
}

// Source is the content of a Put.
type Source struct {
	// Reader gives the content, from its present position on. When it is also an io.Seeker, a failed attempt is retried from
	// there; otherwise it is spent after one. No more of it is held in memory than the parts that are under way.
	Reader io.Reader
	// Size is the exact length in bytes, or Unknown. A reader that has more is an error, as one that has less.
	Size int64
	// SHA256 of the whole content; the zero value means not known beforehand.
	SHA256 [32]byte
}

// Unknown as a Source's Size: the length is known only at the reader's io.EOF.
const Unknown int64 = -1

// PutOptions are the conditions and the care that a Put asks for.
type PutOptions struct {
	// IfAbsent makes the Put an exclusive create (S3: If-None-Match: *).
	IfAbsent bool
	// IfMatch makes the Put a compare-and-swap on the ETag that an earlier Put, Get or Head returned.
	IfMatch string
	// Retain puts the store's configured Object Lock (mode and days) on the object. Without a configured lock it does nothing.
	Retain bool
}

// Info describes one object.
type Info struct {
	Key      string
	Size     int64
	ETag     string    // opaque; for IfMatch. List may leave it empty.
	Modified time.Time // by the store's clock
	// SHA256 of the content when the store knows it (full-object, not a checksum of part checksums); zero otherwise.
	SHA256 [32]byte
	// RetainUntil is when the object's lock ends; zero without a lock, or when the store did not say (List never does).
	RetainUntil time.Time
}
