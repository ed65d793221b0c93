package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
)

// ExportOptions say which backup becomes a plain file.
type ExportOptions struct {
	Repo *repo.Repo
	// ID is the backup's, or Newest.
	ID         repo.SnapshotID
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
	ID       repo.SnapshotID `json:"id"`
	Revision repo.Revision   `json:"revision"`
	File     string          `json:"file,omitempty"`
	Bytes    int64           `json:"bytes"`
}

// Export writes a backup as `etcdctl snapshot save` would have: the database and etcd's SHA-256 behind it, for stock etcdutl. Every byte is
// checked before the file gets its name, or before the first byte is streamed. The file is readable by its owner only: it holds the
// cluster's secrets in the clear.
func Export(ctx context.Context, o ExportOptions) (*Exported, error) {
	if o.Stream == nil {
		if _, err := os.Lstat(o.To); err == nil {
			return nil, fail.Refused(fmt.Errorf("%s is already there; nothing is overwritten", o.To), "choose another name, or move it away")
		}
	}
	_, entries, err := findAll(ctx, o.Repo, []repo.SnapshotID{o.ID})
	if err != nil {
		return nil, err
	}
	m, err := o.Repo.Manifest(ctx, entries[0])
	if err != nil {
		return nil, wanting(ctx, err)
	}
	if m.Object.Encrypted() && len(o.Identities) == 0 { // before room is made for it
		return nil, fail.New(fail.Usage, fmt.Errorf("backup %s is encrypted to %s, and no identity was given", m.ID, strings.Join(m.Object.Recipients, ", ")),
			"give the file with the private key: --identity FILE")
	}
	size := m.Database.Size + trailerSize
	dir := o.Scratch
	if o.Stream == nil {
		dir = filepath.Dir(o.To)
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("export to %s: %w", o.To, err)
		}
	}
	s, err := newScratch(dir, size)
	if err != nil {
		return nil, err
	}
	defer s.remove()
	if err := decode(ctx, o.Repo, m, s, o.Identities, o.Progress.stage("export", m.Object.Size), false); err != nil {
		return nil, wanting(ctx, err)
	}
	if err := checkTrailer(ctx, m, s.path()); err != nil {
		return nil, wanting(ctx, fmt.Errorf("backup %s: %w", m.ID, err))
	}
	out := &Exported{ID: m.ID, Revision: m.Database.Revision, File: o.To, Bytes: size}
	return out, o.deliver(ctx, s, size)
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
