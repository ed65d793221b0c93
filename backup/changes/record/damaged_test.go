package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// TestDamagedSpool: a spooled segment that was damaged on disk, is gone or cannot be read is never stored and stops nothing; it is a gap, the mark says so
// before it says that the log is stored beyond it, and a full snapshot is demanded.
func TestDamagedSpool(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"damaged": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cut": func(t *testing.T, path string) {
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"unreadable": func(t *testing.T, path string) { // reading a folder is an error, as of a broken disk
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { testDamagedSpool(t, spoil, name != "gone") })
	}
}

func testDamagedSpool(t *testing.T, spoil func(*testing.T, string), kept bool) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	run.waitStored(r.put(5))
	r.down.Store(true)
	first, last := r.put(1), r.put(4)
	var path string
	lab.Eventually(t, 20*time.Second, "a segment is spooled", func() error {
		files, err := filepath.Glob(filepath.Join(o.SpoolDir, "*"+spoolSeparator+"*"))
		if s := run.Status(); err != nil || len(files) == 0 || s.Received < repo.Revision(last) {
			return errors.Join(err, errors.New(s.Received.Hex()))
		}
		path = files[0]
		return nil
	})
	spoil(t, path)
	behind := r.put(5)
	r.down.Store(false)
	s := run.has(SignalDamaged)
	if !s.NeedFull || s.From != repo.Revision(first) || s.To < s.From || s.To > repo.Revision(last) {
		t.Fatalf("got %+v", s)
	}
	run.waitStored(behind)
	_ = run.stop()
	rec, _, err := r.repo.Recorded(t.Context(), run.timeline())
	if err != nil || len(rec.Gaps) != 1 || rec.Gaps[0].From != s.From || rec.Gaps[0].To != s.To || !strings.Contains(rec.Gaps[0].Reason, "spool") || rec.Through < repo.Revision(behind) {
		t.Fatalf("the mark says %+v (%v)", rec, err)
	}
	if _, err := os.Stat(path + damagedEnding); kept != (err == nil) {
		t.Fatalf("the damaged file: %v", err)
	}
	l := r.segmentsFrom(run.timeline(), s.To+1)
	r.mustEqual(l, int64(s.To)+1, behind)
}
