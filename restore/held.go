package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// refuseOccupied refuses a data directory that is not empty, and says so differently when an etcd runs on it.
func refuseOccupied(dir string) error {
	names, err := contents(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := refuseHeld(dir, ""); err != nil {
		return err
	}
	return fail.Refused(fmt.Errorf("data directory %s is not empty (%s)", dir, strings.Join(names[:min(3, len(names))], ", ")),
		fmt.Sprintf("nothing is ever deleted here: move it away (mv %[1]s %[1]s.old), or give another --data-dir", dir))
}

// refuseOccupiedWAL is the same for a write-ahead log with a place of its own.
func refuseOccupiedWAL(dir string) error {
	names, err := contents(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := refuseHeld("", dir); err != nil {
		return err
	}
	return fail.Refused(fmt.Errorf("WAL directory %s is not empty (%s)", dir, strings.Join(names[:min(3, len(names))], ", ")),
		fmt.Sprintf("nothing is ever deleted here: move it away (mv %[1]s %[1]s.old), or give another --wal-dir", dir))
}

// contents are the names in a directory that count: a file system's own folder does not, nor does what an interrupted restore left. No directory is an empty one.
func contents(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Refused(fmt.Errorf("look into %s: %w", dir, err), "give a directory that this user may read and write")
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "lost+found" && !isScratch(e.Name(), "") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// refuseHeld refuses when a running etcd holds a data directory or a write-ahead log. It takes no lock that etcd could run into.
func refuseHeld(dataDir, walDir string) error {
	held := ""
	if dataDir != "" {
		if db := datadir.DBPath(dataDir); flocked(db) {
			held = db
		}
		if walDir == "" {
			walDir = datadir.WALPath(dataDir)
		}
	}
	if log := lockedLog(walDir); held == "" && log != "" {
		held = log
	}
	if held == "" {
		return nil
	}
	return fail.Refused(fmt.Errorf("a running etcd holds %s", held),
		"stop it first (systemctl stop etcd, or move its manifest out of the kubelet's folder), on every member; then move its data directory away")
}

// flocked says whether somebody holds bbolt's lock. A shared lock is asked for and given back at once: that fails only against a writer.
func flocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lockedLog is a file of a write-ahead log that somebody holds; etcd locks them with open-file-description locks, or flock where there are none.
func lockedLog(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return ""
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		held := rangeLocked(f) || flocked(path)
		_ = f.Close()
		if held {
			return path
		}
	}
	return ""
}
