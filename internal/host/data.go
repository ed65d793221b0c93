package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/atomicfile"
)

// Folder is a data directory, or its WAL's, as it is now.
type Folder struct {
	Path   string      `json:"path"`
	Exists bool        `json:"exists"`
	Empty  bool        `json:"empty"` // but for what a file system or an earlier SetAside left in it
	Mode   fs.FileMode `json:"-"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Owner  string      `json:"owner,omitempty"` // user:group, by name where there is one
	// Mount: another file system is mounted there, so the folder itself cannot be renamed.
	Mount bool `json:"mount,omitempty"`
}

const (
	asideMark = ".bak-"
	// asideInside and asidePart are for what is set aside inside of a mount point.
	asideInside = "bak-"
	asidePart   = ".part"
)

// Look says what a folder is; one that does not exist is no error.
func Look(dir string) (Folder, error) {
	f := Folder{Path: dir}
	dir, err := resolve(dir)
	if err != nil {
		return f, err
	}
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return f, fmt.Errorf("look at %s: it is not a folder", dir)
	}
	f.Exists, f.UID, f.GID, f.Mode = true, int(st.Uid), int(st.Gid), fs.FileMode(st.Mode&0o777)
	f.Mount = st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	f.Owner = ownerName(f.UID, f.GID)
	names, err := content(dir)
	if err != nil {
		return f, fmt.Errorf("look at %s: %w", dir, err)
	}
	f.Empty = len(names) == 0
	return f, nil
}

// ownerName is user:group.
func ownerName(uid, gid int) string {
	u, g := strconv.Itoa(uid), strconv.Itoa(gid)
	if known, err := user.LookupId(u); err == nil {
		u = known.Username
	}
	if known, err := user.LookupGroupId(g); err == nil {
		g = known.Name
	}
	return u + ":" + g
}

// content are the names in a folder that count.
func content(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		if n := e.Name(); n != "lost+found" && !strings.HasPrefix(n, asideInside) && !strings.Contains(n, asideMark) {
			names = append(names, n)
		}
	}
	return names, nil
}

// resolve follows the links that a folder's path ends with, also to what does not exist.
func resolve(dir string) (string, error) {
	dir = filepath.Clean(dir)
	for range 40 {
		target, err := os.Readlink(dir)
		if err != nil {
			return dir, nil //nolint:nilerr // it is no link, or is not there: that is the end
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dir), target)
		}
		dir = filepath.Clean(target)
	}
	return "", fmt.Errorf("resolve %s: too many links", dir)
}

// AsideSuffix is the suffix for what is set aside now, or by whoever has no better one: the time in UTC.
func AsideSuffix(now time.Time) string { return now.UTC().Format("20060102T150405Z") }

// SetAside renames dir to dir + ".bak-" + suffix, durably, and returns the new name. A mount point cannot be renamed: then all that is in it moves into
// its sub-folder "bak-" + suffix. Where that name exists already, it was done before: what is in dir by now is left alone, and moved is false. So it is when dir does
// not exist or is empty; then aside is "".
func SetAside(dir, suffix string) (aside string, moved bool, err error) {
	if suffix == "" || strings.ContainsAny(suffix, "/\x00") {
		return "", false, fmt.Errorf("set %s aside: %q is no suffix", dir, suffix)
	}
	if dir, err = resolve(dir); err != nil {
		return "", false, err
	}
	aside = dir + asideMark + suffix
	inside := filepath.Join(dir, asideInside+suffix)
	for _, done := range []string{aside, inside} {
		if exists(done) {
			return done, false, settleNames(done)
		}
	}
	f, err := Look(dir)
	part := inside + asidePart
	switch {
	case err != nil:
		return "", false, fmt.Errorf("set aside: %w", err)
	case !f.Exists || f.Empty && !exists(part):
		return "", false, nil
	case exists(part):
		return inside, true, setAsideInside(dir, part, inside)
	}
	err = os.Rename(dir, aside)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		return inside, true, setAsideInside(dir, part, inside)
	}
	if err != nil {
		return "", false, fmt.Errorf("set aside: %w", err)
	}
	return aside, true, settleNames(aside)
}

// setAsideInside moves all that is in a mount point into a sub-folder, which gets its name when everything is in there.
func setAsideInside(dir, part, inside string) error {
	if err := os.Mkdir(part, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("set aside: %w", err)
	}
	names, err := content(dir)
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(part, name)); err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
	}
	if err := errors.Join(atomicfile.SyncDir(part), atomicfile.SyncDir(dir)); err != nil {
		return fmt.Errorf("set %s aside: %w", dir, err)
	}
	if err := os.Rename(part, inside); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	return settleNames(inside)
}

// makeDirs is os.MkdirAll, durably: what is put into a folder is lost with the folder's own name.
func makeDirs(dir string, mode fs.FileMode) error {
	var missing []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			missing = append(missing, at) // also what was made before a crash
			break
		}
		missing = append(missing, at)
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	for _, made := range missing {
		if err := settleNames(made); err != nil {
			return err
		}
	}
	return nil
}

// settleNames makes a rename durable.
func settleNames(path string) error {
	if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	return nil
}

// BringBack undoes SetAside. A dir that is not empty by now is an error: nothing is overwritten. That nothing was set aside is none.
func BringBack(dir, suffix string) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	aside, inside := dir+asideMark+suffix, filepath.Join(dir, asideInside+suffix)
	if exists(aside) {
		// rename(2) takes the place of an empty folder, and of no other.
		if err := unix.Rename(aside, dir); err != nil {
			return fmt.Errorf("bring %s back to %s: %w", aside, dir, err)
		}
		return settleNames(dir)
	}
	for _, from := range []string{inside, inside + asidePart} {
		names, err := os.ReadDir(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("bring back: %w", err)
		}
		for _, e := range names {
			if to := filepath.Join(dir, e.Name()); exists(to) {
				return fmt.Errorf("bring back %s: %s is there again", from, to)
			}
		}
		for _, e := range names {
			if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("bring back: %w", err)
			}
		}
		if err := errors.Join(atomicfile.SyncDir(dir), os.Remove(from)); err != nil {
			return fmt.Errorf("bring back %s: %w", from, err)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// AsidePath is where SetAside has put, or would put, what is in a folder.
func AsidePath(dir, suffix string) (string, error) {
	dir, err := resolve(dir)
	if err != nil {
		return "", err
	}
	if inside := filepath.Join(dir, asideInside+suffix); exists(inside) {
		return inside, nil
	}
	return dir + asideMark + suffix, nil
}

// Prepare makes an empty folder with mode 0700 for its owner. One that exists must be empty. The folder above may be somebody else's, who could put a link in
// the new one's place: no link is followed once it was made.
func Prepare(dir string, uid, gid int) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	f, err := Look(dir)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if f.Exists && !f.Empty {
		return fmt.Errorf("prepare %s: it is not empty", dir)
	}
	if err := makeDirs(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("prepare: %w", err)
	}
	made, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := errors.Join(made.Chown(uid, gid), made.Chmod(0o700), made.Close()); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return settleNames(dir)
}
