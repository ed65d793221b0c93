package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

// smallDisk is a folder on a disk of its own, of n MiB.
func smallDisk(t *testing.T, n string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+n+"m"); err != nil {
		if errors.Is(err, unix.EPERM) && os.Getenv("CI") == "" {
			t.Skip("this container may not mount a small disk")
		}
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("something still uses the small disk: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// fillDisk takes all but n bytes of a disk, while others write to it, too.
func fillDisk(t *testing.T, dir string, n int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		if has, err := free(dir); err != nil {
			t.Error(err)
			return
		} else if has-step < n || unix.Fallocate(int(f.Fd()), 0, size, step) != nil {
			step /= 2
			continue
		}
		size += step
	}
}

// TestDiskTooSmall: what will not fit is refused before anything is streamed, with the numbers.
func TestDiskTooSmall(t *testing.T) {
	slow(t)
	c := filled(t, lab.EtcdOptions{}, 30000)
	dir := smallDisk(t, "100")
	_, err := Stream(t.Context(), cluster(t, c), choose(t, cluster(t, c)), SpoolOptions{Dir: dir})
	wantError(t, err, "has 100 MiB free; a database of 39 MiB needs 123 MiB", "spool folder")
	nothingLeft(t, dir)
}

// TestDiskFills: a disk that something else fills while a snapshot is spooled keeps its reserve: the snapshot is given up, and what
// it took is free again.
func TestDiskFills(t *testing.T) {
	slow(t)
	c := filled(t, lab.EtcdOptions{}, 60000)
	for name, left := range map[string]int64{"reserve": diskReserve + 8<<20, "all": 0} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "220")
			dir := filepath.Join(disk, "spool")
			p := startProxy(t, c.Endpoint(0), 16<<20, func() { fillDisk(t, disk, left) })
			_, err := Stream(t.Context(), through(t, c, p), choose(t, through(t, c, p)), SpoolOptions{Dir: dir})
			wantError(t, err, "is full", "spool folder")
			nothingLeft(t, dir)
			if has, err := free(disk); err != nil || has < left+8<<20 {
				t.Errorf("%d bytes are free, want the %d that were left and what the spool had taken (%v)", has, left, err)
			}
		})
	}
}

// TestCleanSpool: names that a killed run left go, everything else stays, and a spool in use is not disturbed.
func TestCleanSpool(t *testing.T) {
	dir := t.TempDir()
	s, err := newSpool(SpoolOptions{Dir: dir}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"snapshot-123.spool", "mine.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := CleanSpool(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "mine.db" {
		t.Errorf("left: %v, want mine.db alone (%v)", left, err)
	}
	if _, err := s.object.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("the spool in use was disturbed: %v", err)
	}
	if err := CleanSpool(filepath.Join(dir, "nothing")); err != nil {
		t.Errorf("a folder that does not exist: %v", err)
	}
}
