package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// wire records requests, and can change the bytes of their bodies.
type wire struct {
	mu   sync.Mutex
	next http.RoundTripper
	seen []sent
	flip func(*http.Request) bool
}

type sent struct {
	method, query string
	header        http.Header
	sum           [32]byte
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	w.next = next
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	s := sent{method: req.Method, query: req.URL.RawQuery, header: req.Header.Clone(), sum: sha256.Sum256(nil)}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		s.sum = sha256.Sum256(body)
		if w.flip != nil && w.flip(req) {
			body[len(body)/2] ^= 4
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	w.mu.Lock()
	w.seen = append(w.seen, s)
	w.mu.Unlock()
	return w.next.RoundTrip(req)
}

// TestWire: every body goes with its SHA-256 as a plain header and as the signed hash, over TLS too. No chunks, no trailers, no other checksum:
// servers that speak an older S3 reject them.
func TestWire(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	w := &wire{}
	cfg := s3.StoreConfig()
	cfg.S3.Transport, cfg.S3.PartSize = w.wrap, 5<<20
	s := open(t, cfg)
	data := bytes.Repeat([]byte("0123456789abcdef"), 800_000) // 12.8 MB: three parts
	for _, c := range []struct {
		key      string
		source   store.Source
		requests int
	}{
		{"one", src(data), 1},
		{"hashed-first", store.Source{Reader: bytes.NewReader(data), Size: int64(len(data))}, 1},
		{"small-stream", store.Source{Reader: stream(bytes.NewReader(data[:10])), Size: 10}, 1},
		{"small-unknown", store.Source{Reader: stream(bytes.NewReader(data[:10])), Size: store.Unknown}, 1},
		{"empty", src(nil), 1},
		{"parts", store.Source{Reader: stream(bytes.NewReader(data)), Size: store.Unknown}, 5},
	} {
		w.seen = nil
		if _, err := s.Put(t.Context(), c.key, c.source, store.PutOptions{IfAbsent: true}); err != nil {
			t.Fatalf("Put %s: %v", c.key, err)
		}
		if len(w.seen) != c.requests {
			t.Errorf("Put %s: %d requests, want %d", c.key, len(w.seen), c.requests)
		}
		conditions := 0
		for _, r := range w.seen {
			if r.header.Get("If-None-Match") == "*" {
				conditions++
			}
			checkHeaders(t, c.key, r)
		}
		if conditions != 1 {
			t.Errorf("Put %s: %d requests with the condition, want 1", c.key, conditions)
		}
	}
}

func checkHeaders(t *testing.T, key string, r sent) {
	t.Helper()
	for name, values := range r.header {
		lower := strings.ToLower(name)
		if lower == "x-amz-trailer" || strings.Contains(strings.Join(values, " "), "aws-chunked") || strings.HasPrefix(strings.Join(values, ""), "STREAMING-") {
			t.Errorf("Put %s: %s %s sends %s: %q", key, r.method, r.query, name, values)
		}
		if strings.HasPrefix(lower, "x-amz-checksum-") && lower != "x-amz-checksum-sha256" && lower != "x-amz-checksum-algorithm" {
			t.Errorf("Put %s: %s %s sends %s", key, r.method, r.query, name)
		}
	}
	if r.method != http.MethodPut {
		return
	}
	if got, want := r.header.Get("X-Amz-Checksum-Sha256"), base64.StdEncoding.EncodeToString(r.sum[:]); got != want {
		t.Errorf("Put %s: %s sends the checksum %q, want %q", key, r.query, got, want)
	}
	if got, want := r.header.Get("X-Amz-Content-Sha256"), hex.EncodeToString(r.sum[:]); got != want {
		t.Errorf("Put %s: %s signs %q, want %q", key, r.query, got, want)
	}
}

// TestFlippedOnTheWay: bytes that change between here and the store never become an object; if it happens once, the next attempt makes it good.
func TestFlippedOnTheWay(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 400_000) // 6.4 MB: two parts
	for name, source := range map[string]func() store.Source{
		"one":   func() store.Source { return src(data) },
		"parts": func() store.Source { return store.Source{Reader: stream(bytes.NewReader(data)), Size: store.Unknown} },
	} {
		once := true
		w := &wire{}
		cfg := s3.StoreConfig()
		cfg.S3.Transport, cfg.S3.BackoffMax, cfg.S3.Attempts, cfg.S3.PartSize = w.wrap, time.Millisecond, 3, 5<<20
		s := open(t, cfg)
		w.flip = func(r *http.Request) bool { return r.Method == http.MethodPut }
		_, err := s.Put(t.Context(), name, source(), store.PutOptions{IfAbsent: true})
		wantKind(t, err, store.Damaged, "after 3 attempts")
		_, err = s.Head(t.Context(), name)
		wantKind(t, err, store.NotFound)

		w.flip = func(r *http.Request) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			first := once && r.Method == http.MethodPut
			once = once && !first
			return first
		}
		if _, err := s.Put(t.Context(), name, source(), store.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("%s: flipped once: %v", name, err)
		}
		wantContent(t, s, name, data)
	}
	if left := s3.Uploads(); len(left) > 0 {
		t.Errorf("multipart uploads left: %q", left)
	}
}
