package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// leftoverAge is how old a temporary file is before it may be taken for one that a killed writer left.
const leftoverAge = time.Hour

// newTemp makes a temporary file, on the objects' own file system, and holds its lock as long as it is open.
func (s *fileStore) newTemp() (*os.File, error) {
	dir := filepath.Join(s.root, privateDir, "tmp")
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	s.cleanOnce.Do(func() { removeLeftovers(dir) })
	f, err := os.CreateTemp(dir, "put-*") // mode 0600
	if err != nil {
		return nil, err
	}
	// Only for removeLeftovers; where the file system has no locks, age alone decides.
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	return f, nil
}

// removeLeftovers deletes temporary files whose writers are gone. They never were objects.
func removeLeftovers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() || time.Since(st.ModTime()) < leftoverAge {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.Remove(path)
		}
		_ = f.Close()
	}
}

// lock excludes all others who overwrite or delete: goroutines by a channel, processes by flock(2) on a file. It is held for a
// comparison and a rename, never while data is written.
func (s *fileStore) lock(ctx context.Context, op, key string) (unlock func(), err error) {
	select {
	case s.overwrite <- struct{}{}:
	case <-ctx.Done():
		return nil, interrupted(ctx, op, key)
	}
	defer func() {
		if err != nil {
			<-s.overwrite
		}
	}()
	dir := filepath.Join(s.root, privateDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fileError(op, key, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fileError(op, key, err)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close(); <-s.overwrite }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fileError(op, key, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			_ = f.Close()
			return nil, interrupted(ctx, op, key)
		}
	}
}
