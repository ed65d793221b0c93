package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
)

// scratchPattern names the working folders. Each is locked by the process that uses it; the file inside cannot be, since whoever opens
// the database locks it as well.
const scratchPattern = "steward-scratch-*"

// scratch is a working folder with one decrypted database. Only its owner can read it.
type scratch struct {
	dir *os.File // open for its lock
	f   *os.File

	mu  sync.Mutex
	err error // the failed writes
}

// newScratch makes a working folder in dir when there is room for space bytes, after removing what killed runs left there.
func newScratch(dir string, space int64) (*scratch, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	sweepScratch(dir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < space {
		return nil, fail.Hint(fmt.Errorf("%s has %d MiB free, %d MiB are needed", dir, free>>20, space>>20+1), "name another folder with --spool-dir")
	}
	for range 10 { // another process's sweep may take the folder before it is locked
		s, err := lockedScratch(dir)
		if err != nil || s != nil {
			return s, err
		}
	}
	return nil, fmt.Errorf("make a scratch folder in %s: another process removes them", dir)
}

// lockedScratch is nil when the folder was taken away before it was locked.
func lockedScratch(in string) (*scratch, error) {
	path, err := os.MkdirTemp(in, scratchPattern)
	if err != nil {
		return nil, fmt.Errorf("make a scratch folder: %w", err)
	}
	dir, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make a scratch folder: %w", err)
	}
	if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil, dir.Close()
	}
	f, err := os.OpenFile(filepath.Join(path, "db"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, dir.Close()
	}
	s := &scratch{dir: dir, f: f}
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("make a scratch file: %w", err)
	}
	return s, nil
}

// sweepScratch removes working folders that no process holds. What cannot be removed is left for the next run.
func sweepScratch(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, scratchPattern))
	if err != nil {
		return
	}
	for _, path := range left {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = f.Close()
	}
}

func (s *scratch) path() string { return s.f.Name() }

// beside is the path of another file in the folder, which goes with it.
func (s *scratch) beside(name string) string { return filepath.Join(s.dir.Name(), name) }

// WriteAt implements io.WriterAt for several goroutines.
func (s *scratch) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.f.WriteAt(p, off)
	if err != nil {
		s.mu.Lock()
		s.err = errors.Join(s.err, err)
		s.mu.Unlock()
	}
	return n, err
}

// failed is the local failure that made a decode fail, or nil.
func (s *scratch) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return fail.Hint(fmt.Errorf("write the scratch file: %w", s.err), "name a folder with more room with --spool-dir")
}

// remove deletes the folder and gives its lock back.
func (s *scratch) remove() {
	_ = s.f.Close() // nil when it was not made, or closed already
	_ = os.RemoveAll(s.dir.Name())
	_ = s.dir.Close()
}
