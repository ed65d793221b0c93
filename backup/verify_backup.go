package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
)

// trailerSize is etcd's SHA-256 behind the database in a snapshot.
const trailerSize = sha256.Size

// check goes as far as the options allow. Its error is about the object (aboutObject) or about the way to it; v says how far it came.
func (o *VerifyOptions) check(ctx context.Context, e repo.Entry, v *Verdict, stage string) error {
	m, err := o.Repo.Manifest(ctx, e)
	if err != nil {
		return err
	}
	v.Bytes = m.Object.Size
	fetch := fetcher(o.Repo, m)
	if m.Object.Encrypted() && len(o.Identities) == 0 {
		v.Note = "bytes only: without an identity it cannot be decrypted"
		return envelope.CheckBytes(ctx, m.Object, fetch, o.Progress.stage(stage, m.Object.Size))
	}
	content := m.Database.Size + trailerSize
	space := content
	if o.Boot != nil {
		space += 2*content + walSpace // what etcdutl builds beside the file, and what etcd writes into it
	}
	s, err := newScratch(o.Scratch, space)
	if err != nil {
		return err
	}
	defer s.remove()
	if err := decode(ctx, o.Repo, m, s, o.Identities, o.Progress.stage(stage, m.Object.Size), true); err != nil {
		return err
	}
	v.Level = repo.LevelDatabase
	if err := checkDatabase(ctx, m, s.path()); err != nil {
		return err
	}
	if o.Boot == nil {
		return nil
	}
	v.Level = repo.LevelDeep
	if v.RestoreSeconds, err = o.Boot(ctx, s.path(), m); err != nil {
		err = fmt.Errorf("boot backup %s: %w", m.ID, err)
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENOMEM) {
			return &finding{err} // its bytes are good, and yet it does not serve what it should
		}
	}
	return err
}

// walSpace is what a new member's write-ahead log takes: two preallocated files of 64 MB.
const walSpace = 128 << 20

func fetcher(r *repo.Repo, m *repo.Manifest) envelope.Fetch {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return r.Data(ctx, m, offset, length)
	}
}

// decode puts a backup's content into a scratch file, and tells a full local disk from a bad backup.
func decode(ctx context.Context, r *repo.Repo, m *repo.Manifest, s *scratch, ids []age.Identity, progress func(int64), whole bool) error {
	err := envelope.Decode(ctx, m.Object, m.Database.Size+trailerSize, fetcher(r, m), s, envelope.DecodeOptions{
		Identities: ids, Progress: progress, WholeObject: whole,
	})
	if local := s.failed(); local != nil {
		return local
	}
	return err
}

// checkDatabase compares a decoded snapshot with its manifest: etcd's trailer, bbolt's own check, and every field that can be read from the bytes.
func checkDatabase(ctx context.Context, m *repo.Manifest, path string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return checkTrailer(gctx, m, path) })
	g.Go(func() error {
		f, err := dbfile.Open(path)
		if err != nil {
			return &finding{err}
		}
		return errors.Join(checkFile(gctx, m, f), f.Close())
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("backup %s: %w", m.ID, err)
	}
	return nil
}

// checkFile opens the database. Its bytes are the ones that were stored, so whatever is wrong now was wrong when they were.
func checkFile(ctx context.Context, m *repo.Manifest, f *dbfile.File) error {
	if err := f.Check(ctx); err != nil {
		return &finding{err}
	}
	info, err := f.Info(ctx)
	if err != nil {
		return &finding{err}
	}
	got := database(info, m.Database.SHA256)
	if diff := differences(m.Database, got); diff != "" {
		return findingf("the database is not what the manifest says: %s", diff)
	}
	return nil
}

// differences names each field that is not the same, as the manifest calls it.
func differences(want, got repo.Database) string {
	var all []string
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		a, b := w.Field(i), g.Field(i)
		same := reflect.DeepEqual(a.Interface(), b.Interface()) || a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0
		if !same {
			name, _, _ := strings.Cut(w.Type().Field(i).Tag.Get("json"), ",")
			all = append(all, fmt.Sprintf("%s is %v, not %v", name, b.Interface(), a.Interface()))
		}
	}
	return strings.Join(all, ", ")
}

// checkTrailer hashes the database and compares with etcd's trailer and with the manifest.
func checkTrailer(ctx context.Context, m *repo.Manifest, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for left := m.Database.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("read the scratch file: %w", err)
		}
		h.Write(buf[:n])
		left -= int64(n)
	}
	var trailer, sum repo.SHA256
	if _, err := io.ReadFull(f, trailer[:]); err != nil {
		return fmt.Errorf("read the scratch file: %w", err)
	}
	h.Sum(sum[:0])
	switch {
	case trailer != m.Database.SHA256:
		return findingf("etcd's trailer says SHA-256 %s, the manifest %s", trailer, m.Database.SHA256)
	case sum != trailer:
		return findingf("the database has SHA-256 %s, its trailer says %s", sum, trailer)
	}
	return nil
}
