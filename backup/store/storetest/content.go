package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"etcd-steward/backup/store"
)

// sizes around the places where implementations change their ways: nothing, one byte, small and large ETags, parts of 5 and 8 MiB.
var sizes = []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 5 << 20, 8<<20 + 1}

func testContent(t *testing.T, s store.Store) {
	for _, size := range sizes {
		data := content(1, size)
		sum := sha256.Sum256(data)
		sources := map[string]store.Source{
			"seeker with hash":    source(data),
			"seeker":              {Reader: bytes.NewReader(data), Size: int64(size)},
			"stream with hash":    {Reader: stream(bytes.NewReader(data)), Size: int64(size), SHA256: sum},
			"stream":              {Reader: stream(bytes.NewReader(data)), Size: int64(size)},
			"unknown length":      {Reader: stream(bytes.NewReader(data)), Size: store.Unknown},
			"unknown, with hash":  {Reader: bytes.NewReader(data), Size: store.Unknown, SHA256: sum},
			"one byte at a time":  {Reader: &dribble{data: data[:min(size, 1000)]}, Size: int64(min(size, 1000))},
			"middle of a seeker":  middle(data),
			"limited by its size": {Reader: io.LimitReader(bytes.NewReader(append([]byte(nil), data...)), int64(size)), Size: int64(size)},
		}
		if size > 1<<20 {
			for _, name := range []string{"seeker", "unknown, with hash", "one byte at a time", "middle of a seeker", "limited by its size"} {
				delete(sources, name)
			}
		}
		for name, src := range sources {
			want, key := data, fmt.Sprintf("content/%d/%s", size, bytes.ReplaceAll([]byte(name), []byte(" "), []byte("-")))
			if name == "one byte at a time" {
				want = data[:min(size, 1000)]
			}
			info, err := s.Put(t.Context(), key, src, store.PutOptions{IfAbsent: true})
			if err != nil {
				t.Errorf("Put %s: %v", key, err)
				continue
			}
			checkObject(t, s, key, want, info)
		}
	}
	data := content(2, 17<<20)
	info, err := s.Put(t.Context(), "content/parts", store.Source{Reader: stream(bytes.NewReader(data)), Size: store.Unknown}, store.PutOptions{})
	if err != nil {
		t.Fatalf("Put of 17 MiB: %v", err)
	}
	checkObject(t, s, "content/parts", data, info)
}

func middle(data []byte) store.Source {
	r := bytes.NewReader(append([]byte("skipped"), data...))
	_, _ = r.Seek(7, io.SeekStart)
	return store.Source{Reader: r, Size: int64(len(data))}
}

// checkObject compares an object with what was put, by Get, Head and List.
func checkObject(t *testing.T, s store.Store, key string, want []byte, info store.Info) {
	t.Helper()
	if got := get(t, s, key, 0, -1); !bytes.Equal(got, want) {
		t.Errorf("Get %s: got %d bytes, want the %d that were put", key, len(got), len(want))
	}
	if info.Key != key || info.Size != int64(len(want)) || info.ETag == "" || info.SHA256 != sha256.Sum256(want) {
		t.Errorf("Put %s: got %+v, want its key, %d bytes, an ETag and its SHA-256", key, info, len(want))
	}
	head, err := s.Head(t.Context(), key)
	if err != nil {
		t.Errorf("Head %s: %v", key, err)
		return
	}
	if head.Key != key || head.Size != info.Size || head.ETag != info.ETag || head.Modified.IsZero() || !head.RetainUntil.IsZero() {
		t.Errorf("Head %s: got %+v after Put %+v", key, head, info)
	}
	if head.SHA256 != [32]byte{} && head.SHA256 != info.SHA256 {
		t.Errorf("Head %s: got the SHA-256 %x, want %x", key, head.SHA256, info.SHA256)
	}
	if age := time.Since(head.Modified); age > time.Hour || age < -time.Hour {
		t.Errorf("Head %s: modified at %v", key, head.Modified)
	}
	n := 0
	for listed, err := range s.List(t.Context(), key, "") {
		if err != nil {
			t.Errorf("List %s: %v", key, err)
			return
		}
		if listed.Key == key {
			n++
			if listed.Size != info.Size || listed.Modified.IsZero() {
				t.Errorf("List %s: got %+v, want %d bytes", key, listed, info.Size)
			}
		}
	}
	if n != 1 {
		t.Errorf("List %s: got it %d times", key, n)
	}
}

