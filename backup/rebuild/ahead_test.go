package rebuild_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
)

// TestAhead: many small segments are fetched several at a time, so that a store's latency does not add up; the result is the same, and what is damaged, missing,
// or out of reach fails as it does one at a time.
func TestAhead(t *testing.T) {
	rng := newRand(t)
	h := newHistory()
	h.random(rng, 200)
	s := newShelf(t)
	for first := int64(31); first <= 150; first++ {
		s.put(t, first, first, content(t, h.changes, first, first))
	}
	const together = 8
	var mu sync.Mutex
	waiting, all := 0, make(chan struct{})
	var dead bool
	hooks := faults.Hooks{Before: func(ctx context.Context, op, key string) error {
		if op != "get" || !strings.Contains(key, ".chg.") {
			return nil
		}
		mu.Lock()
		if waiting++; waiting == together {
			close(all)
		}
		away := dead
		mu.Unlock()
		if away {
			return faults.Dead(op, key)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
			return errors.New("nobody else fetches")
		}
	}}
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + s.dir})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), faults.Wrap(st, hooks), "main")
	if err != nil {
		t.Fatal(err)
	}
	cat, err := r.Catalog(t.Context())
	if err != nil || len(cat.Segments) != 120 {
		t.Fatalf("%d segments, %v", len(cat.Segments), err)
	}
	run := func() (string, error) {
		t.Helper()
		segs, stop := rebuild.Ahead(t.Context(), r, cat.Segments, []age.Identity{s.id})
		defer stop()
		path := h.file(t, 30, 10)
		_, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 150, Segments: segs, Timeline: timeline})
		return path, err
	}
	path, err := run()
	if err != nil {
		t.Fatal(err)
	}
	check(t, h, path, 150, 10)

	object := filepath.Join(s.dir, "main", filepath.FromSlash(cat.Segments[70].Key))
	good, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func() error{
		"longer":  func() error { return os.WriteFile(object, append(good[:len(good):len(good)], 'x'), 0o600) },
		"cut off": func() error { return os.WriteFile(object, good[:len(good)-1], 0o600) },
		"missing": func() error { return os.Remove(object) },
	} {
		if err := errors.Join(os.Chmod(object, 0o600), damage()); err != nil {
			t.Fatal(err)
		}
		_, err := run()
		var seg *rebuild.SegmentError
		if !errors.As(err, &seg) || seg.Segment != cat.Segments[70].Key {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.WriteFile(object, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	dead = true
	mu.Unlock()
	if _, err := run(); !errors.Is(err, store.Unreachable) {
		t.Errorf("out of reach: %v", err)
	}
}
