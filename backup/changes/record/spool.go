package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/atomicfile"
)

// A file of the spool folder is called <segment's key, its slashes replaced>~<SHA-256 of its bytes>; it appears whole or not at all.
const (
	spoolSeparator = "~"
	spoolSlash     = "_" // in no key of a segment
	tempPrefix     = ".record-tmp-"
	damagedEnding  = ".damaged"
)

// openQueue makes the spool folder and takes over what is in it.
func openQueue(dir string, limit int64, log *slog.Logger) (*queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	held, err := holdFolder(dir)
	if err != nil {
		return nil, err
	}
	q := &queue{dir: dir, lock: held, max: limit, log: log, changed: make(chan struct{})}
	if err := q.takeOver(); err != nil {
		_ = held.Close()
		return nil, err
	}
	return q, nil
}

// ErrInUse means that another recorder, perhaps one that is about to end, has the spool folder.
var ErrInUse = errors.New("the spool folder is in use")

// holdFolder keeps other recorders away from the folder until what it returns is closed, or the process ends.
func holdFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock spool folder %s: %w", dir, err)
	}
	return f, nil
}

// takeOver reads what an earlier process left.
func (q *queue) takeOver() error {
	files, err := os.ReadDir(q.dir)
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	q.readEnd()
	for _, f := range files {
		if f.Name() == spoolEndName {
			continue
		}
		if strings.HasPrefix(f.Name(), tempPrefix) || strings.HasPrefix(f.Name(), "."+spoolEndName) {
			// What a killed process was writing.
			if err := os.Remove(filepath.Join(q.dir, f.Name())); err != nil {
				return fmt.Errorf("clean spool folder: %w", err)
			}
			continue
		}
		s, err := readSpooled(q.dir, f)
		if err != nil {
			q.log.Warn("the spool folder holds what is no segment", "file", f.Name(), "error", err)
			continue
		}
		q.items = append(q.items, s)
		q.count(s, 1)
	}
	slices.SortFunc(q.items, func(a, b *sealed) int {
		if a.seg.Timeline != b.seg.Timeline {
			return strings.Compare(a.seg.Timeline.String(), b.seg.Timeline.String())
		}
		return int(a.seg.First - b.seg.First)
	})
	return nil
}

// close brings what is still in memory to the spool folder, and leaves it to the next recorder.
func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer func() { _ = q.lock.Close() }()
	for _, s := range q.items {
		if s.data == nil {
			continue
		}
		if err := q.save(s); err != nil {
			return fmt.Errorf("segment %s is lost, unless etcd still has it when recording goes on: neither the store nor the spool folder takes it: %w", s.seg.Key, err)
		}
	}
	return nil
}

func spooledName(s *sealed) string {
	return strings.Join([]string{strings.ReplaceAll(s.seg.Key, "/", spoolSlash), hex.EncodeToString(s.sum[:])}, spoolSeparator)
}

// writeSpooled makes a segment's file, durable.
func writeSpooled(dir string, s *sealed) (string, error) {
	path := filepath.Join(dir, spooledName(s))
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return "", fmt.Errorf("spool segment: %w", err)
	}
	_, err = f.Write(s.data)
	if err == nil {
		err = atomicfile.Commit(f, path, true)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("spool segment: %w", err)
	}
	return path, nil
}

// readSpooled believes a file's name; the upload compares its bytes with the hash in it.
func readSpooled(dir string, f os.DirEntry) (*sealed, error) {
	parts := strings.Split(f.Name(), spoolSeparator)
	if len(parts) != 2 {
		return nil, errors.New("not a spooled segment's name")
	}
	seg, err := repo.ParseSegmentKey(strings.ReplaceAll(parts[0], spoolSlash, "/"))
	if err != nil {
		return nil, err
	}
	s := &sealed{seg: seg, path: filepath.Join(dir, f.Name())}
	if n, err := hex.Decode(s.sum[:], []byte(parts[1])); err != nil || n != sha256.Size {
		return nil, errors.New("not a hash")
	}
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	s.seg.Size = info.Size()
	return s, nil
}

// source gives the segment's bytes for an upload; close ends it.
func (s *sealed) source() (src store.Source, closer io.Closer, err error) {
	src = store.Source{Size: s.seg.Size, SHA256: s.sum}
	if s.data != nil {
		src.Reader = bytes.NewReader(s.data)
		return src, io.NopCloser(nil), nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return src, nil, fmt.Errorf("read spooled segment: %w", err)
	}
	src.Reader = f
	return src, f, nil
}

// intact says whether the segment's file still is what was written; an error means that it cannot be read.
func (s *sealed) intact() (bool, error) {
	if s.path == "" {
		return true, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return false, fmt.Errorf("read spooled segment: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return false, fmt.Errorf("read spooled segment: %w", err)
	}
	return n == s.seg.Size && [sha256.Size]byte(sum.Sum(nil)) == s.sum, nil
}

// drop removes a segment's file, if it has one.
func drop(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove spooled segment: %w", err)
	}
	return nil
}

// setAside renames a file that is not what was written, so that a person can look at it.
func (s *sealed) setAside() error {
	if s.path == "" {
		return nil
	}
	if err := os.Rename(s.path, s.path+damagedEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set a damaged segment aside: %w", err)
	}
	return nil
}
