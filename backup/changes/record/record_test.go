package record

import (
	"context"
	"errors"
	"testing"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/integration/lab"
)

// TestRecord: a random history on each version of etcd is recorded as a late watch tells it, and the rest of what a segment says is there.
func TestRecord(t *testing.T) {
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{Version: version})
			o := r.options()
			o.SegmentSize = 200 << 10
			run := r.start(o)
			first := run.has(SignalFirst)
			w := &changestest.Workload{Client: r.cli, Seed: lab.Seed(t), Leases: true, TTL: 60, Wide: 200}
			if _, err := w.Run(t.Context(), 800); err != nil {
				t.Fatal(err)
			}
			run.Prove()
			last := r.put(1)
			run.waitStored(last)
			if err := run.stop(); !errors.Is(err, context.Canceled) {
				t.Fatalf("Run returned %v, want context.Canceled", err)
			}
			emptySpool(t, o.SpoolDir)
			l := r.read(run.timeline())
			if l.from != first.To+1 || int64(l.to) < last || len(l.segments) < 5 {
				t.Fatalf("revisions %d to %d in %d segments, want %d to %d in several", l.from, l.to, len(l.segments), first.To+1, last)
			}
			r.mustEqual(l, int64(l.from), last)
			t.Logf("%d segments, %d leases, %d proofs, %d marks", len(l.segments), len(l.leases), len(l.proofs), len(l.marks))
			if len(l.leases) == 0 || len(l.marks) == 0 || len(l.auth) == 0 {
				t.Fatalf("%d leases, %d marks, %d auth revisions", len(l.leases), len(l.marks), len(l.auth))
			}
			for _, p := range l.proofs {
				if h := r.c.HashKV(t, 0, int64(p.Revision)); h.Hash != p.Hash || max(0, h.CompactRevision) != int64(p.CompactRevision) {
					t.Errorf("proof %+v, the member says %d compacted at %d", p, h.Hash, h.CompactRevision)
				}
			}
		})
	}
}
