package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
)

const key = "coordination/leases/snapshot.json"

var tick = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func fileStore(t *testing.T) (store.Store, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return st, dir
}

func claim(holder string) Claim { return Claim{Holder: holder, Tick: tick, TTL: time.Minute} }

func take(t *testing.T, st store.Store, c Claim, want Outcome) *Lease {
	t.Helper()
	l, got, err := Take(t.Context(), st, key, c)
	if err != nil || got != want {
		t.Fatalf("Take by %s: %v, %v, want %v", c.Holder, got, err, want)
	}
	return l
}

// age makes the lease object, as the store tells it, older.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	path := filepath.Join(dir, key)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	old := st.ModTime().Add(-by)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	st, _ := fileStore(t)
	ctx := t.Context()
	mine := take(t, st, claim("m1"), Mine)
	held := take(t, st, claim("m2"), Held)
	if s := held.Status(); s.Holder != "m1" || !s.Tick.Equal(tick) || time.Until(s.Until) < 50*time.Second || time.Until(s.Until) > 70*time.Second {
		t.Errorf("held: %+v", s)
	}
	for _, err := range []error{held.Renew(ctx), held.Finish(ctx, "x")} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("on another's lease: %v, want %v", err, ErrLost)
		}
	}
	if err := mine.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	if err := mine.Release(ctx); err != nil {
		t.Fatal(err)
	}
	mine = take(t, st, claim("m2"), Mine) // given back undone: the next one may
	if err := mine.Finish(ctx, "ok: backup 1"); err != nil {
		t.Fatal(err)
	}
	if err := mine.Renew(ctx); !errors.Is(err, ErrLost) {
		t.Errorf("Renew after Finish: %v, want %v", err, ErrLost)
	}
	done := take(t, st, claim("m3"), Done)
	if s := done.Status(); s.DoneBy != "m2" || s.Result != "ok: backup 1" || !s.Done.Equal(tick) || s.Holder != "" {
		t.Errorf("done: %+v", s)
	}
	earlier := claim("m3")
	earlier.Tick = tick.Add(-time.Hour)
	take(t, st, earlier, Done) // a tick that was missed is done with the later one
	later := claim("m3")
	later.Tick = tick.Add(time.Hour)
	last := take(t, st, later, Mine)
	if s := last.Status(); !s.Done.Equal(tick) || s.DoneBy != "m2" {
		t.Errorf("what was done is forgotten: %+v", s)
	}
	take(t, st, claim("m4"), Done) // also while the next tick is worked on
}

func TestTakeover(t *testing.T) {
	st, dir := fileStore(t)
	first := take(t, st, claim("m1"), Mine)
	age(t, dir, 45*time.Second)
	take(t, st, claim("m2"), Held)
	age(t, dir, 18*time.Second)
	second := take(t, st, claim("m2"), Mine)
	for name, err := range map[string]error{"Renew": first.Renew(t.Context()), "Finish": first.Finish(t.Context(), "late")} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s of a lost lease: %v, want %v", name, err, ErrLost)
		}
	}
	if err := first.Release(t.Context()); err != nil {
		t.Errorf("Release of a lost lease: %v", err)
	}
	take(t, st, claim("m3"), Held)
	if err := second.Finish(t.Context(), "done"); err != nil {
		t.Fatal(err)
	}
	if s := take(t, st, claim("m3"), Done).Status(); s.DoneBy != "m2" {
		t.Errorf("done by %q, want m2", s.DoneBy)
	}
}

