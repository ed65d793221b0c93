package record

import (
	"errors"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// TestLeasesAnew: leases that were asked for and never written, since the log was taken up anew, are written all the same; and of more leases than are
// remembered, none are called all.
func TestLeasesAnew(t *testing.T) {
	for name, limit := range map[string]int{"all": 0, "too many": 3} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{})
			var ids []int64
			for range 5 {
				resp, err := r.cli.Grant(t.Context(), 600)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, int64(resp.ID))
			}
			run := r.start(r.options(), func(rec *Recorder) { rec.book.limit = limit })
			run.has(SignalFirst)
			want := 5
			if limit > 0 {
				want = limit
			}
			lab.Eventually(t, 20*time.Second, "leases are listed", func() error {
				if n := run.Status().Leases; n != want {
					return errors.New(repo.Revision(n).Hex())
				}
				return nil
			})
			run.mu.Lock()
			stored := len(run.stored)
			run.mu.Unlock()
			if stored > 0 {
				t.Skip("a segment took the leases before they could be lost")
			}
			// The turn is lost and had again: the notes begin anew.
			run.Recorder.mu.Lock()
			run.known.located = false
			run.Recorder.mu.Unlock()
			r.c.Stop(0)
			r.c.Restart(t, 0)
			r.c.WaitHealthy(t)
			run.waitState(Recording)
			time.Sleep(time.Second)
			run.waitStored(r.put(1))
			_ = run.stop()
			l := r.read(run.timeline())
			if len(l.leases) != want {
				t.Fatalf("%d of %d leases are in the log: %v", len(l.leases), want, l.leases)
			}
			if l.complete != (limit == 0) {
				t.Fatalf("complete is %v for %d of %d leases", l.complete, want, len(ids))
			}
		})
	}
}
