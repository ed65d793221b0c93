package restore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/klauspost/compress/zstd"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

const (
	// trailerSize is etcd's SHA-256 behind the database in a snapshot; a database's length is a multiple of sectorSize, which tells whether it is there.
	trailerSize = sha256.Size
	sectorSize  = 512
	// maxWindow is what the zstd program itself accepts without being told more.
	maxWindow = 128 << 20
	chunkSize = 1 << 20
)

// kind is what a file is, by its first bytes, whatever its name.
type kind string

const (
	kindDatabase kind = "an etcd database"
	kindZstd     kind = "zstd"
	kindAge      kind = "age"
	kindArmored  kind = "age, armored"
	kindUnknown  kind = "unknown"
)

func sniff(head []byte) kind {
	switch {
	case bytes.HasPrefix(head, []byte("age-encryption.org/")):
		return kindAge
	case bytes.HasPrefix(head, []byte(armor.Header)):
		return kindArmored
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		return kindZstd
	case len(head) >= 20 && (binary.NativeEndian.Uint32(head[16:]) == 0xED0CDAED): // bbolt's first meta page
		return kindDatabase
	}
	return kindUnknown
}

// unpack takes the layers off that a file may have: age, then zstd. close releases the decoder.
func unpack(r io.Reader, identities []age.Identity) (content io.Reader, release func(), err error) {
	layers := 0
	release = func() {}
	for range 3 { // age, zstd, and the database
		b := bufio.NewReaderSize(r, chunkSize)
		head, err := b.Peek(64)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, release, err
		}
		k := sniff(head)
		layers++
		switch {
		case k == kindDatabase:
			return b, release, nil
		case (k == kindAge || k == kindArmored) && layers == 1:
			if r, err = decrypt(b, k, identities); err != nil {
				return nil, release, err
			}
		case k == kindZstd:
			d, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, release, err
			}
			r, release = d, d.Close
		default:
			return nil, release, fail.Hint(errors.New("neither an etcd database nor one in zstd or age"), "give a file that `etcdctl snapshot save` or `steward backup export` wrote, or a data object as it was downloaded")
		}
	}
	return nil, release, errors.New("more layers than age and zstd around a database")
}

func decrypt(r io.Reader, k kind, identities []age.Identity) (io.Reader, error) {
	if len(identities) == 0 {
		return nil, fail.Hint(errors.New("it is encrypted, and there is no identity to open it with"), "give the age identity file with --identity")
	}
	if k == kindArmored {
		r = armor.NewReader(r)
	}
	plain, err := age.Decrypt(r, identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, fail.Hint(fmt.Errorf("decrypt: %w", err), "give the identity of one of the recipients with --identity")
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return plain, nil
}

// target is the database file while it is written.
type target struct{ *os.File }

// WriteAt writes and hands the range to the disk at once.
func (t target) WriteAt(b []byte, offset int64) (int, error) {
	n, err := t.File.WriteAt(b, offset)
	if err == nil {
		writeBack(t.File, offset, int64(n))
	}
	return n, err
}

// digest is the SHA-256 of a stream but for its last bytes, which may be a trailer.
type digest struct {
	hash hash.Hash
	last []byte
}

func (d *digest) write(b []byte) {
	d.last = append(d.last, b...)
	if n := len(d.last) - trailerSize; n > 0 {
		d.hash.Write(d.last[:n])
		d.last = append(d.last[:0], d.last[n:]...)
	}
}

// pour writes a snapshot's content into dst, checks etcd's trailer and cuts it off. It returns the length of the database and its SHA-256.
func pour(ctx context.Context, content io.Reader, dst io.WriterAt, skipHashCheck bool, progress func(done int64)) (size int64, sum repo.SHA256, err error) {
	const depth = 4
	full, free := make(chan []byte, depth), make(chan []byte, depth)
	for range depth {
		free <- make([]byte, chunkSize)
	}
	d := digest{hash: sha256.New()}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for b := range full {
			d.write(b)
			free <- b[:chunkSize]
		}
	}()
	for err == nil {
		b, n := <-free, 0
		if n, err = fillChunk(content, b); n > 0 {
			if _, werr := dst.WriteAt(b[:n], size); werr != nil {
				err = werr
			}
			full <- b[:n]
			size += int64(n)
			progress(size)
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	close(full)
	<-hashed
	if !errors.Is(err, io.EOF) {
		return size, sum, fmt.Errorf("read the snapshot: %w", err)
	}
	return d.check(size, skipHashCheck)
}

// fillChunk is io.ReadFull, but its io.EOF is only ever the reader's own: io.ErrUnexpectedEOF stays what zstd and age say of a file that is cut off.
func fillChunk(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

func (d *digest) check(size int64, skip bool) (int64, repo.SHA256, error) {
	if size%sectorSize != trailerSize {
		d.hash.Write(d.last)
		sum := repo.SHA256(d.hash.Sum(nil))
		if !skip {
			return size, sum, fail.Refused(fmt.Errorf("the snapshot has no SHA-256 at its end (%d bytes)", size),
				"take it again if it was cut off; a db file copied from a data directory has none and may lack its last writes: --skip-hash-check accepts it")
		}
		return size, sum, nil
	}
	got, want := repo.SHA256(d.hash.Sum(nil)), repo.SHA256(d.last)
	if got != want {
		return size, got, fail.New(fail.Wanting, fmt.Errorf("the snapshot is damaged: its SHA-256 is %s, its trailer says %s", got, want), "restore another copy of it, or another backup")
	}
	return size - trailerSize, got, nil
}
