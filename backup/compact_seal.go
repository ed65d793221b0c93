package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/internal/fail"
)

// seal writes the object of a snapshot file to dst. What it reads must be what was proven: the hash of it is the file's trailer.
func seal(ctx context.Context, path string, dst *os.File, full rebuild.Full, to []age.Recipient, progress Progress) (sealed envelope.Sealed, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("seal the snapshot: %w", err)
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		return sealed, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := envelope.NewWriter(dst, envelope.Options{Recipients: to})
	if err != nil {
		return sealed, err
	}
	defer w.Abort()
	h := sha256.New()
	src := &counting{r: &ctxReader{ctx, f}, told: progress.stage("seal", full.Size)}
	if _, err := io.Copy(w, io.TeeReader(io.LimitReader(src, full.Size-trailerSize), h)); err != nil {
		return sealed, scratchFull(ctx, err)
	}
	if sum := repo.SHA256(h.Sum(nil)); sum != full.SHA256 {
		return sealed, fmt.Errorf("the file had SHA-256 %s when it was proven, and %s now: its disk is not to be trusted", full.SHA256, sum)
	}
	if n, err := w.Write(full.SHA256[:]); err != nil {
		return sealed, scratchFull(ctx, fmt.Errorf("after %d bytes of the trailer: %w", n, err))
	}
	if sealed, err = w.Close(); err != nil {
		return sealed, scratchFull(ctx, err)
	}
	return sealed, nil
}

// scratchFull says what to do about a file that could not be written.
func scratchFull(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fail.Hint(err, "name a folder with more room with --spool-dir")
}

// counting tells how far a file was read.
type counting struct {
	r    io.Reader
	done int64
	told func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.told(c.done)
	return n, err
}
