package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

const (
	// privateDir holds what is not objects: temporary files and the lock. No key can name it, since segments do not start with a dot.
	privateDir = ".steward"
	// smallMax is how large an object may be for Head to hash it: 64 KiB cost less than the system calls around them. So the
	// ETags of all that is ever overwritten (leases, marks) are content hashes.
	smallMax = 64 << 10
)

// fileStore is a folder. An object is a file; a key's segments are folders.
//
// ETags: SHA-256 of the content up to smallMax, else of size, modification time and inode. The second kind can in theory repeat when
// an object is replaced twice within one tick of the file system's clock; large objects are never overwritten here.
type fileStore struct {
	root string

	overwrite chan struct{} // held by whoever overwrites or deletes in this process; the lock file tells processes apart
	cleanOnce sync.Once
	durable   sync.Map // folders (relative) whose names are known to be on disk
}

var _ Store = (*fileStore)(nil)

func openFile(root string) (Store, error) {
	s := &fileStore{root: filepath.Clean(root), overwrite: make(chan struct{}, 1)}
	if err := s.checkRoot("open"); err != nil {
		return nil, err
	}
	return s, nil
}

// checkRoot tells a missing folder from a missing object: it is never made here, since it may be a disk that is not mounted.
func (s *fileStore) checkRoot(op string) error {
	st, err := os.Stat(s.root)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), err == nil && !st.IsDir():
		return &Error{Op: op, Kind: NoBucket, Err: fmt.Errorf("%s is no folder", s.root)}
	case err != nil:
		return fileError(op, "", err)
	}
	return nil
}

// String implements Store.
func (s *fileStore) String() string { return "file://" + s.root }

func (s *fileStore) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

func (s *fileStore) checkKey(op, key string) error {
	if err := ValidateKey(key); err != nil {
		return &Error{Op: op, Key: key, Kind: Invalid, Err: err}
	}
	return nil
}

// open opens an object for reading. Symbolic links and special files are no objects.
func (s *fileStore) open(op, key string) (*os.File, os.FileInfo, error) {
	if err := s.checkKey(op, key); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(s.path(key), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, s.readError(op, key, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, s.readError(op, key, err)
	}
	return f, st, nil
}

func (s *fileStore) readError(op, key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		if rootErr := s.checkRoot(op); rootErr != nil {
			return rootErr
		}
		return &Error{Op: op, Key: key, Kind: NotFound, Err: fs.ErrNotExist}
	}
	return fileError(op, key, err)
}

// Head implements Store.
func (s *fileStore) Head(ctx context.Context, key string) (Info, error) {
	if ctx.Err() != nil {
		return Info{}, interrupted(ctx, "head", key)
	}
	f, st, err := s.open("head", key)
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = f.Close() }()
	info := Info{Key: key, Size: st.Size(), Modified: st.ModTime()}
	if st.Size() <= smallMax {
		h := sha256.New()
		if _, err := io.Copy(h, io.LimitReader(f, smallMax)); err != nil {
			return Info{}, fileError("head", key, err)
		}
		h.Sum(info.SHA256[:0])
	}
	info.ETag = fileETag(st, info.SHA256)
	return info, nil
}

func fileETag(st os.FileInfo, sum [32]byte) string {
	if st.Size() <= smallMax {
		return `"sha256-` + hex.EncodeToString(sum[:]) + `"`
	}
	inode := uint64(0)
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprintf(`"stat-%x-%x-%x"`, st.Size(), st.ModTime().UnixNano(), inode)
}

// Get implements Store.
func (s *fileStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx, "get", key)
	}
	f, st, err := s.open("get", key)
	if err != nil {
		return nil, err
	}
	if offset < 0 || offset > st.Size() {
		_ = f.Close()
		return nil, &Error{Op: "get", Key: key, Kind: Invalid, Err: fmt.Errorf("offset %d is outside of the object's %d bytes", offset, st.Size())}
	}
	end := st.Size()
	if length >= 0 && length < end-offset {
		end = offset + length
	}
	return &fileReader{ctx: ctx, key: key, f: f, off: offset, end: end}, nil
}

// fileReader reads a range, and does not take a file that was cut meanwhile for a complete one.
type fileReader struct {
	ctx      context.Context //nolint:containedctx // an io.Reader has nowhere else to take it from
	key      string
	f        *os.File
	off, end int64
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, interrupted(r.ctx, "get", r.key)
	}
	if r.off == r.end {
		return 0, io.EOF
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), r.end-r.off)], r.off)
	r.off += int64(n)
	switch {
	case err == nil || r.off == r.end:
		return n, nil
	case err == io.EOF:
		return n, &Error{Op: "get", Key: r.key, Kind: Damaged, Err: fmt.Errorf("the file was cut to %d bytes: %w", r.off, io.ErrUnexpectedEOF)}
	}
	return n, fileError("get", r.key, err)
}

// Close implements io.Closer.
func (r *fileReader) Close() error { return r.f.Close() }

// fileError gives a file system's error its kind.
func fileError(op, key string, err error) error {
	kind := Unavailable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = NotFound
	case errors.Is(err, fs.ErrExist):
		kind = Exists
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		kind = Denied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = NoSpace
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG):
		kind = Invalid
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		kind = Interrupted
	}
	return &Error{Op: op, Key: key, Kind: kind, Err: err}
}
