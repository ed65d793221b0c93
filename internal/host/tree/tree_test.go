package tree

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestTree: links count as on the machine itself, nothing outside of the root is read, and nothing that does not end.
func TestTree(t *testing.T) {
	outside := t.TempDir()
	root := t.TempDir()
	tr := Tree(root)
	write := func(name string, size int) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("usr/lib/a", 3)
	write("etc/large", MaxFile+1)
	write("etc/most", MaxFile)
	write("etc/b1.env", 1)
	link("/usr/lib", "lib")
	link("../../../../../../usr/lib/a", "etc/up")
	link("loop", "etc/loop")
	link(outside, "etc/out")
	link("/dev/null", "etc/null")
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "etc/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"/lib/a": 3, "etc/up": 3, "/../usr/lib/./a": 3, "/etc/most": MaxFile} {
		if text, err := tr.Read(name); err != nil || len(text) != want {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(text), err, want)
		}
	}
	for _, name := range []string{"/etc/out/secret", "/etc/none", "/etc/loop", "/etc/pipe", "/etc", "/etc/large"} {
		if text, err := tr.Read(name); err == nil {
			t.Errorf("%s: read %d bytes", name, len(text))
		}
	}
	if _, err := tr.Read("/etc/large"); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long file: %v", err)
	}
	if _, err := tr.Read("/etc/b1.env/x"); !Missing(err) {
		t.Errorf("below a file: %v", err)
	}
	if got := tr.Link("/etc/null"); got != "/dev/null" || tr.Link("/lib/a") != "" || tr.Link("/etc/loop") != "/etc/loop" {
		t.Errorf("links: %q", got)
	}
	if got := tr.Glob("/etc/*.env"); !slices.Equal(got, []string{"/etc/b1.env"}) {
		t.Errorf("glob: %v", got)
	}
	if Tree("/").Real("a/../b") != "/b" || Tree("").Real("/x") != "/x" {
		t.Error("the machine's own paths change")
	}
}
