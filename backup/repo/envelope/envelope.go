// Package envelope turns a snapshot's content into a stored object and back: independent zstd frames of 8 MiB of content, encrypted to age
// recipients, both directions in parallel and in memory that does not grow with the content.
//
// It promises that Decode returns without error only when every byte of the object was checked and the content is exactly what was
// written, and that `age -d | zstd -d` reads the same. It does not know what the content means, nor where objects lie.
package envelope

import (
	"context"
	"errors"
	"io"
	"runtime"

	"filippo.io/age"

	"etcd-steward/backup/repo"
)

// BlockSize is the length of content in every frame but the last. zstd's reference decoder accepts windows of 8 MiB everywhere (RFC 8878, 3.1.1.1.2).
const BlockSize = 8 << 20

// ErrDamaged means that the object's bytes are not the ones that were written, or not what its manifest says. Errors of the store, of
// the destination and of missing keys are not ErrDamaged.
var ErrDamaged = errors.New("object is damaged")

// ErrNoIdentity means that the object is encrypted and none of the identities, or none at all, can read it.
var ErrNoIdentity = errors.New("no age identity that can read it")

// ErrAborted is what a Writer returns after Abort.
var ErrAborted = errors.New("aborted")

// Options say how content is sealed.
type Options struct {
	// Recipients can read the object; none means that it is not encrypted.
	Recipients []age.Recipient
	// Workers compress in parallel; 0 means GOMAXPROCS, at most 4. A Writer holds Workers+2 blocks of content and Workers+1 frames.
	Workers int
	// VerifyEncoded decodes every frame again before it is encrypted and compares it with its content: proof against a bug in the compressor, for
	// a third more CPU time and another block of memory per worker.
	VerifyEncoded bool
}

// Sealed is what a manifest has to know of an object.
type Sealed struct {
	Size        int64 // of the object
	SHA256      repo.SHA256
	BlockSize   int64
	Blocks      []repo.Block
	ContentSize int64
	Recipients  []string // as text; empty for an unencrypted object
}

// Object is the manifest's description of the object, stored under key.
func (s Sealed) Object(key string) repo.Object {
	return repo.Object{Key: key, Size: s.Size, SHA256: s.SHA256, Recipients: s.Recipients, BlockSize: s.BlockSize, Blocks: s.Blocks}
}

// Fetch reads length bytes of the object from offset, fewer only if the object ends. Whoever calls it closes the reader. It is called from several
// goroutines, and once with one byte more than the object should have. Retrying is its own affair.
type Fetch func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// DecodeOptions say how an object is read.
type DecodeOptions struct {
	Identities []age.Identity
	// IdentitiesFrom names where they come from, for messages: a file.
	IdentitiesFrom string
	// Workers decompress in parallel; 0 means GOMAXPROCS, and never more than fit the memory bound of Decode.
	Workers int
	// Progress, when set, is told how many stored bytes were read so far, from one goroutine at a time; at the end it is the object's size.
	Progress func(done int64)
	// WholeObject also compares the SHA-256 of the stored object. Without it every byte is checked as well (age's and the blocks' own sums).
	WholeObject bool
}

func workers(n, most int) int {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
		n = min(n, most)
	}
	return n
}
