package restore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// TestRestorePastDamagedDuplicate: a damaged segment does not stop a restore when another holds the same revisions; the result says so.
func TestRestorePastDamagedDuplicate(t *testing.T) {
	_, dir := folderRepo(t)
	w := newRecorded(t, "3.6", store.Config{URL: "file://" + dir})
	w.snapshot(t)
	var rev int64
	for range 5 {
		rev = w.put(t, "key")
	}
	w.through(t, rev)
	want := w.note(t, rev)
	if err := w.rec.Stop(); err != nil {
		t.Fatal(err)
	}
	c, err := w.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var damaged []string
	for _, s := range c.Segments {
		path := filepath.Join(dir, "main", s.Key)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		twin := repo.SegmentKey(s.Timeline, s.First, s.Last, repo.NewSnapshotID(time.Now()), s.Encrypted)
		twin = filepath.Join(dir, "main", twin)
		bad := bytes.Clone(content)
		bad[len(bad)/2] ^= 1
		if err := os.MkdirAll(filepath.Dir(twin), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(twin, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if int64(s.Last) == rev {
			damaged = append(damaged, s.Key)
		}
	}
	res := w.wantServed(t, backup.Point{Revision: repo.Revision(rev)}, want)
	for _, key := range damaged {
		if !strings.Contains(strings.Join(res.Notes, "\n"), key) {
			t.Errorf("the notes are %q, want them to name %s", res.Notes, key)
		}
	}
	if len(damaged) == 0 {
		t.Error("no segment ends with the restored revision")
	}
}
