package machines

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"etcd-steward/integration/lab"
)

// open opens the machine's root directory, from which no link leads out: as the machine itself sees it, with /run and /tmp, while it is on; otherwise the disk alone.
func (m *Machine) open() (*os.Root, error) {
	if leader := m.Leader(); leader != 0 {
		return os.OpenRoot(fmt.Sprintf("/proc/%d/root", leader))
	}
	return os.OpenRoot(m.Root)
}

// rel is an absolute path on the machine, from its root.
func rel(path string) string { return strings.TrimPrefix(filepath.Clean("/"+path), "/") }

// ReadFile reads a file of the machine, also while it is off (then without what is in memory: /run, /tmp).
func (m *Machine) ReadFile(t lab.T, path string) string {
	t.Helper()
	root, err := m.open()
	if err != nil {
		t.Fatalf("read %s on %s: %v", path, m.Name, err)
	}
	defer func() { _ = root.Close() }()
	b, err := root.ReadFile(rel(path))
	if err != nil {
		t.Fatalf("read %s on %s: %v", path, m.Name, err)
	}
	return string(b)
}

// Exists says whether there is something at path on the machine.
func (m *Machine) Exists(t lab.T, path string) bool {
	t.Helper()
	root, err := m.open()
	if err != nil {
		t.Fatalf("look for %s on %s: %v", path, m.Name, err)
	}
	defer func() { _ = root.Close() }()
	_, err = root.Lstat(rel(path))
	return err == nil
}

// WriteFile writes a file of the machine, with the folders above it (0755, root's). The owner is a user of the machine and its group; "" is root.
func (m *Machine) WriteFile(t lab.T, path, text string, mode fs.FileMode, owner string) {
	t.Helper()
	if err := m.write(path, []byte(text), mode, owner); err != nil {
		t.Fatalf("write %s on %s: %v", path, m.Name, err)
	}
}

// Mkdir makes a folder of the machine, likewise.
func (m *Machine) Mkdir(t lab.T, path string, mode fs.FileMode, owner string) {
	t.Helper()
	root, err := m.open()
	if err != nil {
		t.Fatalf("make %s on %s: %v", path, m.Name, err)
	}
	defer func() { _ = root.Close() }()
	if err = root.MkdirAll(rel(path), 0o755); err == nil {
		err = dress(root, rel(path), mode, owner)
	}
	if err != nil {
		t.Fatalf("make %s on %s: %v", path, m.Name, err)
	}
}

// Install puts a program of the host onto the machine: Install(t, lab.Tool(t, "etcd-3.6"), "/usr/local/bin/etcd").
func (m *Machine) Install(t lab.T, program, path string) {
	t.Helper()
	src, err := os.Open(program)
	if err != nil {
		t.Fatalf("install %s on %s: %v", program, m.Name, err)
	}
	defer func() { _ = src.Close() }()
	if err := m.put(path, src, 0o755, ""); err != nil {
		t.Fatalf("install %s on %s: %v", program, m.Name, err)
	}
}

func (m *Machine) write(path string, data []byte, mode fs.FileMode, owner string) error {
	return m.put(path, strings.NewReader(string(data)), mode, owner)
}

// put writes beside and renames, so that whoever watches the folder sees whole files, and a program that runs can be replaced.
func (m *Machine) put(path string, src io.Reader, mode fs.FileMode, owner string) error {
	root, err := m.open()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	dir, base := filepath.Split(rel(path))
	if dir != "" {
		if err := root.MkdirAll(strings.TrimSuffix(dir, "/"), 0o755); err != nil {
			return err
		}
	}
	temp := dir + ".lab-" + base
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = dress(root, temp, mode, owner)
	}
	if err == nil {
		err = root.Rename(temp, rel(path))
	}
	return err
}

// dress gives a file its owner and mode.
func dress(root *os.Root, name string, mode fs.FileMode, owner string) error {
	uid, gid := 0, 0
	if owner != "" {
		var err error
		if uid, gid, err = ids(root, owner); err != nil {
			return err
		}
	}
	if err := root.Chown(name, uid, gid); err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

// ids are a user's and its group's, by the machine's own passwd.
func ids(root *os.Root, user string) (uid, gid int, err error) {
	passwd, err := root.ReadFile("etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != user {
			continue
		}
		if uid, err = strconv.Atoi(f[2]); err == nil {
			gid, err = strconv.Atoi(f[3])
		}
		return uid, gid, err
	}
	return 0, 0, fmt.Errorf("there is no user %s", user)
}
