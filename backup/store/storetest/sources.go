package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"etcd-steward/backup/store"
)

var errBroken = errors.New("the spool broke")

func testBadSources(t *testing.T, s store.Store) {
	for _, size := range []int{10, 100 << 10, 9 << 20} {
		data := content(1, size)
		hash := source(data).SHA256
		flipped := append([]byte(nil), data...)
		flipped[size-1] ^= 1
		broken := func() io.Reader {
			return io.MultiReader(bytes.NewReader(data[:size-1]), &failing{err: errBroken})
		}
		cases := map[string]struct {
			src  store.Source
			kind store.Kind
		}{
			"short by one":          {store.Source{Reader: bytes.NewReader(data[:size-1]), Size: int64(size)}, store.Damaged},
			"short, with hash":      {store.Source{Reader: bytes.NewReader(data[:size/2]), Size: int64(size), SHA256: hash}, store.Damaged},
			"short stream":          {store.Source{Reader: stream(bytes.NewReader(data[:size-1])), Size: int64(size)}, store.Damaged},
			"short stream and hash": {store.Source{Reader: stream(bytes.NewReader(data[:size-1])), Size: int64(size), SHA256: hash}, store.Damaged},
			"empty":                 {store.Source{Reader: bytes.NewReader(nil), Size: int64(size), SHA256: hash}, store.Damaged},
			"unknown, cut":          {store.Source{Reader: bytes.NewReader(data[:size-1]), Size: store.Unknown, SHA256: hash}, store.Damaged},
			"long":                  {store.Source{Reader: bytes.NewReader(append(data[:size:size], 0)), Size: int64(size)}, store.Damaged},
			"long stream and hash":  {store.Source{Reader: stream(bytes.NewReader(append(data[:size:size], 0))), Size: int64(size), SHA256: hash}, store.Damaged},
			"longer than nothing":   {store.Source{Reader: bytes.NewReader(data), Size: 0}, store.Damaged},
			"wrong hash":            {store.Source{Reader: bytes.NewReader(flipped), Size: int64(size), SHA256: hash}, store.Damaged},
			"wrong hash, stream":    {store.Source{Reader: stream(bytes.NewReader(flipped)), Size: int64(size), SHA256: hash}, store.Damaged},
			"wrong hash, unknown":   {store.Source{Reader: stream(bytes.NewReader(flipped)), Size: store.Unknown, SHA256: hash}, store.Damaged},
			"broken":                {store.Source{Reader: broken(), Size: int64(size)}, store.SourceFailed},
			"broken, with hash":     {store.Source{Reader: broken(), Size: int64(size), SHA256: hash}, store.SourceFailed},
			"broken, unknown":       {store.Source{Reader: broken(), Size: store.Unknown}, store.SourceFailed},
			"no reader":             {store.Source{Size: int64(size)}, store.Invalid},
			"negative size":         {store.Source{Reader: bytes.NewReader(data), Size: -2}, store.Invalid},
		}
		if size > 1<<20 { // the way in one request, the way in parts, and both ways to fail
			for name := range cases {
				if !slices.Contains([]string{"short by one", "unknown, cut", "wrong hash, stream", "wrong hash, unknown", "broken, unknown"}, name) {
					delete(cases, name)
				}
			}
		}
		for name, c := range cases {
			key := fmt.Sprintf("bad/%d", size)
			_, err := s.Put(t.Context(), key, c.src, store.PutOptions{IfAbsent: true})
			wantKind(t, err, c.kind, fmt.Sprintf("%s, %d bytes", name, size))
			if c.kind == store.SourceFailed && !errors.Is(err, errBroken) {
				t.Errorf("%s: got %v, want the source's own error in it", name, err)
			}
			wantAbsent(t, s, key)
		}
	}
	// What is there already stays as it is.
	info := put(t, s, "bad/there", content(2, 300), store.PutOptions{})
	_, err := s.Put(t.Context(), "bad/there", store.Source{Reader: bytes.NewReader([]byte("x")), Size: 2}, store.PutOptions{})
	wantKind(t, err, store.Damaged, "overwrite with a short source")
	checkObject(t, s, "bad/there", content(2, 300), info)
}

type failing struct{ err error }

// Read implements io.Reader.
func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// testCancelled ends the context at different places of a Put.
func testCancelled(t *testing.T, s store.Store) {
	const size = 18 << 20
	data := content(3, size)
	sum := source(data).SHA256
	for _, at := range []int{0, 4 << 20, 9 << 20, size - 1} {
		for name, known := range map[string]bool{"known": true, "unknown": false} {
			ctx, cancel := context.WithCancel(t.Context())
			src := store.Source{Reader: &tripwire{data: data, at: at, trip: cancel}, Size: store.Unknown}
			if known {
				src.Size, src.SHA256 = size, sum
			}
			key := fmt.Sprintf("cancelled/%s-%d", name, at)
			_, err := s.Put(ctx, key, src, store.PutOptions{IfAbsent: true})
			cancel()
			wantKind(t, err, store.Interrupted, fmt.Sprintf("Put cancelled at %d of %s length", at, name))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled in it", err)
			}
			wantAbsent(t, s, key)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, "cancelled/before", source(data[:10]), store.PutOptions{})
	wantKind(t, err, store.Interrupted, "Put with an ended context")
	wantAbsent(t, s, "cancelled/before")
	put(t, s, "cancelled/there", data[:10], store.PutOptions{})
	_, err = s.Head(ctx, "cancelled/there")
	wantKind(t, err, store.Interrupted, "Head with an ended context")
	_, err = s.Get(ctx, "cancelled/there", 0, -1)
	wantKind(t, err, store.Interrupted, "Get with an ended context")
	for _, err := range s.List(ctx, "", "") {
		wantKind(t, err, store.Interrupted, "List with an ended context")
	}
}

// tripwire cancels when the reader reaches a place, and goes on giving bytes until that is noticed, but never the last one.
type tripwire struct {
	data []byte
	n    int
	at   int
	trip func()
}

// Read implements io.Reader.
func (w *tripwire) Read(p []byte) (int, error) {
	if w.n >= w.at {
		w.trip()
	}
	end := len(w.data)
	if w.n < w.at {
		end = w.at
	}
	n := copy(p[:min(len(p), 64<<10)], w.data[w.n:end])
	w.n += n
	if w.n == len(w.data) {
		return n, io.EOF
	}
	return n, nil
}
