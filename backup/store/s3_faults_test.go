package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
)

// method matches requests by method and, when part is not "", by a part of the URL.
func method(name, part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == name && strings.Contains(r.URL.String(), part) }
}

func src(data []byte) store.Source {
	return store.Source{Reader: bytes.NewReader(data), Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// faulty opens a store behind a transport that does nothing until it is told to.
func faulty(t *testing.T, s3 *lab.S3, change ...func(*store.Config)) (store.Store, *faults.Transport) {
	t.Helper()
	tr := faults.New(faults.Options{Seed: 1, AccessKeyID: s3.Access, Secret: s3.Secret})
	cfg := below(t, s3, s3.StoreConfig())
	cfg.S3.Transport = tr.Wrap
	cfg.S3.BackoffMax = time.Millisecond
	for _, c := range change {
		c(&cfg)
	}
	s := open(t, cfg)
	t.Cleanup(func() {
		if n := tr.Planned(); n > 0 && !t.Failed() {
			t.Errorf("%d planned faults did not happen", n)
		}
	})
	return s, tr
}

// wantContent reads past the faulty transport's counts: by a store of its own.
func wantContent(t *testing.T, s store.Store, key string, want []byte) {
	t.Helper()
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("Get %s: got %d bytes, %v, want the %d that were put", key, len(got), err, len(want))
	}
	_ = r.Close()
}

func wantKind(t *testing.T, err error, want store.Kind, texts ...string) {
	t.Helper()
	if store.KindOf(err) != want {
		t.Fatalf("got %v, want the kind %q", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %q, want %q in it", err, text)
		}
	}
	if want != store.Interrupted && store.HintFor(err) == "" {
		t.Errorf("no hint for %v", err)
	}
}

// TestLostAnswers: a Put whose answer is lost was done, and must know it, whichever way it is told.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	small, large := bytes.Repeat([]byte("s"), 1000), bytes.Repeat([]byte("l"), 6<<20)
	for _, fault := range []faults.Fault{faults.LostAnswer, faults.LateError500} {
		t.Run(strings.ReplaceAll(string(fault), " ", "-"), func(t *testing.T) {
			s, tr := faulty(t, s3, func(c *store.Config) { c.S3.PartSize, c.S3.SinglePutMax = 5<<20, 1<<20 })
			tr.Next(fault, method("PUT", "/a"))
			info, err := s.Put(t.Context(), "a", src(small), store.PutOptions{IfAbsent: true})
			if err != nil || info.Size != 1000 || info.ETag == "" || info.SHA256 != sha256.Sum256(small) {
				t.Errorf("exclusive create: got %+v, %v, want success", info, err)
			}
			tr.Next(fault, method("PUT", "/a"))
			info, err = s.Put(t.Context(), "a", src(small[:500]), store.PutOptions{IfMatch: info.ETag})
			if err != nil {
				t.Errorf("swap: got %+v, %v, want success", info, err)
			}
			wantContent(t, s, "a", small[:500])

			tr.Next(fault, method("POST", "uploadId="))
			info, err = s.Put(t.Context(), "parts", src(large), store.PutOptions{IfAbsent: true})
			if err != nil || info.Size != 6<<20 || info.ETag == "" {
				t.Errorf("exclusive create in parts: got %+v, %v, want success", info, err)
			}
			tr.Next(fault, method("POST", "uploadId="))
			if _, err := s.Put(t.Context(), "parts", src(large), store.PutOptions{}); err != nil {
				t.Errorf("overwrite in parts: %v", err)
			}
			wantContent(t, s, "parts", large)

			// A source that can be read only once: no second attempt, but a look whether the first was done.
			tr.Next(fault, method("PUT", "/once"))
			once := store.Source{Reader: io.MultiReader(bytes.NewReader(small)), Size: 1000, SHA256: sha256.Sum256(small)}
			if _, err := s.Put(t.Context(), "once", once, store.PutOptions{IfAbsent: true}); err != nil {
				t.Errorf("a stream: %v", err)
			}
			wantContent(t, s, "once", small)

			// Somebody else's object of the same content is still somebody else's, after a lost answer too.
			tr.Next(fault, method("PUT", "/once"))
			_, err = s.Put(t.Context(), "once", src(small), store.PutOptions{IfAbsent: true})
			wantKind(t, err, store.Exists)

			tr.Next(fault, method("DELETE", ""))
			if err := s.Delete(t.Context(), "a"); err != nil {
				t.Errorf("Delete: %v", err)
			}
			if left := s3.Uploads(); len(left) > 0 {
				t.Errorf("multipart uploads left: %q", left)
			}
		})
	}
}

