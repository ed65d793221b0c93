package rebuild_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/revision"
)

func put1(key string, lease int64) op { return op{key: key, value: []byte("v"), lease: lease} }

// TestLeases: which leases a restore point has, from what the snapshot, the recorder's looks and the keys say.
func TestLeases(t *testing.T) {
	h := newHistory()
	for i := range 30 { // revisions 2 to 31
		h.txn(put1(fmt.Sprint("plain", i), 0))
	}
	h.txn(put1("known", 10))           // 32
	h.txn(put1("between", 20))         // 33: never seen by a look
	h.txn(put1("seen later", 30))      // 34
	h.txn(put1("short", 40))           // 35
	h.txn(op{key: "short", del: true}) // 36: its lease was revoked
	h.txn(put1("over", 50))            // 37
	h.txn(put1("over", 0))             // 38: detached, so nothing proves that lease 50 still existed
	for i := range 20 {
		h.txn(put1(fmt.Sprint("more", i), 0))
	}
	lease := func(id, ttl int64) changes.Lease { return changes.Lease{ID: id, Granted: ttl, Remaining: 1} }
	have := []dbfile.Lease{{ID: 1, TTL: 100}, {ID: 2, TTL: 200}, {ID: 10, TTL: 1000}}
	for name, tc := range map[string]struct {
		marks   []mark
		want    map[int64]int64
		assumed []int64
	}{
		"no look": {nil, map[int64]int64{1: 100, 2: 200, 10: 1000, 20: rebuild.AssumedTTL, 30: rebuild.AssumedTTL}, []int64{20, 30}},
		"a look shows what is gone and what is new": {
			[]mark{leasesSeen(32, true, lease(1, 100), lease(10, 1000), lease(60, 600))},
			map[int64]int64{1: 100, 10: 1000, 60: 600, 20: rebuild.AssumedTTL, 30: rebuild.AssumedTTL},
			[]int64{20, 30},
		},
		"a key proves a lease that a look did not show": {
			[]mark{leasesSeen(33, true, lease(1, 100))},
			map[int64]int64{1: 100, 10: 1000, 20: rebuild.AssumedTTL, 30: rebuild.AssumedTTL},
			[]int64{20, 30},
		},
		"a later look knows the TTL, but shows no other lease": {
			[]mark{leasesSeen(32, true, lease(1, 100), lease(10, 1000)), leasesSeen(50, true, lease(30, 3000), lease(70, 700))},
			map[int64]int64{1: 100, 10: 1000, 20: rebuild.AssumedTTL, 30: 3000},
			[]int64{20},
		},
		"additions add": {
			[]mark{leasesSeen(32, true, lease(1, 100)), leasesSeen(33, false, lease(20, 2000)), leasesSeen(34, false, lease(30, 0))},
			map[int64]int64{1: 100, 10: 1000, 20: 2000, 30: rebuild.AssumedTTL},
			[]int64{30},
		},
		"a look before the snapshot says nothing, one at it adds": {
			[]mark{leasesSeen(25, true, lease(9, 900)), leasesSeen(30, true, lease(8, 800))},
			map[int64]int64{1: 100, 2: 200, 8: 800, 10: 1000, 20: rebuild.AssumedTTL, 30: rebuild.AssumedTTL},
			[]int64{20, 30},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := h.file(t, 30, 5, have...)
			res, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 45, Segments: []rebuild.Segment{h.segment(t, 20, 55, tc.marks...)}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, leasesOf(t, path)); d != "" {
				t.Errorf("leases (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.assumed, res.Assumed); d != "" || res.Leases != len(tc.want) {
				t.Errorf("%d leases, assumed (-want +got):\n%s", res.Leases, d)
			}
		})
	}
}

// TestLeasesBehind: a lease that was asked for only in the segment behind the target; one that cannot be read does no harm.
func TestLeasesBehind(t *testing.T) {
	h := newHistory()
	h.txn(put1("a", 10), put1("b", 20)) // 2
	for range 10 {
		h.txn(put1("c", 0))
	}
	list := leasesSeen(2, true, changes.Lease{ID: 10, Granted: 15}, changes.Lease{ID: 30, Granted: 30})
	list.after = 6
	behind := content(t, h.changes, 6, 8, list)
	for name, tc := range map[string]struct {
		last int
		want map[int64]int64
	}{
		"whole":   {len(behind), map[int64]int64{10: 15, 20: rebuild.AssumedTTL}},
		"damaged": {len(behind) / 3, map[int64]int64{10: rebuild.AssumedTTL, 20: rebuild.AssumedTTL}},
	} {
		t.Run(name, func(t *testing.T) {
			path := h.file(t, 1, 0)
			segs := []rebuild.Segment{h.segment(t, 2, 5), segment("behind", 6, 8, behind[:tc.last]), h.segment(t, 9, 11)}
			if _, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 3, Segments: segs}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, leasesOf(t, path)); d != "" {
				t.Errorf("leases (-want +got):\n%s", d)
			}
		})
	}
}

// TestLeasesOfRewind: a rewind brings keys back whose lease was revoked since; those that had no lease in the snapshot either stay without.
func TestLeasesOfRewind(t *testing.T) {
	h := newHistory()
	h.txn(put1("orphan", 10))            // 2: the snapshot has no lease 10 although the key is there
	h.txn(put1("revoked", 20))           // 3
	h.txn(put1("overwritten", 30))       // 4
	h.txn(put1("plain", 0))              // 5
	h.txn(op{key: "revoked", del: true}) // 6
	h.txn(put1("overwritten", 40))       // 7
	h.txn(put1("new", 50))               // 8
	have := []dbfile.Lease{{ID: 40, TTL: 400}, {ID: 50, TTL: 500}}
	for name, tc := range map[string]struct {
		segs []rebuild.Segment
		want map[int64]int64
	}{
		"snapshot alone": {nil, map[int64]int64{20: rebuild.AssumedTTL, 30: rebuild.AssumedTTL, 40: 400, 50: 500}},
		"with the log": {
			[]rebuild.Segment{h.segment(t, 2, 8, leasesSeen(4, true, changes.Lease{ID: 20, Granted: 200}), leasesSeen(8, true, changes.Lease{ID: 30, Granted: 300}))},
			map[int64]int64{20: 200, 30: 300},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := h.file(t, 8, 0, have...)
			res, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 5, Segments: tc.segs})
			if err != nil || res.Removed != 3 || res.Revision != revision.Revision(5) {
				t.Fatalf("%+v, %v", res, err)
			}
			if d := cmp.Diff(tc.want, leasesOf(t, path)); d != "" {
				t.Errorf("leases (-want +got):\n%s", d)
			}
			check(t, h, path, 5, 0)
		})
	}
}
