package store_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
)

const probeKey = "coordination/probe"

func probe(t *testing.T, s store.Store) string {
	t.Helper()
	caps, err := store.Probe(t.Context(), s, probeKey)
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	return strings.TrimPrefix(caps.String(), s.String()+": ")
}

func TestProbe(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	s := open(t, below(t, s3, s3.StoreConfig()))
	want := "exclusive create yes (also multipart), compare-and-swap yes, SHA-256 yes, versioning off, object lock off"
	for range 2 { // also when the object is there already
		if got := probe(t, s); got != want {
			t.Errorf("S3: got %q, want %q", got, want)
		}
	}
	if got := probe(t, faults.Wrap(s, faults.Hooks{})); got != want {
		t.Errorf("behind a wrapper: got %q, want %q", got, want)
	}
	if left := s3.Uploads(); len(left) > 0 {
		t.Errorf("multipart uploads left: %q", left)
	}
	if got := probe(t, open(t, store.Config{URL: "file://" + t.TempDir()})); got != want {
		t.Errorf("folder: got %q, want %q", got, want)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			caps, err := store.Probe(t.Context(), s, probeKey)
			if err != nil || !strings.HasSuffix(caps.String(), want) {
				t.Errorf("several at once: got %v, %v", caps, err)
			}
		})
	}
	wg.Wait()
}

// TestProbeIgnoredConditions: a server that takes conditional writes and ignores the condition must not be trusted with leases.
func TestProbeIgnoredConditions(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	tr := faults.New(faults.Options{IgnoreConditions: true, AccessKeyID: s3.Access, Secret: s3.Secret})
	cfg := below(t, s3, s3.StoreConfig())
	cfg.S3.Transport = tr.Wrap
	s := open(t, cfg)
	want := "exclusive create NO, compare-and-swap NO, SHA-256 yes, versioning off, object lock off"
	if got := probe(t, s); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The fault is what it says it is.
	for _, data := range []string{"1", "2"} {
		if _, err := s.Put(t.Context(), "a", store.Source{Reader: bytes.NewReader([]byte(data)), Size: 1}, store.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("Put %s: %v", data, err)
		}
	}
	wantContent(t, s, "a", []byte("2"))
}

func TestProbeLock(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{ObjectLock: true})
	cfg := below(t, s3, s3.StoreConfig())
	cfg.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 30}
	want := "exclusive create yes (also multipart), compare-and-swap yes, SHA-256 yes, versioning on, object lock on"
	if got := probe(t, open(t, cfg)); got != want+", snapshots locked governance 30 d" {
		t.Errorf("got %q", got)
	}
	s3.SetDefaultRetention("COMPLIANCE", 7)
	if got := probe(t, open(t, cfg)); got != want+" (bucket default compliance 7 d), snapshots locked governance 30 d" {
		t.Errorf("got %q", got)
	}

	plain := lab.StartS3(t, lab.S3Options{})
	cfg = below(t, plain, plain.StoreConfig())
	cfg.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 30}
	_, err := store.Probe(t.Context(), open(t, cfg), probeKey)
	wantKind(t, err, store.Unsupported, "governance 30 d", "cannot lock objects")
}

// TestProbeFaulty: what a store can do does not depend on the weather.
func TestProbeFaulty(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	want := "exclusive create yes (also multipart), compare-and-swap yes, SHA-256 yes, versioning off, object lock off"
	for seed := range uint64(10) {
		tr := faults.New(faults.Options{Seed: seed + 1, Chance: map[faults.Fault]float64{
			faults.LostAnswer: 0.1, faults.LateError500: 0.1, faults.Error503: 0.1, faults.Conflict: 0.1,
		}})
		cfg := below(t, s3, s3.StoreConfig())
		cfg.S3.Transport, cfg.S3.BackoffMax = tr.Wrap, 5*time.Millisecond
		if got := probe(t, open(t, cfg)); got != want {
			t.Errorf("seed %d: got %q", seed+1, got)
		}
	}
}
