// Package tree reads a machine's files below a root, which is "/" or a folder that stands for it. It promises that nothing outside of the root is read, whatever
// symbolic links say, that links count as they would on the machine itself, and that what is read is bounded. It writes nothing.
package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Bounds on what is read.
const (
	MaxFile  = 1 << 20
	maxNames = 4096
	maxLinks = 40
)

// ErrTooLong is the error of a file that is longer than MaxFile.
var ErrTooLong = errors.New("the file is longer than 1 MiB")

// Tree is a machine's files. The zero value is this machine's.
type Tree string

// Real is where a path of the machine is for this process, links followed as far as they lead.
func (t Tree) Real(name string) string {
	if t == "" || t == "/" {
		return path.Clean("/" + name)
	}
	return filepath.Join(string(t), t.resolve(name))
}

// resolve follows links below the root. What does not exist is taken as it is written.
func (t Tree) resolve(name string) string {
	rest := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(filepath.Join(string(t), next))
		if err != nil || links == maxLinks {
			at = next
			continue
		}
		links++
		if !path.IsAbs(target) {
			target = path.Join(at, target)
		}
		rest = slices.Concat(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), rest)
		at = "/"
	}
	return at
}

// Read reads a regular file.
func (t Tree) Read(name string) ([]byte, error) {
	// O_NONBLOCK: a named pipe must not stop us.
	f, err := os.OpenFile(t.Real(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, plain(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(text) > MaxFile {
		return nil, ErrTooLong
	}
	return text, plain(err)
}

// plain takes the path out of an error, since callers say it.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// List are the names in a folder, sorted; none when it cannot be read.
func (t Tree) List(dir string) []string {
	d, err := os.Open(t.Real(dir))
	if err != nil {
		return nil
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(maxNames)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// Stat is the state of what a path leads to.
func (t Tree) Stat(name string) (fs.FileInfo, error) {
	st, err := os.Stat(t.Real(name))
	return st, plain(err)
}

// Exists says whether a path leads to something.
func (t Tree) Exists(name string) bool {
	_, err := t.Stat(name)
	return err == nil
}

// Link is where the symbolic link at a path leads, absolute; "" when there is no link.
func (t Tree) Link(name string) string {
	parent := t.Real(path.Dir(path.Clean("/" + name)))
	target, err := os.Readlink(filepath.Join(parent, path.Base(name)))
	if err != nil {
		return ""
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(path.Clean("/"+name)), target)
	}
	return path.Clean(target)
}

// Glob are the files that a pattern matches, sorted; the pattern's last part alone may have wildcards.
func (t Tree) Glob(pattern string) []string {
	dir, last := path.Split(pattern)
	var all []string
	for _, name := range t.List(dir) {
		if ok, err := path.Match(last, name); err == nil && ok {
			all = append(all, path.Join(dir, name))
		}
	}
	return all
}

// Missing says whether err is about a file that does not exist.
func Missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
