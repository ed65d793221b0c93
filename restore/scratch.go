package restore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
)

// A working folder is named after what it becomes, so that an interrupted restore's is recognized: <final>.steward-<ULID>.partial beside it, or
// .steward-<ULID>.partial inside a mount point.
const (
	scratchInfix  = ".steward-"
	scratchEnding = ".partial"
)

// isScratch says whether name is a working folder's for a final name that ends with base.
func isScratch(name, base string) bool {
	id, found := strings.CutPrefix(name, base+scratchInfix)
	id, ended := strings.CutSuffix(id, scratchEnding)
	_, err := ulid.ParseStrict(id)
	return found && ended && err == nil
}

// leftovers are the working folders of interrupted restores to the same place. It refuses when one of them is in use.
func (p place) leftovers() (paths []string, err error) {
	dir, base := filepath.Dir(p.final), filepath.Base(p.final)
	if p.inside {
		dir, base = p.final, ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || !isScratch(e.Name(), base) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		lock, err := lockDir(path)
		if err != nil {
			return nil, err
		}
		_ = lock.Close()
		paths = append(paths, path)
	}
	return paths, nil
}

// lockDir takes the lock that says that a working folder is in use. Closing the file gives it back; so does the end of the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fail.Refused(fmt.Errorf("another restore works in %s: %w", dir, err), "wait for it, or end it; then run this again")
	}
	return f, nil
}

// diskUse is about what removing a folder would free.
func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // an estimate for the plan
		}
		if st, err := d.Info(); err == nil {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				n += sys.Blocks * 512
			}
		}
		return nil
	})
	return n
}
