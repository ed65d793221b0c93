package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
)

// place is where a directory is built, and how it gets its name: by one rename on one file system.
type place struct {
	final string // what appears
	work  string // the working folder
	built string // what becomes final, in the working folder
	// inside says that final cannot itself be replaced by a rename, since a file system is mounted there. Then it is built in a folder inside it, and
	// the one entry of that folder is renamed out of it: member/ of a data directory, the only file of a write-ahead log.
	inside bool
}

// newPlace decides where path is built by the restore with the given ID, under a name in the working folder. path may be absent, an empty directory, a link to
// one, or a mount point.
func newPlace(path, id, name string) (p place, err error) {
	if p.final, err = filepath.Abs(path); err != nil {
		return p, err
	}
	if _, err := os.Lstat(p.final); err == nil {
		if p.final, err = filepath.EvalSymlinks(p.final); err != nil {
			return p, fail.Refused(fmt.Errorf("look at %s: %w", path, err), "make the link lead to an existing, empty directory, or remove it")
		}
	}
	parent := filepath.Dir(p.final)
	above, err := os.Stat(parent)
	if err != nil {
		return p, fail.Refused(fmt.Errorf("the parent of %s: %w", path, err), "create it first, on the disk that etcd is to use: mkdir -p "+parent)
	}
	st, err := os.Stat(p.final)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return p, fail.Refused(fmt.Errorf("look at %s: %w", path, err), "give a directory that this user may read and write")
	case !st.IsDir():
		return p, fail.Refused(fmt.Errorf("%s is not a directory", path), "give a path that does not exist, or an empty directory")
	default:
		p.inside = device(st) != device(above) || mountRoot(p.final)
	}
	p.work = p.final + scratchInfix + id + scratchEnding
	if p.inside {
		p.work = filepath.Join(p.final, scratchInfix+id+scratchEnding)
	}
	p.built = filepath.Join(p.work, name)
	return p, nil
}

func device(st os.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(sys.Dev) //nolint:unconvert // not uint64 on every platform
	}
	return 0
}

// move is the rename that gives the result its name.
func (p place) move() (from, to string, err error) {
	if !p.inside {
		return p.built, p.final, nil
	}
	entries, err := os.ReadDir(p.built)
	if err != nil {
		return "", "", err
	}
	if len(entries) != 1 {
		return "", "", fmt.Errorf("%s holds %d entries, not one", p.built, len(entries))
	}
	name := entries[0].Name()
	return filepath.Join(p.built, name), filepath.Join(p.final, name), nil
}

// rename moves a finished directory or file to its name. It is durable after syncRename. An empty directory of that name is replaced; anything else is an error.
func rename(from, to string) error {
	st, err := os.Lstat(to)
	if err == nil && !st.IsDir() {
		return fmt.Errorf("%s exists by now", to)
	}
	// The system call replaces an empty directory and fails for any other; os.Rename would refuse both.
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncRename makes a rename durable. Its error does not take the rename back.
func syncRename(from, to string) error {
	return errors.Join(atomicfile.SyncDir(filepath.Dir(to)), atomicfile.SyncDir(filepath.Dir(from)))
}

// refuseReadOnly refuses a place in which this process may not make its working folder.
func (p place) refuseReadOnly() error {
	dir := p.parentOf()
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fail.Refused(fmt.Errorf("write to %s: %w", dir, err), "run this as root, or as the owner of "+dir)
	}
	return nil
}
