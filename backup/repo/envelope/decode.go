package envelope

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// memoryMax bounds what one Decode holds: parts that were fetched ahead, frames, content.
const memoryMax = 80 << 20

// Decode reads an object, whose manifest says o and the length of its content, and writes the content to dst, block by block and in no
// particular order; a nil dst only checks. Every stored byte is checked before anything that depends on it is written: age's authentication, each frame's SHA-256,
// zstd's own checksum, sizes and order. An error leaves dst with some blocks written.
//
// It returns ErrDamaged, ErrNoIdentity (with a hint), or the error of fetch, dst or ctx. Memory is bounded by 80 MiB whatever o says.
// All goroutines have ended when it returns; nothing is written to dst after that.
func Decode(ctx context.Context, o repo.Object, contentSize int64, fetch Fetch, dst io.WriterAt, opts DecodeOptions) error {
	if err := o.Validate(contentSize); err != nil {
		return fmt.Errorf("object %s: %w: %w", o.Key, ErrDamaged, err)
	}
	if o.Encrypted() && len(opts.Identities) == 0 {
		return noIdentity(o, errors.New("none was given"))
	}
	d := &decoding{o: o, content: contentSize, dst: dst}
	decoders, err := d.decoders(opts.Workers)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	d.src = openObject(ctx, g, o, fetch, opts.WholeObject, opts.Progress)
	for _, dec := range decoders {
		g.Go(func() error { return d.decode(ctx, dec) })
	}
	g.Go(func() error {
		defer close(d.work)
		plain, err := d.open(opts)
		if err == nil {
			err = d.split(ctx, plain)
		}
		if err == nil {
			err = d.src.finish(o.SHA256)
		}
		return err
	})
	return g.Wait()
}

type decoding struct {
	o       repo.Object
	content int64
	dst     io.WriterAt
	src     *object
	frames  chan []byte // free buffers
	work    chan frame
}

// frame is one compressed block on its way to a worker.
type frame struct {
	index int
	buf   []byte
}

// decoders makes one for each worker: as many as fit the memory bound, at least one.
func (d *decoding) decoders(wanted int) ([]*decoder, error) {
	var largest int64 = 1
	for _, b := range d.o.Blocks {
		largest = max(largest, b.Size)
	}
	fit := (memoryMax - inFlight*partSize - largest) / (largest + d.o.BlockSize)
	n := max(1, min(workers(wanted, 64), int(fit), len(d.o.Blocks)))
	d.frames, d.work = make(chan []byte, n+1), make(chan frame, n+1)
	for range n + 1 {
		d.frames <- nil
	}
	all := make([]*decoder, n)
	for i := range all {
		var err error
		if all[i], err = newDecoder(int(min(d.o.BlockSize, d.content))); err != nil {
			return nil, fmt.Errorf("open the decompressor: %w", err)
		}
	}
	return all, nil
}

// open gives the stream of frames.
func (d *decoding) open(opts DecodeOptions) (io.Reader, error) {
	if !d.o.Encrypted() {
		return d.src, nil
	}
	plain, err := age.Decrypt(d.src, opts.Identities...)
	var noMatch *age.NoIdentityMatchError
	switch {
	case err == nil:
		return plain, nil
	case d.src.failed() != nil:
		return nil, d.src.failed()
	case errors.As(err, &noMatch) && !HoldsRecipient(d.o.Recipients, opts.Identities):
		from := "given"
		if opts.IdentitiesFrom != "" {
			from = "in " + opts.IdentitiesFrom
		}
		return nil, noIdentity(d.o, fmt.Errorf("none of the identities %s matches", from))
	default: // one of the identities should match: it is the header that is wrong
		return nil, d.src.damaged(0, "age header: %w", err)
	}
}

