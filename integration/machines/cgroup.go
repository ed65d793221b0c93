package machines

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Each machine's systemd must have control groups that it does not share: it moves what it finds there. There is one hierarchy (cgroup2), or there are
// two that matter to systemd (its own named one, and cgroup2 beside it), and then those of the controllers, which the machines use as they find them.

// cgroupRoots are the hierarchies in which a machine gets a group.
func cgroupRoots() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var roots []string
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		named := f[2] == "cgroup" && strings.Contains(","+f[3]+",", ",name=systemd,")
		if f[2] == "cgroup2" || named {
			roots = append(roots, f[1])
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("neither cgroup2 nor systemd's hierarchy is mounted, without which systemd does not boot")
	}
	return roots, nil
}

// makeCgroups makes a machine's groups, and returns the files that a process enters them by.
func makeCgroups(name string) ([]string, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	var files []string
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files, nil
}

// removeCgroups removes a machine's groups, innermost first. The kernel lets go of a group a moment after its last process.
func removeCgroups(name string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		for range 200 {
			if err = removeTree(filepath.Join(root, name)); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
