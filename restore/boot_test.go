package restore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/backup/repo"
)

// TestBoot: a backup's file is proven by a stock etcd, and one that is not what its manifest says is found.
func TestBoot(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	m := publish(t, r, s, nil, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "verify.db")
	if err := os.Link(s.path, file); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	seconds, err := Boot(t.Context(), file, m)
	if err != nil || seconds <= 0 {
		t.Errorf("%v s, %v", seconds, err)
	}
	wantNothing(t, dir, before)
	for what, spoil := range map[string]func(*repo.Database){
		"HashKV":         func(d *repo.Database) { d.HashKV ^= 1 },
		"keys":           func(d *repo.Database) { d.Keys++ },
		"compacted":      func(d *repo.Database) { d.CompactRevision-- },
		"alarms":         func(d *repo.Database) { d.Alarms = []string{"NOSPACE"} },
		"authentication": func(d *repo.Database) { d.AuthEnabled = true },
	} {
		wrong := *m
		spoil(&wrong.Database)
		if _, err := Boot(t.Context(), file, &wrong); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestBootAfterBump: a backup of a cluster that was itself restored with a bump holds the bump's empty record; every count of it agrees.
func TestBootAfterBump(t *testing.T) {
	s := snapshotOf(t, "3.6")
	first, _ := folderRepo(t)
	publish(t, first, s, nil, nil)
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo = first
	res, err := DataDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, "3.6", res)
	cli := c.Client(t)
	again := &taken{path: filepath.Join(t.TempDir(), "again.db"), version: "3.6"}
	if _, err := cli.Put(t.Context(), "/after", "v"); err != nil {
		t.Fatal(err)
	}
	again.observe(t, c)
	saveSnapshot(t, cli, again.path)
	second, _ := folderRepo(t)
	m := publish(t, second, again, nil, nil)
	if m.Database.HashKV != again.hash || m.Database.Keys != again.keys || m.Database.Revision != again.revision {
		t.Errorf("the file says %+v, etcd said %+v", m.Database, again)
	}
	if _, err := Boot(t.Context(), again.path, m); err != nil {
		t.Error(err)
	}
}
