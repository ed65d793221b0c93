package restore

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

	"etcd-steward/internal/fail"
)

// Owner is who the restored files will belong to, and why.
type Owner struct {
	UID int    `json:"uid"`
	GID int    `json:"gid"`
	Why string `json:"why"`
}

// String is "uid:gid (why)".
func (o Owner) String() string { return fmt.Sprintf("%d:%d (%s)", o.UID, o.GID, o.Why) }

// chooseOwner reads "user:group", "uid:gid" or "user", or finds out who owned what was there before. A process that is not root can only make files of its own.
func chooseOwner(spec string, p place) (Owner, error) {
	self := Owner{UID: os.Geteuid(), GID: os.Getegid()}
	if spec == "" || spec == "auto" {
		if self.UID != 0 {
			self.Why = "this process, which is not root"
			return self, nil
		}
		return previousOwner(p)
	}
	o, err := parseOwner(spec)
	if err != nil {
		return o, fail.New(fail.Usage, err, "--owner takes user:group or uid:gid")
	}
	if self.UID != 0 && (o.UID != self.UID || o.GID != self.GID) {
		return o, fail.Refused(fmt.Errorf("owner %s: only root can give files to another user", spec), "run this as root, or leave --owner out and change the owner later")
	}
	o.Why = "as asked"
	return o, nil
}

func parseOwner(spec string) (o Owner, err error) {
	name, group, both := strings.Cut(spec, ":")
	u, err := user.Lookup(name)
	if err != nil {
		if o.UID, err = strconv.Atoi(name); err != nil || o.UID < 0 {
			return o, fmt.Errorf("owner %q: no such user", spec)
		}
		if !both {
			return o, fmt.Errorf("owner %q: a numeric user needs a group (uid:gid)", spec)
		}
	} else if o.UID, err = strconv.Atoi(u.Uid); err != nil {
		return o, err
	} else if o.GID, err = strconv.Atoi(u.Gid); err != nil {
		return o, err
	}
	if !both {
		return o, nil
	}
	if g, err := user.LookupGroup(group); err == nil {
		group = g.Gid
	}
	if o.GID, err = strconv.Atoi(group); err != nil || o.GID < 0 {
		return o, fmt.Errorf("owner %q: no such group", spec)
	}
	return o, nil
}

// previousOwner is the owner of the directory itself, of the newest data directory that was moved aside from there, or of the parent.
func previousOwner(p place) (Owner, error) {
	if st, err := os.Stat(p.final); err == nil {
		return ownerOf(st, "owner of "+p.final), nil
	}
	parent := filepath.Dir(p.final)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return Owner{}, err
	}
	var newest fs.FileInfo
	var path string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(p.final)) || isScratch(e.Name(), filepath.Base(p.final)) {
			continue
		}
		moved := filepath.Join(parent, e.Name())
		member, err := os.Stat(filepath.Join(moved, "member"))
		if err == nil && member.IsDir() && (newest == nil || member.ModTime().After(newest.ModTime())) {
			newest, path = member, moved
		}
	}
	if newest != nil {
		return ownerOf(newest, "owner of "+path), nil
	}
	st, err := os.Stat(parent)
	if err != nil {
		return Owner{}, err
	}
	return ownerOf(st, "owner of "+parent), nil
}

func ownerOf(st fs.FileInfo, why string) Owner {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return Owner{UID: os.Geteuid(), GID: os.Getegid(), Why: "this process"}
	}
	return Owner{UID: int(sys.Uid), GID: int(sys.Gid), Why: why}
}

// giveTo sets owner and mode of everything below dir; dir itself gets mode, folders 0700 and files 0600 as etcd makes them. The working folder around it lets
// nobody else in, so the new owner cannot change the tree meanwhile.
func giveTo(dir string, o Owner, mode os.FileMode) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := mode
		switch {
		case !d.IsDir():
			want = 0o600
		case name != ".":
			want = 0o700
		}
		if err := root.Chmod(name, want); err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return nil
		}
		return root.Lchown(name, o.UID, o.GID)
	})
	return errors.Join(err, root.Close())
}