// TestSwapLostThenReplaced: the one case that cannot be decided is said as it is.
func TestSwapLostThenReplaced(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	other := open(t, below(t, s3, s3.StoreConfig()))
	first, err := other.Put(t.Context(), "a", src([]byte("1")), store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, tr := faulty(t, s3)
	tr.Next(faults.LostAnswer, func(r *http.Request) bool { return r.Method == "PUT" })
	tr.Next(faults.Slow, func(r *http.Request) bool {
		if r.Method != "HEAD" {
			return false
		}
		// The look after the lost answer: another writer comes before it.
		if _, err := other.Put(t.Context(), "a", src([]byte("3")), store.PutOptions{}); err != nil {
			t.Error(err)
		}
		return true
	})
	_, err = s.Put(t.Context(), "a", src([]byte("2")), store.PutOptions{IfMatch: first.ETag})
	wantKind(t, err, store.Changed, "may have been there before")
}

// TestRefusedEarly: a server that refuses a condition while the body is still coming, and resets the connection, never gets its answer across. The
// client looks instead of sending the body over and over.
func TestRefusedEarly(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	other := open(t, below(t, s3, s3.StoreConfig()))
	there, err := other.Put(t.Context(), "a", src([]byte("theirs")), store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr := faults.New(faults.Options{Seed: 1, Chance: map[faults.Fault]float64{faults.Reset: 1}, Spare: func(r *http.Request, _ faults.Fault) bool {
		return r.Method != http.MethodPut
	}})
	cfg := below(t, s3, s3.StoreConfig())
	cfg.S3.Transport, cfg.S3.BackoffMax = tr.Wrap, time.Millisecond
	s := open(t, cfg)
	_, err = s.Put(t.Context(), "a", src([]byte("mine")), store.PutOptions{IfAbsent: true})
	wantKind(t, err, store.Exists, "connection reset")
	_, err = s.Put(t.Context(), "a", src([]byte("mine")), store.PutOptions{IfMatch: `"another"`})
	wantKind(t, err, store.Changed, "connection reset")
	if n := tr.Counts()[faults.Reset]; n != 2 {
		t.Errorf("sent the bodies %d times, want 2", n)
	}
	// Where another attempt may still succeed, it is made.
	_, err = s.Put(t.Context(), "a", src([]byte("mine")), store.PutOptions{IfMatch: there.ETag})
	wantKind(t, err, store.Unreachable, "after 10 attempts")
	_, err = s.Put(t.Context(), "b", src([]byte("mine")), store.PutOptions{IfAbsent: true})
	wantKind(t, err, store.Unreachable, "after 10 attempts")
	wantContent(t, s, "a", []byte("theirs"))
}

// TestGivesUp: retries are bounded, and say how often they tried.
func TestGivesUp(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	for _, c := range []struct {
		fault faults.Fault
		kind  store.Kind
		text  string
	}{
		{faults.Error500, store.Unavailable, "InternalError"},
		{faults.Error503, store.Unavailable, "SlowDown"},
		{faults.Conflict, store.Unavailable, "ConditionalRequestConflict"},
		{faults.Refused, store.Unreachable, "connection refused"},
		{faults.ClockSkew, store.ClockSkew, "RequestTimeTooSkewed"},
	} {
		t.Run(strings.ReplaceAll(string(c.fault), " ", "-"), func(t *testing.T) {
			tr := faults.New(faults.Options{Seed: 1, Chance: map[faults.Fault]float64{c.fault: 1}})
			cfg := below(t, s3, s3.StoreConfig())
			cfg.S3.Transport, cfg.S3.BackoffMax, cfg.S3.Attempts = tr.Wrap, time.Millisecond, 4
			s := open(t, cfg)
			_, err := s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{IfAbsent: true})
			attempts := "after 4 attempts"
			if c.fault == faults.ClockSkew {
				attempts = "after 2 attempts"
			}
			wantKind(t, err, c.kind, c.text, attempts, "put a: ")
			if c.fault != faults.Conflict {
				for _, err := range s.List(t.Context(), "", "") {
					wantKind(t, err, c.kind, c.text, "list")
				}
				_, err = s.Head(t.Context(), "a")
				wantKind(t, err, c.kind, "head a: ")
			}
		})
	}
}

// TestRefusedAfterAnswers: a server that was there a moment before is given as many attempts as any other trouble, however it fails then; one that never was, fewer.
func TestRefusedAfterAnswers(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	s, tr := faulty(t, s3)
	for _, op := range []func() error{
		func() error { return s.Delete(t.Context(), "a") },
		func() error {
			_, err := s.Put(t.Context(), "b", src([]byte("x")), store.PutOptions{IfAbsent: true})
			return err
		},
	} {
		tr.Next(faults.Error503, nil)
		for range 8 {
			tr.Next(faults.Refused, nil)
		}
		if err := op(); err != nil {
			t.Error(err)
		}
	}
	for range 6 {
		tr.Next(faults.Refused, nil)
	}
	wantKind(t, s.Delete(t.Context(), "a"), store.Unreachable, "after 6 attempts")
}

func TestConflictIsRetried(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	s, tr := faulty(t, s3, func(c *store.Config) { c.S3.PartSize, c.S3.SinglePutMax = 5<<20, 1<<20 })
	tr.Next(faults.Conflict, method("PUT", "/a"))
	if _, err := s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("Put: %v", err)
	}
	tr.Next(faults.Conflict, method("POST", "uploadId="))
	if _, err := s.Put(t.Context(), "b", src(make([]byte, 6<<20)), store.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("Put in parts: %v", err)
	}
}