type dribble struct{ data []byte }

// Read implements io.Reader.
func (d *dribble) Read(p []byte) (int, error) {
	if len(d.data) == 0 {
		return 0, io.EOF
	}
	p[0] = d.data[0]
	d.data = d.data[1:]
	return 1, nil
}

func testRanges(t *testing.T, s store.Store) {
	const size = 3 << 20
	data := content(2, size)
	put(t, s, "ranges/a", data, store.PutOptions{})
	seed := rand.Uint64() //nolint:gosec // chance, not secrecy
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // chance, not secrecy
	ranges := [][2]int64{{0, -1}, {0, 1}, {0, size}, {0, size + 1}, {size - 1, 1}, {size - 1, 100}, {size, -1}, {size, 5}, {5, 0}, {size, 0}, {7, -1}}
	for range 30 {
		ranges = append(ranges, [2]int64{random.Int64N(size), random.Int64N(size)})
	}
	for _, r := range ranges {
		end := int64(size)
		if r[1] >= 0 {
			end = min(end, r[0]+r[1])
		}
		if got := get(t, s, "ranges/a", r[0], r[1]); !bytes.Equal(got, data[r[0]:end]) {
			t.Errorf("Get offset %d length %d: got %d other bytes, want %d", r[0], r[1], len(got), end-r[0])
		}
	}
	for _, r := range [][2]int64{{size + 1, 1}, {size + 1, -1}, {size + 1, 0}, {-1, 1}} {
		_, err := s.Get(t.Context(), "ranges/a", r[0], r[1])
		wantKind(t, err, store.Invalid, fmt.Sprintf("Get offset %d length %d", r[0], r[1]))
	}
	put(t, s, "ranges/empty", nil, store.PutOptions{})
	for _, r := range [][2]int64{{0, -1}, {0, 10}, {0, 0}} {
		if got := get(t, s, "ranges/empty", r[0], r[1]); len(got) != 0 {
			t.Errorf("Get of an empty object: got %d bytes", len(got))
		}
	}
}

func testMissing(t *testing.T, s store.Store) {
	wantAbsent(t, s, "missing/a")
	_, err := s.Get(t.Context(), "missing/a", 5, 0)
	wantKind(t, err, store.NotFound, "Get of an empty range")
	if err := s.Delete(t.Context(), "missing/a"); err != nil {
		t.Errorf("Delete of what is not there: %v", err)
	}
	_, err = s.Put(t.Context(), "missing/a", source([]byte("x")), store.PutOptions{IfMatch: `"0123456789abcdef"`})
	wantKind(t, err, store.Changed, "Put with IfMatch on nothing")
	wantAbsent(t, s, "missing/a")
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Errorf("List of an empty store: %q", got)
	}
	put(t, s, "missing/folder/b", []byte("x"), store.PutOptions{})
	wantAbsent(t, s, "missing/folder")
	if err := s.Delete(t.Context(), "missing/folder"); err != nil {
		t.Errorf("Delete of a folder: %v", err)
	}
	if got := keys(t, s, "", ""); len(got) != 1 {
		t.Errorf("after Delete of a folder: %q", got)
	}
}

func testOverwrite(t *testing.T, s store.Store) {
	first := put(t, s, "over/a", content(3, 5000), store.PutOptions{})
	second := put(t, s, "over/a", content(4, 100), store.PutOptions{Retain: true})
	if first.ETag == second.ETag {
		t.Errorf("two contents have the ETag %s", first.ETag)
	}
	checkObject(t, s, "over/a", content(4, 100), second)
}

func testDelete(t *testing.T, s store.Store) {
	for round := range 3 {
		info := put(t, s, "delete/a", content(uint64(round), 2000), store.PutOptions{IfAbsent: true})
		checkObject(t, s, "delete/a", content(uint64(round), 2000), info)
		if err := s.Delete(t.Context(), "delete/a"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		wantAbsent(t, s, "delete/a")
	}
}
