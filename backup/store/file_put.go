package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"etcd-steward/internal/atomicfile"
)

// Put implements Store: a temporary file, fsync, then a link (which never replaces) or, under the lock, a rename; then fsync of the folder.
func (s *fileStore) Put(ctx context.Context, key string, src Source, opts PutOptions) (Info, error) {
	if err := checkPut(s.checkKey("put", key), key, src, opts); err != nil {
		return Info{}, err
	}
	if opts.IfAbsent {
		// Before all of the source is read. What decides is the link.
		if _, err := os.Lstat(s.path(key)); err == nil {
			return Info{}, s.taken(key, fs.ErrExist)
		}
	}
	tmp, err := s.newTemp()
	if err != nil {
		return Info{}, s.writeError(key, err)
	}
	// After the commit there is nothing left under this name.
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name())
	}()

	body := newVerifiedReader(ctx, src)
	if _, err := io.Copy(tmp, body); err != nil {
		if body.fault != nil || ctx.Err() != nil {
			return Info{}, keyed(body.failure(interruption(ctx, nil)), key)
		}
		return Info{}, s.writeError(key, err)
	}
	st, err := tmp.Stat()
	if err != nil {
		return Info{}, s.writeError(key, err)
	}
	info := Info{Key: key, Size: st.Size(), Modified: st.ModTime(), SHA256: body.sha256()}
	info.ETag = fileETag(st, info.SHA256)
	// The slow fsync comes before the lock.
	if err := tmp.Sync(); err != nil {
		return Info{}, s.writeError(key, err)
	}
	if err := s.commit(ctx, key, tmp, st, opts); err != nil {
		return Info{}, err
	}
	return info, nil
}

func (s *fileStore) commit(ctx context.Context, key string, tmp *os.File, st os.FileInfo, opts PutOptions) error {
	if !opts.IfAbsent {
		unlock, err := s.lock(ctx, "put", key)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if opts.IfMatch != "" {
		now, err := s.Head(ctx, key)
		if errors.Is(err, NotFound) {
			return &Error{Op: "put", Key: key, Kind: Changed, Err: errors.New("the object is gone")}
		}
		if err != nil {
			return err
		}
		if now.ETag != opts.IfMatch {
			return &Error{Op: "put", Key: key, Kind: Changed, Err: fmt.Errorf("its ETag is %s", now.ETag)}
		}
	}
	if ctx.Err() != nil {
		return interrupted(ctx, "put", key)
	}
	dir, _ := cutLast(key)
	if err := s.makeFolders(dir); err != nil {
		return s.writeError(key, err)
	}
	err := atomicfile.Commit(tmp, s.path(key), !opts.IfAbsent)
	if err == nil {
		return nil
	}
	if there, statErr := os.Lstat(s.path(key)); statErr == nil && errors.Is(err, fs.ErrExist) && os.SameFile(there, st) {
		// A network file system whose answer to the link was lost: it is our own file.
		if err = atomicfile.SyncDir(filepath.Dir(s.path(key))); err == nil {
			return nil
		}
	}
	return s.taken(key, err)
}

// taken tells a folder in an object's place from an object.
func (s *fileStore) taken(key string, err error) error {
	if there, statErr := os.Lstat(s.path(key)); statErr == nil && there.IsDir() {
		return &Error{Op: "put", Key: key, Kind: Invalid, Err: errors.New("other objects' keys go through it: it is a folder")}
	}
	return s.writeError(key, err)
}

// writeError also recognises a store whose folder is gone, and a key that goes through another object.
func (s *fileStore) writeError(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if rootErr := s.checkRoot("put"); rootErr != nil {
			return rootErr
		}
	}
	if errors.Is(err, syscall.ENOTDIR) {
		err = fmt.Errorf("the key goes through another object: %w", err)
	}
	if e := fileError("put", key, err); !errors.Is(e, NotFound) {
		return e
	}
	return &Error{Op: "put", Key: key, Kind: Unavailable, Err: err}
}

// makeFolders makes a key's folders below the root, and their names durable. The root itself is never made.
func (s *fileStore) makeFolders(dir string) error {
	if dir == "" {
		return nil
	}
	if _, ok := s.durable.Load(dir); ok {
		if _, err := os.Stat(s.path(dir)); err == nil {
			return nil
		}
	}
	rel := ""
	for segment := range strings.SplitSeq(dir, "/") {
		parent := rel
		rel = joinKey(rel, segment)
		if err := os.Mkdir(s.path(rel), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Also when it was there: another process may have made it and not yet synced it.
		if err := atomicfile.SyncDir(s.path(parent)); err != nil {
			return err
		}
	}
	s.durable.Store(dir, true)
	return nil
}

// Delete implements Store.
func (s *fileStore) Delete(ctx context.Context, key string) error {
	if err := s.checkKey("delete", key); err != nil {
		return err
	}
	if err := s.checkRoot("delete"); err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(key)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	unlock, err := s.lock(ctx, "delete", key)
	if err != nil {
		return err
	}
	defer unlock()
	// unlink(2), not os.Remove: that would remove an empty folder.
	err = syscall.Unlink(s.path(key))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return nil
	case err != nil:
		return fileError("delete", key, err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(s.path(key))); err != nil {
		return fileError("delete", key, err)
	}
	return nil
}
