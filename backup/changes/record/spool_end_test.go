package record

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// spooled makes n revisions while the store is away, stops the recorder, and returns what they hold.
func (r *rig) spooled(run *running, n int) (first, last int64, want []changestest.Record) {
	r.t.Helper()
	r.down.Store(true)
	first = r.put(1)
	last = r.put(n - 1)
	lab.Eventually(r.t, 20*time.Second, "the revisions are received", func() error {
		if s := run.Status(); s.Received < repo.Revision(last) || s.UploadFailures == 0 {
			return errors.New(s.Received.Hex())
		}
		return nil
	})
	_ = run.stop()
	want, err := changestest.Late(r.t.Context(), r.cli, first, last)
	if err != nil {
		r.t.Fatal(err)
	}
	return first, last, want
}

// mustHold fails the test unless the timeline's log holds exactly these records from first to last, and nothing behind.
func (r *rig) mustHold(t repo.Timeline, first, last int64, want []changestest.Record) {
	r.t.Helper()
	l := r.read(t)
	var got []changestest.Record
	for rev := first; rev <= last; rev++ {
		got = append(got, l.records[repo.Revision(rev)]...)
	}
	if l.to != repo.Revision(last) || len(got) != len(want) {
		r.t.Fatalf("the log of %s goes to %d with %d records, want %d with %d", t, l.to, len(got), last, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			r.t.Fatalf("record %d: got %s = %x, want %s = %x", i, got[i].Key, got[i].Value, want[i].Key, want[i].Value)
		}
	}
}

// nextTimeline waits until the recorder is on the timeline behind one, and records there.
func (r *rig) nextTimeline(run *running, one repo.Timeline) {
	r.t.Helper()
	lab.Eventually(r.t, 30*time.Second, "the next timeline", func() error {
		if got := run.timeline(); got.Cut != one.Cut+1 {
			return errors.New(got.String() + " " + run.Status().Problem)
		}
		return nil
	})
	run.waitState(Recording)
	last := r.put(3)
	run.waitStored(last)
	_ = run.stop()
	l := r.read(run.timeline())
	r.mustEqual(l, int64(l.from), last)
}

// TestHistoryGoesBackWithoutStore: when the history was cut while neither recorder nor store were there, and has grown past where the spool ends, the
// spool's own note shows it, whether the store is back by then or not.
func TestHistoryGoesBackWithoutStore(t *testing.T) {
	for name, back := range map[string]bool{"store away": false, "store back": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{})
			o := r.options()
			run := r.start(o)
			run.has(SignalFirst)
			run.waitStored(r.put(5))
			copied := r.copyData()
			run.waitStored(r.put(1))
			one := run.timeline()
			first, last, want := r.spooled(run, 10)
			r.goBack(copied)
			if now := r.put(30); now <= last {
				t.Fatalf("revision %d has not grown past %d", now, last)
			}
			r.down.Store(!back)
			run = r.start(o)
			if s := run.has(SignalEnded); !s.NeedFull || s.Timeline != one {
				t.Fatalf("got %+v", s)
			}
			if !back {
				// Its end outlives the process as well.
				_ = run.stop()
				r.put(1)
				run = r.start(o)
				lab.Eventually(t, 20*time.Second, "it waits for the store", func() error {
					if s := run.Status(); s.State != Reconnecting {
						return errors.New(string(s.State))
					}
					return nil
				})
			}
			r.down.Store(false)
			r.nextTimeline(run, one)
			r.mustHold(one, first, last, want)
			rec, _, err := r.repo.Recorded(t.Context(), one)
			if err != nil || rec.Ended == "" {
				t.Fatalf("the mark says %+v (%v)", rec, err)
			}
			emptySpool(t, o.SpoolDir)
		})
	}
}

// TestSpoolWithoutEnd: a spool that does not say what its last revision held is gone on with, and a full snapshot is demanded.
func TestSpoolWithoutEnd(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	run.waitStored(r.put(5))
	_, last, _ := r.spooled(run, 5)
	if err := os.Remove(filepath.Join(o.SpoolDir, spoolEndName)); err != nil {
		t.Fatal(err)
	}
	run = r.start(o)
	if s := run.has(SignalUnproven); !s.NeedFull || s.To != repo.Revision(last) {
		t.Fatalf("got %+v", s)
	}
	last = r.put(5)
	r.down.Store(false)
	run.waitStored(last)
	_ = run.stop()
	l := r.read(run.timeline())
	r.mustEqual(l, int64(l.from), last)
	if run.got(SignalGap)+run.got(SignalEnded) != 0 {
		t.Fatalf("signals %+v", run.signals)
	}
}

// TestHeldBack: what was recorded without the store is not stored when the store's mark contradicts it, and is when it does not.
func TestHeldBack(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	run.waitStored(r.put(5))
	one := run.timeline()
	copied := r.copyData()
	first, last, _ := r.spooled(run, 5)
	if err := os.Remove(filepath.Join(o.SpoolDir, spoolEndName)); err != nil {
		t.Fatal(err)
	}
	// Another daemon gets further.
	r.down.Store(false)
	other := r.start(r.options())
	other.waitState(Recording)
	last = max(last, r.put(5))
	other.waitStored(last)
	_ = other.stop()
	want, err := changestest.Late(t.Context(), r.cli, first, last)
	if err != nil {
		t.Fatal(err)
	}
	r.down.Store(true)
	r.goBack(copied)
	now := r.put(30)
	run = r.start(o)
	run.has(SignalUnproven)
	lab.Eventually(t, 20*time.Second, "it records without the store", func() error {
		if s := run.Status(); s.Received < repo.Revision(now) || s.Waiting < 2 {
			return errors.New(s.Received.Hex())
		}
		return nil
	})
	r.down.Store(false)
	run.has(SignalEnded)
	r.nextTimeline(run, one)
	r.mustHold(one, first, last, want)
	files, err := filepath.Glob(filepath.Join(o.SpoolDir, "*"+damagedEnding))
	if err != nil || len(files) == 0 {
		t.Fatalf("what was held back is not kept: %v (%v)", files, err)
	}
}
