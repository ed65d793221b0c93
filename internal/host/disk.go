package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is the process that has etcd's database below a data directory open under its lock; 0 when nobody has, -1 when somebody has who cannot be told.
func Holder(dataDir string) (pid int, err error) {
	f, err := os.Open(filepath.Join(dataDir, "member", "snap", "db"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the lock: %w", err)
	}
	defer func() { _ = f.Close() }()
	fd := int(f.Fd())
	// A lock that can be shared is given back at once by closing the file; etcd, if it starts right now, tries again.
	switch err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return 0, fmt.Errorf("ask for the lock of %s: %w", f.Name(), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if pid := lockPID(st.Ino); pid > 0 {
		return pid, nil
	}
	return -1, nil
}

// lockPID finds who holds a lock of a file, as /proc/locks says. Its numbers of devices are not everywhere those of stat(2), so the number of the inode
// alone decides, and the file that the process has open under it confirms.
func lockPID(inode uint64) int {
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer func() { _ = locks.Close() }()
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[1] != "FLOCK" {
			continue
		}
		if i := strings.LastIndexByte(fields[5], ':'); fields[5][i+1:] != strconv.FormatUint(inode, 10) {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err == nil && pid > 0 && hasOpen(pid, inode) {
			return pid
		}
	}
	return 0
}

// hasOpen says whether a process has a file of that inode open.
func hasOpen(pid int, inode uint64) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, n := range names {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, n.Name()), &st) == nil && st.Ino == inode {
			return true
		}
	}
	return false
}

// existing is the nearest folder above dir, or dir, that exists.
func existing(dir string) (string, error) {
	dir, err := resolve(dir)
	if err != nil {
		return "", err
	}
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no folder above %s exists", dir)
		}
		dir = filepath.Dir(dir)
	}
}

// FreeBytes is how much an unprivileged process could still write below dir, which need not exist yet.
func FreeBytes(dir string) (uint64, error) {
	dir, err := existing(dir)
	if err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// Latency is how long small durable writes took.
type Latency struct {
	Writes        int
	P50, P99, Max time.Duration
}

// probeBytes is the size of a write that resembles those of etcd's WAL, as etcd's own documentation measures disks.
const probeBytes = 2300

// ProbeSync measures a disk as etcd's WAL uses it: n writes of a few KiB to one file, each made durable before the next. It stops early with ctx or after
// limit, and says how many it made; none is an error. The file is gone when it returns. dir need not exist yet.
func ProbeSync(ctx context.Context, dir string, n int, limit time.Duration) (Latency, error) {
	dir, err := existing(dir)
	if err != nil {
		return Latency{}, err
	}
	f, err := os.CreateTemp(dir, ".steward-probe-*")
	if err != nil {
		return Latency{}, fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil {
		return Latency{}, fmt.Errorf("probe the disk: %w", err)
	}
	// etcd's WAL is allocated in advance, too; where that cannot be, each write also moves the file's end.
	_ = unix.Fallocate(int(f.Fd()), 0, 0, int64(n)*probeBytes)
	block := make([]byte, probeBytes)
	times := make([]time.Duration, 0, n)
	for end := time.Now().Add(limit); len(times) < n && ctx.Err() == nil; {
		begin := time.Now()
		if begin.After(end) {
			break
		}
		if _, err := f.WriteAt(block, int64(len(times))*probeBytes); err != nil {
			return Latency{}, fmt.Errorf("probe the disk of %s: %w", dir, err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return Latency{}, fmt.Errorf("probe the disk of %s: %w", dir, err)
		}
		times = append(times, time.Since(begin))
	}
	if len(times) == 0 {
		return Latency{}, fmt.Errorf("probe the disk of %s: no write was made in time", dir)
	}
	slices.Sort(times)
	at := func(p int) time.Duration { return times[min(len(times)*p/100, len(times)-1)] }
	return Latency{Writes: len(times), P50: at(50), P99: at(99), Max: times[len(times)-1]}, nil
}