func noIdentity(o repo.Object, why error) error {
	return fail.Hint(fmt.Errorf("object %s is encrypted to %s: %w: %w", o.Key, strings.Join(o.Recipients, ", "), ErrNoIdentity, why),
		"give the secret key that belongs to one of these public keys: --identity FILE (age-keygen -y FILE shows its public key)")
}

// HoldsRecipient says whether one of the identities belongs to one of the recipients. When it does and an object cannot be opened all the same,
// it is the object that is wrong.
func HoldsRecipient(recipients []string, identities []age.Identity) bool {
	return slices.ContainsFunc(identities, func(id age.Identity) bool {
		switch id := id.(type) {
		case *age.X25519Identity:
			return slices.Contains(recipients, id.Recipient().String())
		case *age.HybridIdentity:
			return slices.Contains(recipients, id.Recipient().String())
		}
		return false
	})
}

// split cuts the stream into frames, as the manifest's table says, and makes sure that nothing comes after the last one.
func (d *decoding) split(ctx context.Context, plain io.Reader) error {
	for i, b := range d.o.Blocks {
		var buf []byte
		select {
		case buf = <-d.frames:
		case <-ctx.Done():
			return ctx.Err()
		}
		if int64(cap(buf)) < b.Size {
			buf = make([]byte, b.Size)
		}
		buf = buf[:b.Size]
		if _, err := io.ReadFull(plain, buf); err != nil {
			return d.streamError(err, i)
		}
		d.work <- frame{index: i, buf: buf} // has room for every buffer
	}
	var extra [1]byte
	switch n, err := io.ReadFull(plain, extra[:]); {
	case n > 0:
		return d.src.damaged(d.src.off, "there is more than the %d blocks that its manifest says", len(d.o.Blocks))
	case err != io.EOF: //nolint:errorlint // io.ReadFull returns this value
		return d.streamError(err, len(d.o.Blocks))
	}
	return nil
}

// streamError tells a failed fetch from bytes that are wrong.
func (d *decoding) streamError(err error, block int) error {
	if failed := d.src.failed(); failed != nil {
		return failed
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the stream ends early")
	}
	return d.src.damaged(d.src.off, "block %d of %d: %w", block+1, len(d.o.Blocks), err)
}

func (d *decoding) decode(ctx context.Context, dec *decoder) error {
	for {
		var f frame
		var ok bool
		select {
		case f, ok = <-d.work:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !ok {
			return nil
		}
		at := int64(f.index) * d.o.BlockSize
		if err := d.block(dec, f, at); err != nil {
			return err
		}
		d.frames <- f.buf
	}
}

func (d *decoding) block(dec *decoder, f frame, at int64) error {
	damaged := func(err error) error {
		return fmt.Errorf("object %s: %w: block %d of %d, content from byte %d: %w", d.o.Key, ErrDamaged, f.index+1, len(d.o.Blocks), at, err)
	}
	if want := d.o.Blocks[f.index].SHA256; sha256.Sum256(f.buf) != want {
		return damaged(errors.New("its SHA-256 is not the one in the manifest"))
	}
	content, err := dec.block(f.buf, int(min(d.o.BlockSize, d.content-at)))
	if err != nil {
		return damaged(err)
	}
	if d.dst == nil {
		return nil
	}
	if _, err := d.dst.WriteAt(content, at); err != nil {
		return fmt.Errorf("write %d bytes of content at byte %d: %w", len(content), at, err)
	}
	return nil
}

// CheckBytes reads an object and compares its length and SHA-256 with what its manifest says. It needs no identity.
func CheckBytes(ctx context.Context, o repo.Object, fetch Fetch, progress func(int64)) error {
	if o.Size <= 0 {
		return fmt.Errorf("object %s: %w: a size of %d bytes", o.Key, ErrDamaged, o.Size)
	}
	g, ctx := errgroup.WithContext(ctx)
	src := openObject(ctx, g, o, fetch, true, progress)
	g.Go(func() error { return src.finish(o.SHA256) })
	return g.Wait()
}
