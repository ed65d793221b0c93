package record

import (
	"errors"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// TestS3: the same on a real S3 server over TLS, which dies and comes back.
func TestS3(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	s3 := lab.StartS3(t, lab.S3Options{})
	cfg := s3.StoreConfig()
	cfg.S3.Attempts, cfg.S3.BackoffMax = 2, 100*time.Millisecond
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.repo, err = repo.Open(t.Context(), st, "test"); err != nil {
		t.Fatal(err)
	}
	o := r.options()
	o.TurnTTL = 6 * time.Second // times of S3 are whole seconds
	run := r.start(o)
	first := run.has(SignalFirst)
	run.waitStored(r.put(30))
	s3.Kill()
	last := r.put(30)
	lab.Eventually(t, 30*time.Second, "the outage is noticed", func() error {
		if run.Status().UploadFailures == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	s3.Restart()
	run.waitStored(last)
	other := r.start(func() Options { o := r.options(); o.TurnTTL = 6 * time.Second; return o }())
	other.waitState(Standby)
	_ = run.stop()
	emptySpool(t, o.SpoolDir)
	other.waitState(Recording)
	last = r.put(10)
	other.waitStored(last)
	if n := run.got(SignalGap) + other.got(SignalGap); n != 0 {
		t.Fatalf("%d gaps", n)
	}
	r.mustEqual(r.read(other.timeline()), int64(first.To)+1, last)
	rec, ok, err := r.repo.Recorded(t.Context(), other.timeline())
	if err != nil || !ok || rec.Highest < repo.Revision(last) {
		t.Fatalf("the mark says %+v (%v)", rec, err)
	}
}
