package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"etcd-steward/backup"
	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// fetch brings the database to its place in the working folder, every byte checked, and returns its SHA-256.
func (p *Plan) fetch(ctx context.Context) (sum repo.SHA256, err error) {
	path := datadir.DBPath(p.placement.data.built)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return sum, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var size int64
	if p.manifest != nil {
		sum, err = p.fetchBackup(ctx, f)
		size = p.manifest.Database.Size
	} else {
		size, sum, err = p.fetchFile(ctx, f)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fail.Hint(err, "make room, or restore to another disk with --data-dir")
	}
	if err != nil {
		return sum, err
	}
	return sum, f.Truncate(size)
}

// damagedHint is for a backup whose bytes are not what they were.
const damagedHint = "restore this one from a copy of the repository, or another backup (`steward backup list`): what came after an older one is lost then"

// othersMax is how many other snapshots are tried: of those that can be read, the nearest older one leads there if any does.
const othersMax = 10

// damaged gives damage of the point's snapshot its exit code, and the hint that loses nothing where there is one: another snapshot that leads to the same revision.
func (p *Plan) damaged(ctx context.Context, l *backup.Located, err error) error {
	err = wanting(err, damagedHint)
	if fail.ExitCode(err) != fail.Wanting || fail.HintOf(err) != damagedHint || l == nil {
		return err
	}
	id, ok := p.otherWay(ctx, l)
	if !ok {
		return err
	}
	flags := fmt.Sprintf("--id %s --to-revision %d", id, l.Revision)
	return fail.New(fail.Wanting, err, fmt.Sprintf("the same command with %s (and no other restore point) comes to the same revision from another snapshot, "+
		"whose users and alarms it has; --id alone would lose what was recorded after it", flags))
}

// otherWay is another snapshot that leads to the point, by names and manifests: the nearest older one, else a newer one whose history reaches back. One that a verification
// found bad is none.
func (p *Plan) otherWay(ctx context.Context, l *backup.Located) (repo.SnapshotID, bool) {
	r := p.options.Repo
	c, err := r.Catalog(ctx)
	if err != nil {
		return "", false
	}
	var others []repo.Entry
	for _, e := range c.Backups() {
		if e.Timeline == l.Timeline && e.ID != l.Snapshot.ID {
			others = append(others, e)
		}
	}
	slices.SortFunc(others, func(a, b repo.Entry) int {
		switch older := a.Revision <= l.Revision; {
		case older && b.Revision > l.Revision:
			return -1
		case !older && b.Revision <= l.Revision:
			return 1
		case older:
			return cmp.Or(cmp.Compare(b.Revision, a.Revision), cmp.Compare(b.ID, a.ID))
		}
		return cmp.Compare(a.Revision, b.Revision)
	})
	for _, e := range others[:min(len(others), othersMax)] {
		if v, known, err := r.Verification(ctx, e.ID); err == nil && known && !v.OK {
			continue
		}
		if _, err := backup.Locate(ctx, r, backup.Point{ID: e.ID, Revision: l.Revision}, backup.LocateOptions{Catalog: c}); err == nil {
			return e.ID, true
		}
	}
	return "", false
}

// wanting gives damage that was found its exit code and a hint. Other errors stay as they are.
func wanting(err error, hint string) error {
	for _, damage := range []error{envelope.ErrDamaged, repo.ErrDamaged, repo.ErrNoData, store.Damaged, dbfile.ErrDamaged, datadir.ErrDamaged, changes.ErrDamaged} {
		if errors.Is(err, damage) {
			return fail.New(fail.Wanting, err, hint)
		}
	}
	return err
}

func (p *Plan) fetchBackup(ctx context.Context, f *os.File) (sum repo.SHA256, err error) {
	m, o := p.manifest, p.options
	content := m.Database.Size + trailerSize
	if err := allocate(f, content); err != nil {
		return sum, fmt.Errorf("allocate %d bytes for %s: %w", content, f.Name(), err)
	}
	get := func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return o.Repo.Data(ctx, m, offset, length)
	}
	err = envelope.Decode(ctx, m.Object, content, get, target{f}, envelope.DecodeOptions{
		Identities: o.Identities, IdentitiesFrom: o.IdentitiesFrom, Workers: o.Workers,
		Progress: func(done int64) { o.progress("fetch", done, m.Object.Size) },
	})
	if err != nil {
		return sum, p.damaged(ctx, p.point, fmt.Errorf("fetch backup %s: %w", m.ID, err))
	}
	// The blocks' hashes cover every byte of the content; that etcd's own hash stands behind it says that it is the content which was proven.
	if _, err := f.ReadAt(sum[:], m.Database.Size); err != nil {
		return sum, err
	}
	if sum != m.Database.SHA256 {
		err := fmt.Errorf("fetch backup %s: it ends with the SHA-256 %s, its manifest says %s", m.ID, sum, m.Database.SHA256)
		return sum, p.damaged(ctx, p.point, fail.New(fail.Wanting, err, damagedHint))
	}
	return sum, nil
}

// forward brings the snapshot in its place to the restore point's revision.
func (p *Plan) forward(ctx context.Context) error {
	if p.point == nil || !p.point.Rebuilt() {
		return nil
	}
	o := p.options
	o.at("rebuild")
	res, err := p.point.Forward(ctx, o.Repo, backup.MaterialiseOptions{
		Path: datadir.DBPath(p.placement.data.built), Identities: o.Identities, Progress: backup.Progress(o.Progress),
	})
	if errors.Is(err, syscall.ENOSPC) {
		err = fail.Hint(err, "make room, or restore to another disk with --data-dir")
	}
	if err != nil {
		return err
	}
	p.rebuilt = res
	return nil
}

func (p *Plan) fetchFile(ctx context.Context, f *os.File) (size int64, sum repo.SHA256, err error) {
	o := p.options
	in, err := os.Open(o.File)
	if err != nil {
		return 0, sum, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	content, release, err := unpack(in, o.Identities)
	defer release()
	if err != nil {
		return 0, sum, fileProblem(fmt.Errorf("open %s: %w", o.File, err))
	}
	if p.Source.Size > 0 {
		if err := allocate(f, p.Source.Size+trailerSize); err != nil {
			return 0, sum, fmt.Errorf("allocate %d bytes for %s: %w", p.Source.Size, f.Name(), err)
		}
	}
	size, sum, err = pour(ctx, content, target{f}, o.SkipHashCheck, func(done int64) { o.progress("fetch", done, p.Source.Size) })
	if err != nil {
		return size, sum, fileProblem(fmt.Errorf("restore %s: %w", o.File, err))
	}
	return size, sum, nil
}

// tryFile opens the layers of a file that is no plain database, so that a wrong identity, and what is no snapshot, is found before anything is planned.
func (p *Plan) tryFile(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, release, err := unpack(f, p.options.Identities)
	release()
	if err != nil {
		return fileProblem(fmt.Errorf("open %s: %w", f.Name(), err))
	}
	return nil
}

// fileProblem gives an error about a file's bytes a code and a hint, when it has none of its own.
func fileProblem(err error) error {
	var machine syscall.Errno // a disk that cannot be read says nothing of the file
	switch {
	case fail.HintOf(err) != "", errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ENOSPC):
		return err
	case errors.As(err, &machine):
		return fail.Hint(err, "look for errors of the disk (dmesg), then try again")
	case errors.Is(err, dbfile.ErrInUse):
		return fail.Hint(err, "take a snapshot of it (`etcdctl snapshot save`), or stop what has it open")
	}
	return fail.New(fail.Wanting, err, "the file is not what was written: take another copy of it, or another backup")
}