// The lease of a holder of whom the claimant knows that it is gone is not waited for; anyone else's is.
func TestGone(t *testing.T) {
	st, _ := fileStore(t)
	first := take(t, st, claim("m1, process 1"), Mine)
	again := claim("m1, process 2")
	again.Gone = func(holder string) bool { return holder == "m1, process 1" }
	second := take(t, st, again, Mine)
	if err := first.Renew(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Renew by the one who was said to be gone: %v, want %v", err, ErrLost)
	}
	take(t, st, again, Held) // by process 2, which is not
	if err := second.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A machine whose clock is wrong by a day neither takes a lease early nor waits for ever: only the store's clock counts. The
// store's clock is what os.Chtimes says; the claim's times are not compared with this machine's.
func TestClocks(t *testing.T) {
	st, dir := fileStore(t)
	for _, at := range []time.Duration{-24 * time.Hour, 0, 24 * time.Hour} {
		c := claim("m1")
		c.Tick = time.Now().Add(at)
		l := take(t, st, c, Mine)
		c.Holder = "m2"
		take(t, st, c, Held)
		age(t, dir, 2*time.Minute)
		take(t, st, c, Mine)
		if err := l.Finish(t.Context(), "x"); !errors.Is(err, ErrLost) {
			t.Fatal(err)
		}
		age(t, dir, 2*time.Minute)
		if err := take(t, st, c, Mine).Finish(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged lease object costs at most that a tick is done twice.
func TestDamaged(t *testing.T) {
	st, dir := fileStore(t)
	first := take(t, st, claim("m1"), Mine)
	if err := os.WriteFile(filepath.Join(dir, key), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := take(t, st, claim("m2"), Mine)
	if err := first.Finish(t.Context(), "x"); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want %v", err, ErrLost)
	}
	if err := second.Finish(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestBadClaims(t *testing.T) {
	st, _ := fileStore(t)
	for name, c := range map[string]struct {
		key string
		c   Claim
	}{
		"no coordination object": {"main/snapshots/x", claim("m")},
		"the clock":              {clockKey, claim("m")},
		"no holder":              {key, claim("")},
		"no tick":                {key, Claim{Holder: "m", TTL: time.Minute}},
		"no TTL":                 {key, Claim{Holder: "m", Tick: tick}},
		"a week":                 {key, Claim{Holder: "m", Tick: tick, TTL: 7 * 24 * time.Hour}},
	} {
		if _, _, err := Take(t.Context(), st, c.key, c.c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Answers get lost: whatever operation it is, the caller that tries again ends with the right outcome, and a tick is finished once.
func TestLostAnswers(t *testing.T) {
	for lost := range 30 {
		st, _ := fileStore(t)
		n := 0
		flaky := faults.Wrap(st, faults.Hooks{After: func(_ context.Context, op, key string) error {
			if n++; n-1 == lost {
				return faults.Dead(op, key)
			}
			return nil
		}})
		again := func(f func() error) {
			t.Helper()
			for range 3 {
				if err := f(); err == nil {
					return
				} else if !errors.Is(err, store.Unreachable) {
					t.Fatalf("answer %d lost: %v", lost, err)
				}
			}
			t.Fatalf("answer %d lost: no success", lost)
		}
		var l *Lease
		var outcome Outcome
		again(func() (err error) { l, outcome, err = Take(t.Context(), flaky, key, claim("m1")); return err })
		if outcome == Held { // the write was executed and its answer lost: our own older claim holds it until it expires
			if l.Status().Holder != "m1" {
				t.Fatalf("answer %d lost: held by %q", lost, l.Status().Holder)
			}
			continue
		}
		again(func() error { return l.Renew(t.Context()) })
		again(func() error { return l.Renew(t.Context()) })
		again(func() error { return l.Finish(t.Context(), "done") })
		if s := take(t, st, claim("m2"), Done).Status(); s.DoneBy != "m1" || s.Result != "done" {
			t.Fatalf("answer %d lost: %+v", lost, s)
		}
		if lost > 20 && n > lost {
			t.Fatalf("%d operations for one life of a lease", n)
		}
	}
}

// Many daemons and many ticks: exactly one does each, however they hit each other, with some that die in the middle.
func race(t *testing.T, stores []store.Store, ticks int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	worked := make([]atomic.Int32, ticks)
	atOnce := make([]atomic.Int32, ticks)
	var wg sync.WaitGroup
	for i, st := range stores {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for n := 0; n < ticks; {
				c := Claim{Holder: fmt.Sprintf("daemon-%d", i), Tick: tick.Add(time.Duration(n) * time.Minute), TTL: time.Hour}
				l, outcome, err := Take(context.Background(), st, key, c)
				switch {
				case err != nil:
					t.Errorf("daemon %d, tick %d: %v", i, n, err)
					return
				case outcome == Done:
					n++
				case outcome == Mine && rng.IntN(4) == 0:
					if err := l.Release(context.Background()); err != nil {
						t.Error(err)
					}
				case outcome == Mine:
					if atOnce[n].Add(1) > 1 {
						t.Errorf("two daemons do tick %d at once", n)
					}
					worked[n].Add(1)
					if err := l.Renew(context.Background()); err != nil {
						t.Errorf("renew: %v", err)
					}
					atOnce[n].Add(-1)
					if err := l.Finish(context.Background(), c.Holder); err != nil {
						t.Errorf("finish: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	for n := range worked {
		if got := worked[n].Load(); got != 1 {
			t.Errorf("tick %d was done %d times", n, got)
		}
	}
}

func TestRaceFile(t *testing.T) {
	_, dir := fileStore(t)
	var stores []store.Store
	for range 8 { // each daemon has a store of its own, as processes do
		st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, st)
	}
	race(t, stores, 15)
}

func TestRaceS3(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	var stores []store.Store
	for range 6 {
		st, err := store.Open(t.Context(), s3.StoreConfig())
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, st)
	}
	race(t, stores, 10)
}

// A store that ignores conditions: ticks may be done twice, but none is lost and nothing fails.
func TestNoConditions(t *testing.T) {
	st, _ := fileStore(t)
	blind := unconditional{st}
	var done atomic.Int32
	for n := range 10 {
		c := claim("m")
		c.Tick = tick.Add(time.Duration(n) * time.Minute)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				l, outcome, err := Take(context.Background(), blind, key, c)
				if err != nil {
					t.Error(err)
				}
				if outcome == Mine {
					done.Add(1)
					_ = l.Finish(context.Background(), "x")
				}
			})
		}
		wg.Wait()
		if done.Load() < int32(n+1) {
			t.Fatalf("tick %d was lost", n)
		}
	}
	t.Logf("10 ticks were done %d times", done.Load())
}

type unconditional struct{ store.Store }

func (u unconditional) Put(ctx context.Context, key string, src store.Source, _ store.PutOptions) (store.Info, error) {
	return u.Store.Put(ctx, key, src, store.PutOptions{})
}

// Hold keeps a lease beyond its TTL, and ends the work's context when it is lost or the store is gone.
func TestHold(t *testing.T) {
	st, dir := fileStore(t)
	c := claim("m1")
	c.TTL = time.Second
	l := take(t, st, c, Mine)
	held, stop := l.Hold(t.Context())
	first, err := st.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "the lease is renewed", func() error {
		now, err := st.Head(t.Context(), key)
		if err == nil && now.ETag == first.ETag {
			err = errors.New("not yet")
		}
		return err
	})
	if held.Err() != nil {
		t.Fatalf("the context ended: %v", context.Cause(held))
	}
	age(t, dir, time.Hour) // as if it had been suspended
	take(t, st, claim("m2"), Mine)
	select {
	case <-held.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the work goes on under a lost lease")
	}
	if err := context.Cause(held); !errors.Is(err, ErrLost) {
		t.Errorf("cause %v, want %v", err, ErrLost)
	}
	stop()
	stop()
}

func TestHoldStoreGone(t *testing.T) {
	st, _ := fileStore(t)
	var down atomic.Bool
	flaky := faults.Wrap(st, faults.Hooks{Before: func(ctx context.Context, op, key string) error {
		if down.Load() {
			return faults.Dead(op, key)
		}
		return nil
	}})
	c := claim("m1")
	c.TTL = time.Second
	l := take(t, flaky, c, Mine)
	down.Store(true)
	began := time.Now()
	held, stop := l.Hold(t.Context())
	defer stop()
	<-held.Done()
	if err := context.Cause(held); !errors.Is(err, ErrLost) || time.Since(began) < 900*time.Millisecond {
		t.Errorf("cause %v after %v, want %v after the TTL", err, time.Since(began), ErrLost)
	}
}

// stop leaves the lease as it is and ends the renewing.
func TestHoldStop(t *testing.T) {
	st, _ := fileStore(t)
	l := take(t, st, claim("m1"), Mine)
	held, stop := l.Hold(t.Context())
	stop()
	if !errors.Is(held.Err(), context.Canceled) || errors.Is(context.Cause(held), ErrLost) {
		t.Errorf("after stop: %v", context.Cause(held))
	}
	if err := l.Finish(t.Context(), "ok"); err != nil {
		t.Fatal(err)
	}
}

// A host whose clock stood in another year finished a tick there. That must not count as done for the ticks of now.
func TestFinishedInTheFuture(t *testing.T) {
	st, _ := fileStore(t)
	wrong := claim("m1")
	wrong.Tick = tick.AddDate(10, 0, 0)
	if err := take(t, st, wrong, Mine).Finish(t.Context(), "ok"); err != nil {
		t.Fatal(err)
	}
	if err := take(t, st, claim("m2"), Mine).Finish(t.Context(), "ok"); err != nil {
		t.Fatal(err)
	}
	if got := take(t, st, claim("m3"), Done).Status(); !got.Done.Equal(tick) || got.DoneBy != "m2" {
		t.Errorf("done: %+v, want tick %v by m2", got, tick)
	}
}
