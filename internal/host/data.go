package host

import (
	"context"
	"io/fs"
	"time"
)

// Folder is a data directory, or its WAL's, as it is now.
type Folder struct {
	Path   string
	Exists bool
	// Empty: nothing is in it (lost+found of a file system does not count).
	Empty bool
	Mode  fs.FileMode
	UID   int
	GID   int
	Owner string // user:group, by name where there is one
	// Mount: another file system is mounted there, so the folder itself cannot be renamed.
	Mount bool
}

// Look says what a folder is; one that does not exist is no error.
func Look(dir string) (Folder, error) { panic("unreachable: not built yet") }

// SetAside renames dir to dir + ".bak-" + suffix, durably, and returns the new name. A mount point cannot be renamed: then what is in it is renamed into
// a folder of that name inside. What was set aside with the same suffix before, and what does not exist, is done already; then moved is false or the name is the earlier one's.
func SetAside(dir, suffix string) (aside string, moved bool, err error) {
	panic("unreachable: not built yet")
}

// BringBack undoes SetAside. A dir that exists meanwhile and is not empty is an error: nothing is overwritten.
func BringBack(dir, suffix string) error { panic("unreachable: not built yet") }

// AsideSuffix is the suffix for what is set aside now, or by whoever has no better one: the time in UTC, 20060102T150405Z.
func AsideSuffix(now time.Time) string { return now.UTC().Format("20060102T150405Z") }

// Prepare makes an empty folder with mode 0700 for its owner. One that exists must be empty.
func Prepare(dir string, uid, gid int) error { panic("unreachable: not built yet") }

// Holder is the process that has etcd's database below a data directory open under its lock; 0 when nobody has.
func Holder(dataDir string) (pid int, err error) { panic("unreachable: not built yet") }

// FreeBytes is how much an unprivileged process could still write below dir, which need not exist yet.
func FreeBytes(dir string) (uint64, error) { panic("unreachable: not built yet") }

// Latency is how long small durable writes took.
type Latency struct {
	Writes        int
	P50, P99, Max time.Duration
}

// ProbeSync measures a disk as etcd's WAL uses it: n writes of a few KiB to one file, each made durable before the next. It stops early with ctx or after
// limit, and says how many it made. The file is gone when it returns.
func ProbeSync(ctx context.Context, dir string, n int, limit time.Duration) (Latency, error) {
	panic("unreachable: not built yet")
}
