package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/host/tree"
)

// Edit is one file that was changed. It can be written into a journal and undone later.
type Edit struct {
	Path string `json:"path"`
	// Kept is the file as it was; "" when there was none.
	Kept string `json:"kept,omitempty"`
	// New: Path did not exist.
	New bool   `json:"new,omitempty"`
	Tag string `json:"tag"`
}

// newMark ends the name of an empty file that says of another one that it did not exist before.
const newMark = ".new"

// keptPath is where the file is kept as it was before the edits of a tag. Files of static pods go to a folder beside the kubelet's.
func (m *Machine) keptPath(file, tag string) string {
	dir, base := path.Split(path.Clean(file))
	if path.Clean(dir) == m.Manifests || path.Clean(dir) == m.parkedDir() {
		dir = path.Join(path.Dir(m.Manifests), keptFolder)
	}
	return path.Join(dir, base+".steward-"+tag)
}

// home is where a static pod's file belongs when it is not held; any other file's path is its own.
func (m *Machine) home(file string) string {
	if path.Dir(file) == m.parkedDir() {
		return path.Join(m.Manifests, path.Base(file))
	}
	return file
}

// current is where the file of that home is now.
func (m *Machine) current(file string) string {
	if parked := path.Join(m.parkedDir(), path.Base(file)); path.Dir(file) == m.Manifests && !m.tree().Exists(file) && m.tree().Exists(parked) {
		return parked
	}
	return file
}

func (m *Machine) parkedDir() string { return path.Join(path.Dir(m.Manifests), parkedFolder) }

// edited is the edit of a file under a tag, if there was one.
func (m *Machine) edited(file, tag string) (Edit, bool) {
	kept := m.keptPath(file, tag)
	switch t := m.tree(); {
	case t.Exists(kept):
		return Edit{Path: m.home(file), Kept: kept, Tag: tag}, true
	case t.Exists(kept + newMark):
		return Edit{Path: m.home(file), New: true, Tag: tag}, true
	}
	return Edit{}, false
}

// replace gives a file new content, for good. Before that the file as it is now is kept, unless an earlier edit with the tag has kept it. A new file gets the mode.
func (m *Machine) replace(file string, text []byte, mode fs.FileMode, tag string) error {
	real, err := resolve(m.Path(file))
	if err != nil {
		return err
	}
	if st, err := os.Stat(real); err == nil && !st.Mode().IsRegular() {
		// A mask is a link to /dev/null, which must never be replaced by a file.
		return fail.Refused(fmt.Errorf("change %s: %s is not a regular file", file, real), "ls -l "+file+" shows what it is; unmask the unit, or take the link away")
	}
	old, err := os.ReadFile(real)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("change %s: %w", file, err)
	}
	isNew := err != nil
	if !isNew && bytes.Equal(old, text) {
		return nil
	}
	if _, done := m.edited(file, tag); !done {
		if err := m.keep(file, real, old, isNew, tag); err != nil {
			return fmt.Errorf("keep %s: %w", file, err)
		}
	}
	if isNew {
		if err := makeDirs(filepath.Dir(real), 0o755); err != nil {
			return fmt.Errorf("change %s: %w", file, err)
		}
	}
	if err := writeLike(real, real, text, mode); err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	return nil
}

// keep copies a file to where the tag keeps it, or marks it as one that did not exist.
func (m *Machine) keep(file, real string, old []byte, isNew bool, tag string) error {
	kept := m.Path(m.keptPath(file, tag))
	if err := makeDirs(filepath.Dir(kept), 0o755); err != nil {
		return err
	}
	if isNew {
		return atomicfile.Write(kept+newMark, nil, 0o600)
	}
	return writeLike(kept, real, old, 0o600)
}

// writeLike writes a file durably with the owner, mode and security label of another one, if that exists, else with mode.
func writeLike(path, model string, text []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	st, serr := os.Stat(model)
	if serr == nil {
		mode = st.Mode().Perm()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
				return err
			}
		}
		label := make([]byte, 256)
		if n, err := unix.Getxattr(model, "security.selinux", label); err == nil && n > 0 {
			_ = unix.Fsetxattr(int(f.Fd()), "security.selinux", label[:n], 0) // without SELinux there is nothing to set
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return atomicfile.Commit(f, path, true)
}

// Undo brings files back to what they were before the edits, the last first. It can be repeated. A file that did not exist before is renamed to its name and
// ".undone-" and the tag, where nobody reads it; what is in any other one by now, also by somebody else's hand, is kept under such a name.
func (m *Machine) Undo(edits []Edit) error {
	for i := len(edits) - 1; i >= 0; i-- {
		if err := m.undo(edits[i]); err != nil {
			return fmt.Errorf("undo the change of %s: %w", edits[i].Path, err)
		}
	}
	return nil
}

func (m *Machine) undo(e Edit) error {
	real, err := resolve(m.Path(m.current(e.Path)))
	if err != nil {
		return err
	}
	kept := m.keptPath(e.Path, e.Tag)
	undone := m.Path(strings.TrimSuffix(kept, ".steward-"+e.Tag) + ".undone-" + e.Tag)
	if e.New {
		if err := os.Rename(real, undone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Remove(m.Path(kept) + newMark); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(filepath.Dir(undone)); err != nil {
			return err
		}
		err := atomicfile.SyncDir(filepath.Dir(real))
		if tree.Missing(err) {
			return nil
		}
		return err
	}
	text, err := os.ReadFile(m.Path(e.Kept))
	if err != nil {
		return err
	}
	now, err := os.ReadFile(real)
	switch {
	case err == nil && bytes.Equal(now, text):
		return atomicfile.SyncDir(filepath.Dir(real)) // also what was renamed before a crash
	case err == nil:
		if err := writeLike(undone, real, now, 0o600); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return writeLike(real, m.Path(e.Kept), text, 0o600)
}
