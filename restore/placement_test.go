package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"etcd-steward/internal/fail"
)

// TestSyncFails: a rename that the disk does not confirm. The log's is taken back; the data directory's is not, and never the log from under it.
func TestSyncFails(t *testing.T) {
	for _, wal := range []bool{false, true} {
		for _, step := range []string{"log renamed", "data directory renamed"} {
			if !wal && step == "log renamed" {
				continue
			}
			dir := t.TempDir()
			dataDir, walDir := filepath.Join(dir, "data"), ""
			if wal {
				walDir = filepath.Join(dir, "wal")
			}
			pl, err := newPlacement(ulid.Make().String(), dataDir, walDir)
			if err != nil {
				t.Fatal(err)
			}
			if err := pl.begin(); err != nil {
				t.Fatal(err)
			}
			if wal {
				if err := os.Mkdir(pl.walBuilt(), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			// A folder that is gone cannot be synced.
			pl.step = func(name string) {
				work := pl.data.work
				if name == "log renamed" && wal {
					work = pl.wal.work
				}
				if name != step {
					return
				}
				if err := os.RemoveAll(work); err != nil {
					t.Error(err)
				}
			}
			err = pl.finish()
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("wal %v, %s: %v", wal, step, err)
			}
			if err := pl.end(); err != nil {
				t.Error(err)
			}
			placed := step == "data directory renamed"
			if placed && (!strings.Contains(err.Error(), "in its place and complete") || fail.HintOf(err) == "") {
				t.Errorf("wal %v, %s: %v does not say what is there", wal, step, err)
			}
			want := []string{""}
			if placed {
				want = append(want, "/data")
			}
			if placed && wal {
				want = append(want, "/wal")
			}
			if got := tree(t, dir); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("wal %v, %s: there is %q, want %q", wal, step, got, want)
			}
		}
	}
}
