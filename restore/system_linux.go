package restore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// mountRoot says whether something is mounted at path, also when it is another folder of the same file system (a bind mount). Kernels before 5.8 do not tell.
func mountRoot(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_TYPE, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// rangeLocked says whether somebody holds an open-file-description lock on f, as etcd does on its log. Nothing is locked to find out.
func rangeLocked(f *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

// allocate reserves disk for a file, so that a full disk is known before the first byte. Where the file system cannot, it does nothing.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// writeBack starts to write a range to the disk and does not wait, so that the last fsync finds little to do.
func writeBack(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// freeBytes is what an unprivileged process may still write to the file system of path.
func freeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
