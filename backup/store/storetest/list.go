package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"etcd-steward/backup/store"

	"github.com/google/go-cmp/cmp"
)

// spread are keys whose byte order differs from the order of a walk through folders.
var spread = []string{
	"a", "a!", "a-b", "a-d/c", "a.b", "a0", "b/c", "b/c-d", "b/c.d/e", "b/c0", "b-c", "b!/x", "b0/x", "c/d/e/f", "c/d/e0", "c/d-e", "c/d0/f",
	"c/d!/f", "c!d", "c0", "Z", "~z", "0", "00/1", "00-1",
}

func fill(t *testing.T, s store.Store, names []string) []string {
	t.Helper()
	put := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range put {
				if _, err := s.Put(t.Context(), key, source([]byte(key)), store.PutOptions{}); err != nil {
					t.Errorf("Put %s: %v", key, err)
				}
			}
		})
	}
	for _, key := range names {
		put <- key
	}
	close(put)
	wg.Wait()
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return sorted
}

// reference is List by its definition.
func reference(all []string, prefix, after string) []string {
	want := []string{}
	for _, key := range all {
		if strings.HasPrefix(key, prefix) && key > after {
			want = append(want, key)
		}
	}
	return want
}

func testListSmall(t *testing.T, s store.Store) {
	all := fill(t, s, spread)
	if diff := cmp.Diff(all, keys(t, s, "", "")); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if info.Size != int64(len(info.Key)) || info.Modified.IsZero() || !info.RetainUntil.IsZero() {
			t.Errorf("List: got %+v", info)
		}
	}
}

func testListRanges(t *testing.T, s store.Store) {
	all := fill(t, s, spread)
	var points []string
	for _, key := range all {
		for i := range len(key) + 1 {
			if p := key[:i]; !slices.Contains(points, p) {
				points = append(points, p)
			}
		}
	}
	for _, prefix := range points {
		for _, after := range []string{"", prefix, "a", "b/c", "b/c-", "b/c/zzz", "c/d", "~~"} {
			if diff := cmp.Diff(reference(all, prefix, after), keys(t, s, prefix, after)); diff != "" {
				t.Errorf("List %q after %q (-want +got):\n%s", prefix, after, diff)
			}
		}
	}
}

// testListEnds stops in the middle, by break and by the context.
func testListEnds(t *testing.T, s store.Store) {
	all := fill(t, s, spread)
	for stop := range 4 {
		n := 0
		for _, err := range s.List(t.Context(), "", "") {
			if err != nil {
				t.Fatalf("List: %v", err)
			}
			if n == stop {
				break
			}
			n++
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n, failed := 0, 0
	for _, err := range s.List(ctx, "", "") {
		if err != nil {
			failed++
			wantKind(t, err, store.Interrupted, "List with a context that ended")
		}
		n++
		cancel()
	}
	if n > len(all) || failed > 1 {
		t.Errorf("a cancelled List yielded %d times, %d errors", n, failed)
	}
}

// testListMany has more objects than a page, in folders larger and smaller than one.
func testListMany(t *testing.T, s store.Store) {
	seed := rand.Uint64() //nolint:gosec // chance, not secrecy
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // chance, not secrecy
	names := []string{}
	for i := range 1030 {
		names = append(names, fmt.Sprintf("main/%016x-1/snapshots/%016x.json", i%3/2, i))
	}
	for i := range 280 {
		names = append(names, fmt.Sprintf("main/%016x-1/changes/%02x/%d", i%2, i%7, i))
	}
	names = append(names, "main/repository.json", "main-2/repository.json", "main!/x")
	all := fill(t, s, names)
	if diff := cmp.Diff(all, keys(t, s, "", "")); diff != "" {
		t.Fatalf("List (-want +got):\n%s", diff)
	}
	for range 20 {
		from := all[random.IntN(len(all))]
		prefix := from[:random.IntN(len(from)+1)]
		after := all[random.IntN(len(all))]
		after = after[:random.IntN(len(after)+1)]
		if diff := cmp.Diff(reference(all, prefix, after), keys(t, s, prefix, after)); diff != "" {
			t.Errorf("List %q after %q (-want +got):\n%s", prefix, after, diff)
		}
	}
}