// TestCutReads: a body that ends early is continued, but never with another object, and not for ever.
func TestCutReads(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	s, tr := faulty(t, s3)
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	if _, err := s.Put(t.Context(), "a", src(data), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		tr.Next(faults.CutBody, method("GET", ""))
	}
	wantContent(t, s, "a", data)

	tr.Next(faults.CutBody, method("GET", ""))
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a", src(data[:len(data)-1]), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	wantKind(t, err, store.Changed)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF in it", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}

	always := faults.New(faults.Options{Seed: 7, Chance: map[faults.Fault]float64{faults.CutBody: 1}})
	cfg := below(t, s3, s3.StoreConfig())
	cfg.S3.Transport, cfg.S3.BackoffMax, cfg.S3.Attempts = func(next http.RoundTripper) http.RoundTripper {
		return always.Wrap(cutAtStart{next})
	}, time.Millisecond, 4
	r, err = open(t, cfg).Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	wantKind(t, err, store.Unavailable, "broke off at byte", "after 4 attempts")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF in it", err)
	}
}

// cutAtStart gives no byte of any body.
type cutAtStart struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c cutAtStart) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err == nil {
		resp.Body = faults.Reader(resp.Body, 0, 0, io.EOF)
	}
	return resp, err
}

// TestQuiet: nothing lands in the standard logger, whatever fails; and no secret in an error.
func TestQuiet(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(log.Default().Writer())
	s, tr := faulty(t, s3, func(c *store.Config) { c.S3.PartSize, c.S3.SinglePutMax, c.S3.Attempts = 5<<20, 1<<20, 2 })
	for range 2 {
		tr.Next(faults.Error500, method("POST", "uploadId="))
	}
	_, err := s.Put(t.Context(), "a", src(make([]byte, 6<<20)), store.PutOptions{IfAbsent: true})
	wantKind(t, err, store.Unavailable)
	if strings.Contains(err.Error(), s3.Secret) {
		t.Errorf("the secret is in %q", err)
	}
	if left := s3.Uploads(); len(left) > 0 {
		t.Errorf("multipart uploads left: %q", left)
	}
	if out.Len() > 0 {
		t.Errorf("logged: %s", out.String())
	}
}

// TestStalledServer accepts connections and says nothing.
func TestStalledServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
		}
	}()
	s := open(t, store.Config{URL: "s3://bucket/p", S3: store.S3Options{
		Endpoint: "http://" + l.Addr().String(), AccessKeyID: "a", SecretAccessKey: "b",
		StallTimeout: 50 * time.Millisecond, Attempts: 2, BackoffMax: time.Millisecond,
	}})
	_, err = s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{})
	wantKind(t, err, store.Unreachable, "timeout")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.Head(ctx, "a")
	wantKind(t, err, store.Interrupted)
	if !errors.Is(err, context.DeadlineExceeded) || store.HintFor(err) == "" {
		t.Errorf("got %v with hint %q, want a deadline", err, store.HintFor(err))
	}
}
