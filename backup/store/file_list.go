package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// List implements Store. It holds the names of one folder per level at a time, and looks at a file only when it is its turn.
func (s *fileStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		err := checkList(prefix, after)
		if err == nil {
			err = s.checkRoot("list")
		}
		if err == nil {
			w := &fileWalk{ctx: ctx, root: s.root, prefix: prefix, after: after, yield: yield}
			dir, _ := cutLast(prefix)
			err = w.folder(dir)
		}
		if err != nil && !errors.Is(err, errStopped) {
			var e *Error
			if !errors.As(err, &e) {
				err = fileError("list", prefix, err)
			}
			yield(Info{}, err)
		}
	}
}

type fileWalk struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call of List
	root   string
	prefix string
	after  string
	yield  func(Info, error) bool
}

// folder yields the objects below a folder, in byte order of their keys: a folder's place among its neighbours is that of its name
// with the slash, so "a-b" comes before "a/c".
func (w *fileWalk) folder(dir string) error {
	keys, err := w.keys(dir)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if w.ctx.Err() != nil {
			return interrupted(w.ctx, "list", w.prefix)
		}
		if sub, ok := strings.CutSuffix(key, "/"); ok {
			if err := w.folder(sub); err != nil {
				return err
			}
			continue
		}
		st, err := os.Lstat(filepath.Join(w.root, key))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		if st.Mode().IsRegular() && !w.yield(Info{Key: key, Size: st.Size(), Modified: st.ModTime()}, nil) {
			return errStopped
		}
	}
	return nil
}

// keys reads one folder: the keys of its objects and, with a slash, those of its folders, as far as they matter here.
func (w *fileWalk) keys(dir string) (keys []string, err error) {
	d, err := os.Open(filepath.Join(w.root, dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	for {
		entries, err := d.ReadDir(4096)
		for _, e := range entries {
			key := joinKey(dir, e.Name())
			if ValidateKey(key) != nil {
				continue // ours under .steward, or somebody else's
			}
			switch {
			case e.IsDir():
				if key += "/"; w.wantsFolder(key) {
					keys = append(keys, key)
				}
			case e.Type().IsRegular() && strings.HasPrefix(key, w.prefix) && key > w.after:
				keys = append(keys, key)
			}
		}
		if err == io.EOF || err == nil && len(entries) == 0 {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// wantsFolder says whether keys below a folder (with its slash) can be in the range.
func (w *fileWalk) wantsFolder(folder string) bool {
	if !strings.HasPrefix(folder, w.prefix) && !strings.HasPrefix(w.prefix, folder) {
		return false
	}
	return folder > w.after || strings.HasPrefix(w.after, folder)
}
