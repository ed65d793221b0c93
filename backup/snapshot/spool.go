package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/internal/fail"
)

// Spool is one snapshot on local disk: the raw database and the sealed object that is uploaded. The files have no names, so that whatever
// ends the process frees the disk.
type Spool struct {
	// Revision and CompactRevision are read from the spooled bytes.
	Revision, CompactRevision repo.Revision
	// Sealed describes the sealed object: the database and the trailer, compressed and encrypted.
	Sealed envelope.Sealed
	// SHA256 is etcd's trailer, which the database's Size bytes were found to have.
	SHA256 repo.SHA256
	Size   int64
	// EtcdVersion is the member's.
	EtcdVersion string
	// Seconds is how long the stream took, until the sealed object was whole.
	Seconds float64

	dir     string
	raw     *os.File
	object  *os.File
	written int64
	iovecs  [][]byte
}

// newSpool makes the folder and the files, when the disk has room for them.
func newSpool(o SpoolOptions, size int64) (*Spool, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool folder: %w", err)
	}
	if err := checkDisk(o.Dir, size); err != nil {
		return nil, err
	}
	s := &Spool{dir: o.Dir}
	var err error
	if s.raw, err = nameless(o.Dir); err == nil {
		s.object, err = nameless(o.Dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the spool: %w", err), s.Close())
	}
	return s, nil
}

// spoolPattern names a spool's file for the moment that it has a name.
const spoolPattern = "snapshot-*.spool"

// nameless makes a file of mode 0600 and takes its name away.
func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, spoolPattern)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// CleanSpool removes what a run that was killed while it made a spool left in the folder. Runs that spool there meanwhile are not
// disturbed. A folder that does not exist is clean.
func CleanSpool(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, spoolPattern))
	for _, path := range left {
		if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("clean the spool folder: %w", err)
	}
	return nil
}

// seal begins the sealed object. Two workers compress 1 GB/s, more than any member sends; each has 8 MiB blocks in hand.
func (s *Spool) seal(o SpoolOptions) (*envelope.Writer, error) {
	return envelope.NewWriter(&objectFile{f: s.object, dir: s.dir}, envelope.Options{Recipients: o.Recipients, Workers: 2})
}

// reserve takes the disk for the whole database, and looks whether enough is left.
func (s *Spool) reserve(total int64) error {
	if err := allocate(s.raw, 0, total); err != nil {
		return spoolError(s.dir, err)
	}
	return checkReserve(s.dir)
}

// write spools a batch of the database. It is not made durable: a spool is worth nothing to the next run.
func (s *Spool) write(b *batch) error {
	s.iovecs = append(s.iovecs[:0], b.pieces...)
	for vecs := s.iovecs; len(vecs) > 0; {
		n, err := unix.Writev(int(s.raw.Fd()), vecs[:min(len(vecs), maxIovecs)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return spoolError(s.dir, err)
		}
		for s.written += int64(n); n > 0 && n >= len(vecs[0]); vecs = vecs[1:] {
			n -= len(vecs[0])
		}
		if n > 0 {
			vecs[0] = vecs[0][n:]
		}
	}
	if s.written/checkEvery != (s.written-int64(b.size))/checkEvery {
		return checkReserve(s.dir)
	}
	return nil
}

const maxIovecs = 1024 // Linux's IOV_MAX

// spoolError says what a full disk means.
func spoolError(dir string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return diskFull(dir, 0)
	}
	return fail.Hint(fmt.Errorf("write to the spool folder %s: %w", dir, err), "look at the disk of the spool folder")
}

// objectFile is the sealed object's file: it allocates ahead, and says what a full disk means.
type objectFile struct {
	f         *os.File
	dir       string
	written   int64
	allocated int64
}

// allocateStep is how far ahead of a file that grows disk is allocated.
const allocateStep = 64 << 20

func (w *objectFile) Write(p []byte) (int, error) {
	if w.written+int64(len(p)) > w.allocated {
		if err := allocate(w.f, w.allocated, allocateStep); err != nil {
			return 0, spoolError(w.dir, err)
		}
		w.allocated += allocateStep
	}
	n, err := w.f.Write(p)
	w.written += int64(n)
	if err != nil {
		return n, spoolError(w.dir, err)
	}
	return n, nil
}

// allocate takes disk for n bytes from offset on, without making the file longer.
//
// It is not only that a full disk then shows at once. On ext4, a journal commit first writes out all that was written into blocks allocated since
// the last one: the fsyncs of an etcd on the same disk would wait for the spool, and the spool for them. Into blocks that were allocated
// before, writing took a third of the CPU time, and a tenth of the time beside others that sync.
func allocate(f *os.File, offset, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, n)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil // not every file system can
		default:
			return err
		}
	}
}

// open opens the spooled database, which has no name but this.
func (s *Spool) open() (*dbfile.File, error) {
	return dbfile.Open(fmt.Sprintf("/proc/self/fd/%d", s.raw.Fd()))
}

// name reads the revisions, which name the snapshot.
func (s *Spool) name() error {
	f, err := s.open()
	if err != nil {
		return fail.Hint(fmt.Errorf("open the spooled snapshot: %w", err), damagedHint)
	}
	s.Revision, s.CompactRevision, err = f.Revisions()
	if err = errors.Join(err, f.Close()); err != nil {
		return fail.Hint(fmt.Errorf("read the spooled snapshot: %w", err), damagedHint)
	}
	return nil
}

// Object is the sealed object, open for reading at any offset; it stays open until Close.
func (s *Spool) Object() *os.File { return s.object }

// Prove walks the spooled database: about 0.4 s per GB. It may run while the object is uploaded.
func (s *Spool) Prove(ctx context.Context) (dbfile.Info, error) {
	f, err := s.open()
	if err != nil {
		return dbfile.Info{}, fmt.Errorf("prove the snapshot: %w", err)
	}
	info, err := f.Info(ctx)
	if err = errors.Join(err, f.Close()); err != nil {
		return dbfile.Info{}, fail.Hint(fmt.Errorf("prove the snapshot: %w", err), damagedHint)
	}
	return info, nil
}

// Close gives the disk back. The object must not be used after it.
func (s *Spool) Close() error {
	var err error
	for _, f := range []**os.File{&s.raw, &s.object} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	return err
}
