package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"etcd-steward/internal/fail"
)

// may says whether a user has the rights of want (4 read, 2 write, 1 enter) by the mode of a file.
func may(st fs.FileInfo, uid, gid int, want fs.FileMode) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch mode := st.Mode().Perm(); {
	case !ok:
		return false
	case uid == 0:
		return true
	case int(sys.Uid) == uid:
		return mode>>6&want == want
	case int(sys.Gid) == gid:
		return mode>>3&want == want
	default:
		return mode&want == want
	}
}

// CheckWAL refuses a separate folder for the WAL in which a new etcd could not start: it makes the WAL beside that folder, with ".tmp" behind its name, removes the folder with
// all that is in it, and gives the new one its name. So the folder above must let etcd's user write, and the folder itself can be no mount point. It changes nothing.
func (m *Machine) CheckWAL(e *Etcd, uid, gid int) error {
	wal, err := e.WALDir()
	if err != nil || wal == "" {
		return err
	}
	for _, mount := range e.Mounts {
		if inside := e.Value("wal-dir"); path.Clean(inside) == mount.Inside {
			return fail.Refused(fmt.Errorf("the WAL's folder %s of %s is a mount point of its container: etcd renames that folder, and cannot", inside, e.where()),
				"mount the folder above it, and type the same command again")
		}
	}
	dir, err := resolve(m.Path(wal))
	if err != nil {
		return err
	}
	if f, err := Look(dir); err != nil {
		return err
	} else if f.Mount {
		return fail.Refused(fmt.Errorf("the WAL's folder %s of %s is a mount point: etcd renames that folder, and cannot", wal, e.where()),
			"let wal-dir be a folder inside of it, as in "+path.Join(wal, "wal")+", and type the same command again")
	}
	data, err := e.DataDir()
	if err != nil {
		return err
	}
	above := filepath.Dir(dir)
	st, err := os.Stat(above)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // PrepareWAL makes it
	case err != nil:
		return fmt.Errorf("look at the folder above the WAL's: %w", err)
	case above == m.Path(data) || may(st, uid, gid, 0o3):
		return nil
	}
	return fail.Refused(fmt.Errorf("etcd makes its WAL beside %s, and its user (%s) may not write in %s", wal, ownerName(uid, gid), path.Dir(wal)),
		fmt.Sprintf("chown %s %s, or let wal-dir be a folder inside of one that belongs to it; then type the same command again", ownerName(uid, gid), path.Dir(wal)))
}

// PrepareWAL makes the folder above the WAL's for etcd's user, when it is not there; the WAL's own etcd makes by itself.
func (m *Machine) PrepareWAL(e *Etcd, uid, gid int) error {
	wal, err := e.WALDir()
	if err != nil || wal == "" {
		return err
	}
	dir, err := resolve(m.Path(wal))
	if err != nil {
		return err
	}
	if f, err := Look(filepath.Dir(dir)); err != nil || f.Exists {
		return errors.Join(err, m.CheckWAL(e, uid, gid))
	}
	return Prepare(filepath.Dir(dir), uid, gid)
}
