package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
)

// ExportOptions say which restore point becomes a plain file.
type ExportOptions struct {
	Repo       *repo.Repo
	Point      Point
	Identities []age.Identity
	// To is the file to make; it must not exist. When Stream is set, the content goes there instead, once it is checked, by way of the
	// folder Scratch.
	To       string
	Stream   io.Writer
	Scratch  string
	Progress Progress
}

// Exported is the outcome of an export.
type Exported struct {
	ID       repo.SnapshotID `json:"id"` // of the snapshot, or of the one that the rebuild began with
	Revision repo.Revision   `json:"revision"`
	Point    Resolved        `json:"point"`
	File     string          `json:"file,omitempty"`
	Bytes    int64           `json:"bytes"`
	// Rebuilt is what a rebuild found out; nil for a snapshot as it was taken.
	Rebuilt *Rebuilt `json:"rebuilt,omitempty"`
}

// Export writes a restore point as `etcdctl snapshot save` would have: the database and etcd's SHA-256 behind it, for stock etcdutl. Every byte is
// checked before the file gets its name, or before the first byte is streamed. The file is readable by its owner only: it holds the
// cluster's secrets in the clear.
func Export(ctx context.Context, o ExportOptions) (*Exported, error) {
	if o.Stream == nil {
		if _, err := os.Lstat(o.To); err == nil {
			return nil, fail.Refused(fmt.Errorf("%s is already there; nothing is overwritten", o.To), "choose another name, or move it away")
		}
	}
	l, err := Locate(ctx, o.Repo, o.Point, LocateOptions{Identities: o.Identities})
	if err != nil {
		return nil, err
	}
	if err := l.needIdentity(o.Identities); err != nil { // before room is made for it
		return nil, err
	}
	dir := o.Scratch
	if o.Stream == nil {
		dir = filepath.Dir(o.To)
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("export to %s: %w", o.To, err)
		}
	}
	growth, _ := l.Growth()
	s, err := newScratch(dir, l.Snapshot.Database.Size+trailerSize+growth)
	if err != nil {
		return nil, err
	}
	defer s.remove()
	out := &Exported{ID: l.Snapshot.ID, Revision: l.Revision, Point: l.Resolved(), File: o.To}
	if out.Rebuilt, err = o.make(ctx, l, s); err != nil {
		return nil, err
	}
	out.Point = l.Resolved() // with what was found on the way
	if out.Bytes, err = s.f.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("read the scratch file: %w", err)
	}
	return out, o.deliver(ctx, s, out.Bytes)
}

// make puts the point's content into the scratch file.
func (o *ExportOptions) make(ctx context.Context, l *Located, s *scratch) (*Rebuilt, error) {
	m := l.Snapshot
	if err := decode(ctx, o.Repo, m, s, o.Identities, o.Progress.stage("export", m.Object.Size), false); err != nil {
		return nil, wanting(ctx, err)
	}
	if err := checkTrailer(ctx, m, s.path()); err != nil {
		return nil, wanting(ctx, fmt.Errorf("backup %s: %w", m.ID, err))
	}
	if !l.Rebuilt() {
		return nil, nil
	}
	res, err := l.Forward(ctx, o.Repo, MaterialiseOptions{Path: s.path(), Identities: o.Identities, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	return RebuiltFrom(res), addTrailer(ctx, s.f)
}

// addTrailer writes the SHA-256 of a database behind it, as etcd's own stream has it.
func addTrailer(ctx context.Context, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the scratch file: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, &ctxReader{ctx, io.NewSectionReader(f, 0, size)}); err != nil {
		return fmt.Errorf("hash the scratch file: %w", err)
	}
	if _, err := f.WriteAt(h.Sum(nil), size); err != nil {
		return fmt.Errorf("write the scratch file: %w", err)
	}
	return nil
}

// deliver gives the checked file its name, or streams it.
func (o *ExportOptions) deliver(ctx context.Context, s *scratch, size int64) error {
	if o.Stream != nil {
		n, err := io.Copy(o.Stream, &ctxReader{ctx, io.NewSectionReader(s.f, 0, size)})
		if err != nil {
			return fmt.Errorf("write the export after %d bytes: %w", n, err)
		}
		return nil
	}
	err := atomicfile.Commit(s.f, o.To, false)
	if errors.Is(err, os.ErrExist) {
		return fail.Refused(fmt.Errorf("%s appeared meanwhile; nothing is overwritten", o.To), "choose another name, or move it away")
	}
	if err != nil {
		return fmt.Errorf("export to %s: %w", o.To, err)
	}
	return nil
}

// ctxReader ends a copy with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
