package changes

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/changes/wire"
	"etcd-steward/backup/repo"
)

// FuzzDecoder: whatever the content, decoding ends without a panic, and what it accepts is encoded to the same bytes again.
func FuzzDecoder(f *testing.F) {
	for seed := range uint64(4) {
		var b bytes.Buffer
		if err := randomSample(rand.New(rand.NewPCG(seed, 1)), int(1+seed*3)).encode(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeAll(bytes.NewReader(b))
		size := 0
		for i := range s.records {
			size += len(s.records[i].Event.Value)
		}
		if size > len(b) {
			t.Fatalf("%d bytes of values in a content of %d", size, len(b))
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := s.encode(&again); err != nil {
			t.Fatalf("what was accepted cannot be written: %v", err)
		}
		if d, err := decodeAll(&again); err != nil || !cmp.Equal(d, s, cmp.AllowUnexported(sample{})) {
			t.Fatalf("what was accepted is not read back (%v)", err)
		}
	})
}

// FuzzUnseal: whatever the sealed bytes, unsealing ends without a panic.
func FuzzUnseal(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(randomSample(rand.New(rand.NewPCG(seed, 1)), int(1+seed*3)).sealed(f))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = unseal(b) })
}

// FuzzKeyValue: a record's value is walked without a panic, and a canonical one is made again from its fields.
func FuzzKeyValue(f *testing.F) {
	f.Add(AppendKeyValue(nil, KeyValue{Key: []byte("k"), CreateRevision: 1, ModRevision: 2, Version: 3, Value: []byte("v"), Lease: -1}))
	f.Add(AppendTombstone(nil, []byte("k")))
	f.Fuzz(func(t *testing.T, b []byte) {
		kv, err := ParseKeyValue(b)
		if err != nil {
			return
		}
		again, err := ParseKeyValue(AppendKeyValue(nil, kv))
		if err != nil || !cmp.Equal(normal(again), normal(kv)) {
			t.Fatalf("got %+v (%v), want %+v", again, err, kv)
		}
		for len(b) > 0 {
			if _, b, err = wire.Next(b); err != nil {
				t.Fatalf("parsed, but not walked: %v", err)
			}
		}
	})
}

func normal(kv KeyValue) KeyValue {
	kv.Key, kv.Value = append([]byte{}, kv.Key...), append([]byte{}, kv.Value...)
	return kv
}

// FuzzSegmentKey: a name that is accepted is the one that its parts make.
func FuzzSegmentKey(f *testing.F) {
	t := repo.Timeline{Cluster: 0xcdf818194e3a8c32, Cut: 1}
	id := repo.SnapshotID("01J8ZQ4T6M0000000000000000")
	f.Add(repo.SegmentKey(t, 1, 2, id, true))
	f.Add(repo.SegmentKey(t, 1, 1<<62, id, false))
	f.Fuzz(func(t *testing.T, key string) {
		s, err := repo.ParseSegmentKey(key)
		if err == nil && repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, s.Encrypted) != key {
			t.Fatalf("%q was accepted as %+v", key, s)
		}
	})
}
