package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-steward/backup/store"
)

func folder(t *testing.T, root string) store.Store {
	t.Helper()
	return open(t, store.Config{URL: "file://" + root})
}

// mountTmpfs gives a small file system of its own, which needs root.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func temps(t *testing.T, root string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(root, ".steward", "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestFileDiskFull(t *testing.T) {
	root := mountTmpfs(t, "size=4m")
	s := folder(t, root)
	kept := bytes.Repeat([]byte("k"), 1<<20)
	if _, err := s.Put(t.Context(), "main/kept", src(kept), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, opts := range []store.PutOptions{{}, {IfAbsent: true}} {
		_, err := s.Put(t.Context(), "main/large", src(make([]byte, 8<<20)), opts)
		wantKind(t, err, store.NoSpace, "put main/large", "no space left")
	}
	_, err := s.Put(t.Context(), "main/kept", src(make([]byte, 8<<20)), store.PutOptions{})
	wantKind(t, err, store.NoSpace)
	wantContent(t, s, "main/kept", kept)
	if left := temps(t, root); len(left) > 0 {
		t.Errorf("temporary files left: %q", left)
	}
	if _, err := s.Put(t.Context(), "main/small", src(kept), store.PutOptions{}); err != nil {
		t.Errorf("what fits: %v", err)
	}
}

func TestFileReadOnly(t *testing.T) {
	root := mountTmpfs(t, "size=4m")
	if _, err := folder(t, root).Put(t.Context(), "main/a", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s := folder(t, root)
	wantContent(t, s, "main/a", []byte("x"))
	_, err := s.Put(t.Context(), "main/b", src([]byte("x")), store.PutOptions{})
	wantKind(t, err, store.Denied, "read-only")
	wantKind(t, s.Delete(t.Context(), "main/a"), store.Denied, "read-only")
}

// TestFileRootGone: a disk that is not mounted any more is not an empty store, and nothing is written in its place.
func TestFileRootGone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	s := folder(t, root)
	if _, err := s.Put(t.Context(), "main/a", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	for op, err := range everything(t, s) {
		if store.KindOf(err) != store.NoBucket {
			t.Errorf("%s: got %v, want the kind %q", op, err, store.NoBucket)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder was made again: %v", err)
	}
}

// TestFileForeign: what is in the folder and is not ours is neither listed nor read, and never touched.
func TestFileForeign(t *testing.T) {
	root := t.TempDir()
	s := folder(t, root)
	if _, err := s.Put(t.Context(), "main/a", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(string) error{
		"main/link":    func(p string) error { return os.Symlink(secret, p) },
		"main/dirlink": func(p string) error { return os.Symlink(filepath.Dir(secret), p) },
		"main/fifo":    func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"main/ä":       func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"main/.hidden": func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"lost+found":   func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		if err := make(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if !slices.Equal(got, []string{"main/a"}) {
		t.Errorf("List: got %q, want main/a alone", got)
	}
	for _, key := range []string{"main/link", "main/fifo"} {
		_, err := s.Get(t.Context(), key, 0, -1)
		wantKind(t, err, store.NotFound)
		_, err = s.Put(t.Context(), key, src([]byte("y")), store.PutOptions{IfAbsent: true})
		wantKind(t, err, store.Exists)
	}
	// A key that goes through another object, or names a folder.
	_, err := s.Put(t.Context(), "main/a/b", src([]byte("y")), store.PutOptions{})
	wantKind(t, err, store.Invalid, "goes through another object")
	for _, opts := range []store.PutOptions{{}, {IfAbsent: true}} {
		_, err = s.Put(t.Context(), "main", src([]byte("y")), opts)
		wantKind(t, err, store.Invalid, "it is a folder")
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the link's target: %q, %v", b, err)
	}
}

// TestFileCutUnderneath: a file that is shorter than it was when it was opened is not complete.
func TestFileCutUnderneath(t *testing.T) {
	root := t.TempDir()
	s := folder(t, root)
	if _, err := s.Put(t.Context(), "a", src(make([]byte, 100_000)), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(filepath.Join(root, "a"), 50_000); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	_, err = buf.ReadFrom(r)
	wantKind(t, err, store.Damaged, "cut to 50000 bytes")
}

// TestFileLeftovers: temporary files of writers that were killed go away, those of writers that live do not.
func TestFileLeftovers(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, ".steward", "tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{"put-dead", "put-alive", "put-young"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "put-young" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	alive, err := os.Open(filepath.Join(dir, "put-alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alive.Close() }()
	if err := syscall.Flock(int(alive.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s := folder(t, root)
	for range s.List(t.Context(), "", "") {
		t.Error("a temporary file is listed")
	}
	if _, err := s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "put-alive"), filepath.Join(dir, "put-young")}
	if got := temps(t, root); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFileProcesses races compare-and-swap and exclusive creates between processes: this test binary runs itself.
func TestFileProcesses(t *testing.T) {
	if root := os.Getenv("STEWARD_TEST_FOLDER"); root != "" {
		processCounts(t, folder(t, root))
		return
	}
	root := t.TempDir()
	s := folder(t, root)
	if _, err := s.Put(t.Context(), "count", src([]byte("0")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFileProcesses$")
			cmd.Env = append(os.Environ(), "STEWARD_TEST_FOLDER="+root)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("a process: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	wantContent(t, s, "count", []byte("80"))
	n := 0
	for _, err := range s.List(t.Context(), "mine/", "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("got %d exclusive objects, want 20", n)
	}
}

// processCounts adds 20, each with a swap, and takes part in 20 exclusive creates.
func processCounts(t *testing.T, s store.Store) {
	for i := range 20 {
		_, err := s.Put(t.Context(), fmt.Sprintf("mine/%d", i), src([]byte(strconv.Itoa(os.Getpid()))), store.PutOptions{IfAbsent: true})
		if err != nil && !errors.Is(err, store.Exists) {
			t.Fatal(err)
		}
		for {
			head, err := s.Head(t.Context(), "count")
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Get(t.Context(), "count", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if _, err := buf.ReadFrom(r); err != nil {
				t.Fatal(err)
			}
			_ = r.Close()
			n, err := strconv.Atoi(buf.String())
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Put(t.Context(), "count", src([]byte(strconv.Itoa(n+1))), store.PutOptions{IfMatch: head.ETag})
			if err == nil {
				break
			}
			if !errors.Is(err, store.Changed) {
				t.Fatal(err)
			}
		}
	}
}

// TestFileLockedOut: whoever waits for the lock still heeds its context.
func TestFileLockedOut(t *testing.T) {
	root := t.TempDir()
	s := folder(t, root)
	if _, err := s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	holder, err := os.Open(filepath.Join(root, ".steward", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close() }()
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Put(ctx, "a", src([]byte("y")), store.PutOptions{})
	wantKind(t, err, store.Interrupted)
	// An exclusive create needs no lock.
	if _, err := s.Put(t.Context(), "b", src([]byte("y")), store.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("exclusive create: %v", err)
	}
	wantContent(t, s, "a", []byte("x"))
}
