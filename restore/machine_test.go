package restore

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// mountTmpfs mounts a small file system for the test. It needs root.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a file system can only be mounted by root")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("this machine lets nothing be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestFullDisk: too little room is said before anything is fetched; a disk that fills afterwards leaves nothing.
func TestFullDisk(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	for size, late := range map[string]bool{"100m": false, "256m": true} {
		dir := filepath.Join(t.TempDir(), "disk")
		mountTmpfs(t, dir, size)
		o := memberOptions(t, dir, 1)[0]
		o.Repo = r
		if !late {
			wantFailure(t, o, fail.Unsafe, "MiB are needed")
			continue
		}
		for _, step := range []string{"fetch", "log"} {
			filler := filepath.Join(dir, "filler")
			o.step = at(step, func() { fillDisk(t, filler) })
			_, err := DataDir(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), "no space left") || step == "fetch" && fail.HintOf(err) == "" {
				t.Errorf("full before %q: %v", step, err)
			}
			wantNothing(t, dir, []string{"", "/filler"})
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	chunk := make([]byte, 1<<20)
	for {
		if _, err := f.Write(chunk); err != nil {
			return
		}
	}
}

// TestMountPoint: a data directory that is a disk of its own, with its own folder in it, and a log that is another one.
func TestMountPoint(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, folder := folderRepo(t)
	publish(t, r, s, nil, nil)
	dir := t.TempDir()
	o := memberOptions(t, dir, 1)[0]
	o.Repo, o.WALDir = r, filepath.Join(dir, "wal")
	mountTmpfs(t, o.DataDir, "256m")
	mountTmpfs(t, o.WALDir, "256m")
	if err := os.Mkdir(filepath.Join(o.DataDir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"log placed", "recovered"} { // killed, and the one that clears up killed too
		crash(t, o, folder, step)
	}
	again(t, s, o, dir)
	member := &lab.EtcdMember{Name: o.Name, DataDir: o.DataDir, PeerURL: o.InitialAdvertisePeerURLs[0]}
	c := lab.StartEtcdMembers(t, lab.EtcdOptions{Version: "3.6", UnsafeNoFsync: true, ExtraArgs: []string{"--wal-dir", o.WALDir}}, []*lab.EtcdMember{member})
	wantSample(t, s, c.Client(t))
}

// TestOwner: the result belongs to whom it should: as asked, or as what was there before.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another user")
	}
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	owner := func(path string) [2]uint32 {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		return [2]uint32{sys.Uid, sys.Gid}
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 4321, 4322); err != nil {
		t.Fatal(err)
	}
	base := memberOptions(t, dir, 1)[0]
	base.Repo = r
	for name, c := range map[string]struct {
		owner string
		prior func(dataDir string)
		want  [2]uint32
	}{
		"as asked":             {owner: "1234:1235", want: [2]uint32{1234, 1235}},
		"by name":              {owner: "nobody", want: [2]uint32{65534, 65534}},
		"the parent's":         {want: [2]uint32{4321, 4322}},
		"the empty folder's":   {prior: func(d string) { mkdirAs(t, d, 2000) }, want: [2]uint32{2000, 2000}},
		"the moved folder's":   {owner: "auto", prior: func(d string) { mkdirAs(t, d+".old", 0); mkdirAs(t, d+".old/member", 3000) }, want: [2]uint32{3000, 3000}},
		"with a log elsewhere": {owner: "1234:1235", want: [2]uint32{1234, 1235}},
	} {
		o := base
		o.Owner, o.DataDir, o.Mode = c.owner, filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), 0o750
		if strings.Contains(name, "log") {
			o.WALDir = o.DataDir + "-wal"
		}
		if c.prior != nil {
			c.prior(o.DataDir)
		}
		res, err := DataDir(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, root := range []string{res.DataDir, res.WALDir} {
			if root == "" {
				continue
			}
			for _, path := range tree(t, root) {
				if got := owner(root + path); got != c.want {
					t.Errorf("%s: %s belongs to %v, want %v", name, root+path, got, c.want)
				}
			}
		}
		if st, err := os.Stat(res.DataDir); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("%s: mode %v, %v", name, st.Mode(), err)
		}
	}
}

func mkdirAs(t *testing.T, dir string, id int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, id, id); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnlyCredentials: credentials that may only read restore, and say that the daemons must be told.
func TestReadOnlyCredentials(t *testing.T) {
	s := snapshotOf(t, "3.6")
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true})
	publish(t, openRepo(t, s3.StoreConfig()), s, nil, nil)
	s3.CreateUser("reader", "reader-secret-0123456789")
	s3.PutBucketPolicy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["reader"]},"Action":["s3:GetObject","s3:ListBucket"],
		"Resource":["arn:aws:s3:::` + s3.Bucket + `","arn:aws:s3:::` + s3.Bucket + `/*"]}]}`)
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo = openRepo(t, s3.StoreConfigFor("reader", "reader-secret-0123456789"))
	res, err := DataDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Recorded || !strings.Contains(strings.Join(res.Notes, "\n"), "was not told of the new cluster") {
		t.Errorf("recorded %v, notes %q", res.Recorded, res.Notes)
	}
	if res.HashKV != s.hash {
		t.Errorf("hash %08x, want %08x", res.HashKV, s.hash)
	}
}
