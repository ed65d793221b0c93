package dbfile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
)

// TestManyKeys: keys that do not fit into one pass give the same result as when they do, and as etcd's own code.
func TestManyKeys(t *testing.T) {
	s := newStore(t)
	rng := rand.New(rand.NewPCG(9, 9))
	const keys = 30000
	for i := range 40000 {
		key := fmt.Appendf(nil, "key-%06d", rng.IntN(keys))
		if i%10 == 0 {
			s.kv.DeleteRange(key, nil)
		} else {
			s.kv.Put(key, []byte("v"), lease.NoLease)
		}
	}
	path := s.snapshot()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, ok := s.ask(0)
	if !ok {
		t.Fatal("etcd has no answer")
	}
	for _, slots := range []int{minSlots, 2 * minSlots, maxSlots} {
		f.maxSlots = slots
		info, err := f.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.Keys != want.keys || int64(info.HashKV) != want.hash {
			t.Errorf("%d slots: got %d keys and hash %d, want %d and %d", slots, info.Keys, info.HashKV, want.keys, want.hash)
		}
		// With a compaction, what is superseded decides the hash.
		got, err := f.HashKV(t.Context(), info.Revision, info.Revision-100)
		if err != nil {
			t.Fatal(err)
		}
		done, err := s.kv.Compact(traceutil.TODO(), int64(info.Revision)-100)
		if err == nil {
			<-done
		}
		if want, _ := s.ask(int64(info.Revision)); int64(got) != want.hash {
			t.Errorf("%d slots: hash with compaction is %d, want %d", slots, got, want.hash)
		}
	}
}

// TestKeySet compares the set with a map, growing, full, and after it was halved again and again.
func TestKeySet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	s := keySet{max: 2 * minSlots}
	defer s.free()
	if err := s.reset(); err != nil {
		t.Fatal(err)
	}
	want := map[uint64]bool{}
	var part share
	for range 200000 {
		for !s.room(1) {
			grown, err := s.grow()
			if err != nil {
				t.Fatal(err)
			}
			if !grown {
				bit := part.mask + 1
				part = share{part.mask | bit, part.want | bit*uint64(rng.IntN(2))}
				s.keep(part)
				for h := range want {
					if h&part.mask != part.want {
						delete(want, h)
					}
				}
			}
		}
		h := rng.Uint64N(300000) * 0x9E3779B97F4A7C15 & slotHash
		if h&part.mask != part.want {
			continue
		}
		if got := s.put(newSlot(h, true, true)); got != want[h] {
			t.Fatalf("%x: it was there: %v, want %v", h, got, want[h])
		}
		want[h] = true
	}
	if live, _ := s.count(); s.n != len(want) || int(live) != len(want) || part.mask == 0 {
		t.Errorf("%d in the set, %d live, want %d (share %+v)", s.n, live, len(want), part)
	}
	if i := slices.IndexFunc(s.slots, func(slot uint64) bool { return slot != 0 && !want[slot&slotHash] }); i >= 0 {
		t.Errorf("slot %d holds what was never put", i)
	}
}

// TestCancelled: a walk ends when its context does.
func TestCancelled(t *testing.T) {
	s := newStore(t)
	for i := range 10000 {
		s.kv.Put(fmt.Appendf(nil, "%d", i), nil, lease.NoLease)
	}
	f, err := Open(s.snapshot())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Info(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Info: got %v, want it cancelled", err)
	}
	if err := f.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Check: got %v, want it cancelled", err)
	}
}
