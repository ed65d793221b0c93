package snapshot

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
)

const (
	// diskReserve is what a spool never takes of the disk: etcd may live on the same one, and stops when it cannot write. It is a little more than
	// the file that etcd makes next for its log (64 MB).
	diskReserve = 64 << 20
	// checkEvery is how many spooled bytes lie between two looks at the disk.
	checkEvery = 32 << 20

	diskHint = "free space on that disk, or set the spool folder to another one (snapshot.spool in the config, --spool-dir)"
)

// free is what a user may still write to the disk of dir.
func free(dir string) (int64, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look at the disk of %s: %w", dir, err)
		}
		return int64(st.Bavail) * st.Bsize, nil
	}
}

// checkDisk refuses what will not fit: the database, a sealed object of at most half its size, and the reserve. Encrypted or compressed
// values may not halve; then reserved stops it.
func checkDisk(dir string, size int64) error {
	has, err := free(dir)
	if err != nil {
		return err
	}
	if need := size + size/2 + diskReserve; has < need {
		return fail.Hint(fmt.Errorf("the spool folder %s has %s free; a database of %s needs %s there",
			dir, bytesOf(has), bytesOf(size), bytesOf(need)), diskHint)
	}
	return nil
}

// checkReserve stops a spool before it takes the last of a disk.
func checkReserve(dir string) error {
	has, err := free(dir)
	if err != nil {
		return err
	}
	if has < diskReserve {
		return diskFull(dir, has)
	}
	return nil
}

func diskFull(dir string, has int64) error {
	return fail.Hint(fmt.Errorf("the disk of the spool folder %s is full: %s left, and the last %s are not touched, for etcd may need them",
		dir, bytesOf(has), bytesOf(diskReserve)), diskHint)
}

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
