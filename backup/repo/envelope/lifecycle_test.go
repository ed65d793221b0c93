package envelope

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
)

// Every test here runs in a synctest bubble, which fails when a goroutine is left behind or everything blocks.

// Abort may come at any time, from another goroutine; after it nothing is written, and Write and Close fail.
func TestAbort(t *testing.T) {
	id := classic(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	content := mixed(seed, 20*smallBlock)
	for range 80 {
		synctest.Test(t, func(t *testing.T) {
			dst := &slow{pause: time.Duration(rng.IntN(3)) * time.Millisecond}
			w, err := newWriter(dst, Options{Recipients: []age.Recipient{id.Recipient()}, Workers: 1 + rng.IntN(3)}, smallBlock)
			if err != nil {
				t.Fatal(err)
			}
			after := time.Duration(rng.IntN(60)) * time.Millisecond
			var aborter sync.WaitGroup
			var stopped atomic.Int64
			aborter.Go(func() {
				time.Sleep(after)
				w.Abort()
				stopped.Store(dst.n.Load())
				w.Abort()
			})
			var writeErr error
			for rest := content; len(rest) > 0 && writeErr == nil; rest = rest[min(len(rest), 9999):] {
				_, writeErr = w.Write(rest[:min(len(rest), 9999)])
				time.Sleep(time.Millisecond / 2)
			}
			_, closeErr := w.Close()
			aborter.Wait()
			if writeErr != nil && !errors.Is(writeErr, ErrAborted) || closeErr != nil && !errors.Is(closeErr, ErrAborted) {
				t.Fatalf("Write: %v, Close: %v, want nil or %v", writeErr, closeErr, ErrAborted)
			}
			if writeErr != nil && closeErr == nil {
				t.Fatal("an aborted object was closed without error")
			}
			if dst.n.Load() != stopped.Load() {
				t.Fatal("something was written after Abort had returned")
			}
		})
	}
}

// slow is a destination that takes its time.
type slow struct {
	pause time.Duration
	n     atomic.Int64
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	s.n.Add(int64(len(p)))
	return len(p), nil
}

// A destination that fails, at any byte, fails the Writer with its error, and never with a Sealed.
func TestDestinationFails(t *testing.T) {
	id := classic(t)
	full := errors.New("no space left")
	content := mixed(11, 6*smallBlock)
	stored, _ := sealWith(t, content, Options{Recipients: []age.Recipient{id.Recipient()}}, smallBlock)
	for at := 300; at < len(stored); at += len(stored)/40 + 1 {
		synctest.Test(t, func(t *testing.T) {
			w, err := newWriter(&limited{left: at, err: full}, Options{Recipients: []age.Recipient{id.Recipient()}, Workers: 2}, smallBlock)
			if err != nil {
				t.Fatal(err)
			}
			_, writeErr := w.Write(content)
			s, closeErr := w.Close()
			if writeErr != nil && !errors.Is(writeErr, full) || !errors.Is(closeErr, full) || s.Size != 0 {
				t.Fatalf("the disk is full after %d bytes: Write: %v, Close: %v, %+v", at, writeErr, closeErr, s)
			}
			w.Abort()
		})
	}
	if _, err := newWriter(&limited{err: full}, Options{Recipients: []age.Recipient{id.Recipient()}}, smallBlock); !errors.Is(err, full) {
		t.Fatalf("NewWriter on a full disk: %v, want %v", err, full)
	}
}

type limited struct {
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return l.left, l.err
	}
	l.left -= len(p)
	return len(p), nil
}

// Misuse is an error, not a panic.
func TestClosedTwice(t *testing.T) {
	w, err := newWriter(io.Discard, Options{}, smallBlock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("a second Close succeeds")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a Write after Close succeeds")
	}
	w.Abort()
}

// Decode ends with the context's error, and with all its goroutines, whenever it is cancelled and whatever hangs.
func TestDecodeCancelled(t *testing.T) {
	id := classic(t)
	content := mixed(12, 30*smallBlock)
	stored, s := sealWith(t, content, Options{Recipients: []age.Recipient{id.Recipient()}}, smallBlock)
	for ms := range 40 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(ms)*time.Millisecond)
			defer cancel()
			fetch := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
				body, err := fetchFrom(stored)(ctx, off, n)
				return &hanging{ReadCloser: body, ctx: ctx}, err
			}
			if ms%2 == 0 {
				fetch = fetchFrom(stored)
			}
			err := Decode(ctx, s.Object("k"), s.ContentSize, fetch, &slowAt{}, DecodeOptions{Identities: []age.Identity{id}})
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDamaged) {
				t.Fatalf("cancelled after %d ms: %v, want %v", ms, err, context.DeadlineExceeded)
			}
		})
	}
}

// hanging gives its bytes and then nothing until its context ends.
type hanging struct {
	io.ReadCloser
	ctx context.Context
}

func (h *hanging) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p[:min(len(p), 100)])
	if err == io.EOF {
		<-h.ctx.Done()
		return 0, h.ctx.Err()
	}
	return n, err
}

type slowAt struct{}

func (slowAt) WriteAt(p []byte, _ int64) (int, error) {
	time.Sleep(50 * time.Millisecond)
	return len(p), nil
}

// A destination that fails is not damage.
func TestDecodeDestinationFails(t *testing.T) {
	full := errors.New("no space left")
	stored, s := sealWith(t, mixed(13, 4*smallBlock), Options{}, smallBlock)
	err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(stored), failingAt{full}, DecodeOptions{})
	if !errors.Is(err, full) || errors.Is(err, ErrDamaged) {
		t.Fatalf("%v, want %v and no damage", err, full)
	}
}

type failingAt struct{ err error }

func (f failingAt) WriteAt([]byte, int64) (int, error) { return 0, f.err }

// What both directions allocate in all bounds what they can hold: the buffers are made once, whatever the length of the content.
func TestMemory(t *testing.T) {
	id := classic(t)
	for name, content := range map[string][]byte{"text": likeKubernetes(1, 6*BlockSize), "noise": noise(12 * BlockSize)} {
		t.Run(name, func(t *testing.T) {
			var stored []byte
			var s Sealed
			sealing := allocated(func() {
				w, err := NewWriter(io.Discard, Options{Recipients: []age.Recipient{id.Recipient()}, Workers: 2})
				if err != nil {
					t.Fatal(err)
				}
				for rest := content; len(rest) > 0; rest = rest[min(len(rest), 32<<10):] {
					if _, err := w.Write(rest[:min(len(rest), 32<<10)]); err != nil {
						t.Fatal(err)
					}
				}
				if s, err = w.Close(); err != nil {
					t.Fatal(err)
				}
			})
			want := 4*BlockSize + 12<<20 // content, and frames, histories and tables
			if name == "noise" {
				want = 4*BlockSize + 3*BlockSize + 12<<20
			}
			t.Logf("%d MiB of %s with 2 workers: %d MiB allocated", len(content)>>20, name, sealing>>20)
			if sealing > want {
				t.Errorf("the writer allocated %d MiB, more than %d", sealing>>20, want>>20)
			}

			stored, s = sealWith(t, content, Options{}, BlockSize) // unencrypted: age leaves as much garbage as it reads
			decoding := allocated(func() {
				if err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(stored), discardAt{}, DecodeOptions{Workers: 64}); err != nil {
					t.Fatal(err)
				}
			})
			t.Logf("Decode with as many workers as fit: %d MiB allocated", decoding>>20)
			if decoding > memoryMax {
				t.Errorf("Decode allocated %d MiB, more than %d", decoding>>20, memoryMax>>20)
			}
		})
	}
}

func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}
