package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// TestDamagedNewest: when the newest snapshot is damaged, the hint names the older one with the revision, and following it loses nothing. Followed with the older one's
// ID alone, as the hint was, everything that the change log holds behind it was lost.
func TestDamagedNewest(t *testing.T) {
	_, dir := folderRepo(t)
	w := newRecorded(t, "3.6", store.Config{URL: "file://" + dir})
	oldest := w.snapshot(t)
	var rev int64
	step := func() {
		for range 5 {
			rev = w.put(t, "key")
		}
		w.through(t, rev)
	}
	step()
	older := w.snapshot(t)
	step()
	newest := w.snapshot(t)
	step()
	want := w.note(t, rev)
	if err := w.rec.Stop(); err != nil {
		t.Fatal(err)
	}
	path := func(m *repo.Manifest) string { return filepath.Join(dir, "main", m.Object.Key) }
	for what, c := range map[string]func(b []byte) []byte{
		"its header":  func(b []byte) []byte { b[40] ^= 1; return b },
		"its content": func(b []byte) []byte { b[len(b)-200] ^= 1; return b },
		"its end":     func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		whole, err := os.ReadFile(path(newest))
		if err != nil {
			t.Fatal(err)
		}
		write := func(b []byte) {
			t.Helper()
			if err := errors.Join(os.Chmod(path(newest), 0o600), os.WriteFile(path(newest), b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		write(c(append([]byte{}, whole...)))
		for _, p := range []backup.Point{{}, {ID: newest.ID}} {
			to := repo.Revision(rev)
			if p.ID != "" {
				to = newest.Database.Revision
			}
			_, err := DataDir(t.Context(), w.options(t, p))
			flags := fmt.Sprintf("--id %s --to-revision %d", older.ID, to)
			if fail.ExitCode(err) != fail.Wanting || !strings.Contains(fail.HintOf(err), flags) {
				t.Errorf("%s, %+v: %v\nhint: %s\nwant %s", what, p, err, fail.HintOf(err), flags)
			}
		}
		res, err := DataDir(t.Context(), w.options(t, backup.Point{ID: older.ID, Revision: repo.Revision(rev)}))
		if err != nil || res.HashKV != want.hash {
			t.Errorf("%s: as the hint says: %+v, %v", what, res, err)
		}
		write(whole)
	}
	// One that is known to be bad is not named, and where there is none, that is said.
	flip := func(m *repo.Manifest) {
		t.Helper()
		b, err := os.ReadFile(path(m))
		if err != nil {
			t.Fatal(err)
		}
		b[40] ^= 1
		if err := errors.Join(os.Chmod(path(m), 0o600), os.WriteFile(path(m), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	flip(newest)
	flip(older)
	if _, err := backup.Verify(t.Context(), backup.VerifyOptions{Repo: w.repo, IDs: []repo.SnapshotID{older.ID}, Scratch: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := DataDir(t.Context(), w.options(t, backup.Point{})); !strings.Contains(fail.HintOf(err), string(oldest.ID)) {
		t.Errorf("two are damaged: %v\nhint: %s", err, fail.HintOf(err))
	}
	flip(oldest)
	if _, err := backup.Verify(t.Context(), backup.VerifyOptions{Repo: w.repo, IDs: []repo.SnapshotID{oldest.ID}, Scratch: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := DataDir(t.Context(), w.options(t, backup.Point{})); fail.HintOf(err) != damagedHint {
		t.Errorf("all are damaged: %v\nhint: %s", err, fail.HintOf(err))
	}
}
