// Package dbfile reads etcd's db file offline: revisions, live keys, leases, and the HashKV that etcd itself would answer.
//
// A File never writes (an Edit does, and CopyCompacted makes a new file), takes memory that does not grow with the file, and gives
// an error, not a crash, for a file that is truncated, damaged or made with intent: it reads bbolt's pages by itself, with every
// offset checked, since bbolt trusts them.
// It knows the records of etcd 3.4 to 3.7. It does not read what a record's value means beyond its key, and a file that it can
// walk need not be a whole one: that is what Check is for, and the hash in a snapshot's trailer.
package dbfile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/backup/revision"
)

// Errors that callers tell apart.
var (
	// ErrDamaged means that the file is not what etcd and bbolt would have written.
	ErrDamaged = errors.New("damaged db file")
	// ErrInUse means that another process has the file open for writing.
	ErrInUse = errors.New("db file is in use by another process")
)

// Info is what a db file says about itself.
type Info struct {
	// Revision is the newest revision; CompactRevision the one below which history was, or is about to be, compacted (0: never).
	Revision        revision.Revision
	CompactRevision revision.Revision
	// Keys is the number of keys that exist at Revision.
	Keys int64
	// HashKV is etcd's hash at (Revision, CompactRevision).
	HashKV uint32
	Leases int
	// AuthRevision and AuthEnabled describe etcd's authentication.
	AuthRevision uint64
	AuthEnabled  bool
	// Alarms as etcdctl names them (NOSPACE, CORRUPT), sorted, each once.
	Alarms []string
	// StorageVersion is the schema's version; empty before etcd 3.6.
	StorageVersion string
	// Size is the length of the database in bytes, without a snapshot's trailer.
	Size int64
}

// File is an open db file. Its methods may be called from several goroutines at once; after Close they return an error.
type File struct {
	path string

	mu   sync.RWMutex // held for reading while data is read, so that Close cannot pull it away
	file *os.File
	data []byte // the mapped file
	tree tree
	size int64

	maxSlots int // of the sets of keys; tests make it small
}

// Open opens the db file at path for reading. A snapshot's 32-byte trailer behind the database is tolerated. A file that another
// process writes to is ErrInUse.
func Open(path string) (_ *File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open db file %s: %w", path, err)
		}
	}()
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, file: file, maxSlots: maxSlots}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *File) open() error {
	// bbolt's own lock (bolt_unix.go): shared for readers, exclusive for an etcd that runs on the file.
	if err := syscall.Flock(int(f.file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	} else if err != nil {
		return err
	}
	st, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	f.size = st.Size()
	if f.size%512 == trailerSize { // etcdutl tells a trailer in the same way: v3_snapshot.go
		f.size -= trailerSize
	}
	if f.size < minSize || f.size > math.MaxInt {
		return fmt.Errorf("%w: %d bytes", ErrDamaged, st.Size())
	}
	// Not MAP_POPULATE, as etcd does: it would read the whole file before the first answer.
	if f.data, err = unix.Mmap(int(f.file.Fd()), 0, int(f.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return f.guard(func() (err error) {
		f.tree, err = openTree(f.data)
		return err
	})
}

const (
	trailerSize = 32      // etcd's SHA-256 behind the database in a snapshot
	minSize     = 4 << 10 // two meta pages of the smallest page size, and a page each for the root and one bucket
	lockWait    = time.Second
)

// Close releases the file. It waits for the methods that still read it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.data != nil {
		err = unix.Munmap(f.data)
		f.data = nil
	}
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
		f.file = nil
	}
	return err
}

// guard runs fn, which reads the mapped file. A file that is truncated meanwhile, or a disk that fails, makes the kernel send a
// signal; here that becomes an error.
func (f *File) guard(fn func() error) (err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.data == nil {
		return os.ErrClosed
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("%w: %w", ErrDamaged, r)
		default:
			panic(r)
		}
	}()
	return fn()
}

// read is guard with the words of the method's error.
func (f *File) read(what string, fn func() error) error {
	if err := f.guard(fn); err != nil {
		return fmt.Errorf("%s of db file %s: %w", what, f.path, err)
	}
	return nil
}

// every returns a check of ctx that looks at it only now and then: it is called for every record.
func every(ctx context.Context) func() error {
	const records = 1 << 12
	n := 0
	return func() error {
		if n++; n%records != 0 {
			return nil
		}
		return ctx.Err()
	}
}
