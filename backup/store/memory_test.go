package store_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"runtime"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// patternBlock is repeated; its length divides no part size.
var patternBlock = bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstu"), 33_331)

// pattern is a source of any length that costs no memory, and can be read again.
type pattern struct{ n, size int64 }

// Read implements io.Reader.
func (p *pattern) Read(b []byte) (int, error) {
	if p.n == p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-p.n)]
	n := copy(b, patternBlock[p.n%int64(len(patternBlock)):])
	p.n += int64(n)
	return n, nil
}

// Seek implements io.Seeker, from the start alone.
func (p *pattern) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		p.n = offset
	}
	return p.n, nil
}

// TestMemory: what is allocated does not grow with the object. (Puts allocate under 1 MiB; the race detector empties sync.Pools at random, which
// makes it some 30.)
func TestMemory(t *testing.T) {
	const size = 128 << 20
	s3 := lab.StartS3(t, lab.S3Options{})
	h := sha256.New()
	if _, err := io.Copy(h, &pattern{size: size}); err != nil {
		t.Fatal(err)
	}
	sum := [32]byte(h.Sum(nil))
	for name, s := range map[string]store.Store{
		"S3": open(t, s3.StoreConfig()), "folder": open(t, store.Config{URL: "file://" + t.TempDir()}),
	} {
		for _, c := range []struct {
			what string
			max  uint64
			run  func() error
		}{
			{"Put", 40 << 20, func() error {
				_, err := s.Put(t.Context(), "put", store.Source{Reader: &pattern{size: size}, Size: size, SHA256: sum}, store.PutOptions{})
				return err
			}},
			{"Put without a hash", 40 << 20, func() error {
				_, err := s.Put(t.Context(), "put", store.Source{Reader: &pattern{size: size}, Size: size}, store.PutOptions{})
				return err
			}},
			{"Put of unknown length", 110 << 20, func() error {
				_, err := s.Put(t.Context(), "parts", store.Source{Reader: stream(&pattern{size: size}), Size: store.Unknown}, store.PutOptions{})
				return err
			}},
			{"Get", 4 << 20, func() error {
				r, err := s.Get(t.Context(), "put", 0, -1)
				if err != nil {
					return err
				}
				h.Reset()
				if _, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 64<<10)); err != nil {
					return err
				}
				if [32]byte(h.Sum(nil)) != sum {
					t.Errorf("%s: Get gave other bytes", name)
				}
				return r.Close()
			}},
		} {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			if err := c.run(); err != nil {
				t.Fatalf("%s: %s: %v", name, c.what, err)
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%s: %s of %d MiB: %v, allocated %d KiB", name, c.what, size>>20, took.Round(time.Millisecond), allocated>>10)
			if allocated > c.max {
				t.Errorf("%s: %s allocated %d bytes, want at most %d", name, c.what, allocated, c.max)
			}
		}
	}
}

func stream(r io.Reader) io.Reader { return struct{ io.Reader }{r} }
