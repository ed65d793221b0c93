// Package storetest is the conformance suite of store.Store: every implementation, and every wrapper that injects faults which a
// store must survive, passes the same tests. It promises that what it checks is the contract in store.go, not an implementation.
package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"etcd-steward/backup/store"
)

// Options tell the suite about the store under test.
type Options struct {
	// Leftovers names what a store holds beside objects: temporary files, multipart uploads under way. After every test there
	// must be none.
	Leftovers func(t *testing.T) []string
	// Lossy: answers get lost, so that a swap can be done and still be reported as Changed (see store.Store).
	Lossy bool
	// Quick leaves out what takes many requests.
	Quick bool
	// Only, when not empty, names the tests to run, for a variant of a store that has passed all of them.
	Only []string
}

// Run runs the suite. open gives every test an empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts Options) {
	tests := []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Content", testContent},
		{"Ranges", testRanges},
		{"Missing", testMissing},
		{"Overwrite", testOverwrite},
		{"Exclusive", testExclusive},
		{"ExclusiveRace", testExclusiveRace},
		{"Swap", testSwap},
		{"SwapRace", func(t *testing.T, s store.Store) { testSwapRace(t, s, opts.Lossy) }},
		{"BadSources", testBadSources},
		{"Cancelled", testCancelled},
		{"BadKeys", testBadKeys},
		{"OddKeys", testOddKeys},
		{"ListSmall", testListSmall},
		{"ListRanges", testListRanges},
		{"ListEnds", testListEnds},
		{"Concurrent", testConcurrent},
		{"CloseEarly", testCloseEarly},
		{"Errors", testErrors},
		{"Delete", testDelete},
	}
	for _, tt := range tests {
		if len(opts.Only) > 0 && !slices.Contains(opts.Only, tt.name) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			tt.run(t, open(t))
			if opts.Leftovers == nil {
				return
			}
			if left := opts.Leftovers(t); len(left) > 0 {
				t.Errorf("left behind beside objects: %q", left)
			}
		})
	}
	if !opts.Quick {
		t.Run("ListMany", func(t *testing.T) { testListMany(t, open(t)) })
	}
}

// content makes size bytes that differ for every seed.
func content(seed uint64, size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = src.Read(data)
	return data
}

func source(data []byte) store.Source {
	return store.Source{Reader: bytes.NewReader(data), Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// stream hides that a reader can seek.
func stream(r io.Reader) io.Reader { return struct{ io.Reader }{r} }

func put(t *testing.T, s store.Store, key string, data []byte, opts store.PutOptions) store.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, source(data), opts)
	if err != nil {
		t.Fatalf("Put %s: %v", key, err)
	}
	return info
}

func get(t *testing.T, s store.Store, key string, offset, length int64) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("close %s: %v", key, err)
	}
	return data
}

// keys lists everything under prefix after a key.
func keys(t *testing.T, s store.Store, prefix, after string) []string {
	t.Helper()
	got := []string{}
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List %q after %q: %v", prefix, after, err)
		}
		got = append(got, info.Key)
	}
	return got
}

// wantKind demands an error of a kind, that says which operation and key it is about.
func wantKind(t *testing.T, err error, want store.Kind, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want the kind %q", what, err, want)
		return
	}
	var e *store.Error
	if !errors.As(err, &e) || e.Op == "" {
		t.Errorf("%s: got %#v, want a *store.Error with an operation", what, err)
	}
}

// wantAbsent demands that a key has no object, by every way of looking.
func wantAbsent(t *testing.T, s store.Store, key string) {
	t.Helper()
	_, err := s.Head(t.Context(), key)
	wantKind(t, err, store.NotFound, "Head "+key)
	if r, err := s.Get(t.Context(), key, 0, -1); err == nil {
		_ = r.Close()
		t.Errorf("Get %s: it is there", key)
	} else {
		wantKind(t, err, store.NotFound, "Get "+key)
	}
	if got := keys(t, s, key, ""); slices.Contains(got, key) {
		t.Errorf("List shows %s", key)
	}
}
