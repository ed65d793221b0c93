package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config/schedule"
	"etcd-steward/internal/fail"
)

// clockedStore is a real store whose objects carry the time of the test's clock, as an S3 server's carry the server's.
type clockedStore struct {
	store.Store
	mu   sync.Mutex
	when map[string]time.Time
}

func newStore(t *testing.T) *clockedStore {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return &clockedStore{Store: st, when: map[string]time.Time{}}
}

func (c *clockedStore) Put(ctx context.Context, key string, src store.Source, o store.PutOptions) (store.Info, error) {
	info, err := c.Store.Put(ctx, key, src, o)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.when[key] = time.Now()
	}
	info.Modified = c.when[key]
	return info, err
}

func (c *clockedStore) Head(ctx context.Context, key string) (store.Info, error) {
	info, err := c.Store.Head(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	info.Modified = c.when[key]
	return info, err
}

// ran is one run of a job.
type ran struct {
	who string
	at  time.Time
}

// history is all runs of a test.
type history struct {
	mu   sync.Mutex
	runs []ran
}

func (h *history) add(who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, ran{who, time.Now().UTC()})
}

func (h *history) all() []ran {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.runs)
}

func parse(t *testing.T, text, zone string) schedule.Schedule {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.Parse(text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newRunner is one daemon's runner of a job called "work".
func newRunner(t *testing.T, st store.Store, who string, j job) *runner {
	t.Helper()
	j.name = "work"
	if j.limit == 0 {
		j.limit = time.Hour
	}
	return &runner{
		job: j, store: st, holder: who, log: slog.New(slog.DiscardHandler), state: &jobState{failures: map[string]uint64{}},
		pulse: newPulse(), id: who, work: context.Background(), after: func() {}, now: wallNow,
	}
}

// sleepUntil moves the test's clock.
func sleepUntil(t *testing.T, at string) {
	t.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(when))
}

// runFor runs the loops for d and waits for their end.
func runFor(d time.Duration, runners ...*runner) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, r := range runners {
		wg.Go(func() { r.loop(ctx) })
	}
	time.Sleep(d)
	cancel()
	wg.Wait()
}

// TestOneDaemonPerTick: three daemons share a schedule; every tick is done once, in time, and by nobody twice.
func TestOneDaemonPerTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T11:55:30Z")
		st, h := newStore(t), &history{}
		var runners []*runner
		for i := range 3 {
			who := fmt.Sprint("master", i)
			runners = append(runners, newRunner(t, st, who, job{
				schedule: parse(t, "*/10 * * * *", "UTC"), jitter: 30 * time.Second,
				run: func(context.Context) error { h.add(who); time.Sleep(90 * time.Second); return nil },
			}))
		}
		start := time.Now()
		runFor(2*time.Hour, runners...)
		runs := h.all()
		// The tick of 11:50 is caught up at once; then come those from 12:00 to 13:50.
		if len(runs) != 13 {
			t.Fatalf("%d runs, want 13: %v", len(runs), runs)
		}
		if late := runs[0].at.Sub(start); late > 30*time.Second {
			t.Errorf("the missed tick was caught up after %s", late)
		}
		for i, r := range runs[1:] {
			tick := time.Date(2026, 11, 20, 12, 10*i, 0, 0, time.UTC)
			if late := r.at.Sub(tick); late < 0 || late > 30*time.Second {
				t.Errorf("tick %s was done at %s", tick, r.at)
			}
		}
	})
}

// TestJitter: daemons spread over the jitter, and never beyond a tenth of the interval.
func TestJitter(t *testing.T) {
	for _, c := range []struct {
		jitter, interval, longest time.Duration
	}{
		{30 * time.Second, 6 * time.Hour, 30 * time.Second},
		{30 * time.Second, 5 * time.Second, 500 * time.Millisecond},
		{0, time.Hour, 0},
	} {
		r := &runner{job: job{jitter: c.jitter}}
		var least, most time.Duration = time.Hour, 0
		for range 2000 {
			d := r.delay(c.interval)
			least, most = min(least, d), max(most, d)
		}
		if most > c.longest || most < c.longest*9/10 || least > c.longest/10 {
			t.Errorf("jitter %s of %s: delays from %s to %s, want 0 to %s", c.jitter, c.interval, least, most, c.longest)
		}
	}
}

// TestClocksGoForward: the night in which 02:30 does not exist has its backup all the same.
func TestClocksGoForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-03-28T12:00:00Z")
		h := &history{}
		r := newRunner(t, newStore(t), "a", job{schedule: parse(t, "30 2 * * *", "Europe/Berlin"), run: func(context.Context) error { h.add("a"); return nil }})
		runFor(48*time.Hour, r)
		var got []string
		for _, run := range h.all() {
			got = append(got, run.at.Format(time.RFC3339))
		}
		want := []string{"2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}
		if !slices.Equal(got, want) {
			t.Errorf("runs at %v, want %v", got, want)
		}
	})
}

// TestSuspended: after a host slept over several ticks, the last one is caught up at once, and only that one.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:30Z")
		h := &history{}
		var mu sync.Mutex
		var slept time.Duration
		r := newRunner(t, newStore(t), "a", job{schedule: parse(t, "@hourly", "UTC"), run: func(context.Context) error { h.add("a"); return nil }})
		r.now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(slept)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.loop(ctx) }()
		time.Sleep(10 * time.Minute)
		if n := len(h.all()); n != 1 {
			t.Fatalf("%d runs before the host slept", n)
		}
		mu.Lock()
		slept = 5 * time.Hour // timers stood still meanwhile
		mu.Unlock()
		woke := time.Now()
		time.Sleep(10 * time.Minute)
		runs := h.all()
		if len(runs) != 2 || runs[1].at.Sub(woke) > beatEvery {
			t.Errorf("woke at %s, runs at %v", woke, runs)
		}
		// A clock that is set back by a day does not stop the schedule until it has caught up.
		mu.Lock()
		slept = -24 * time.Hour
		mu.Unlock()
		time.Sleep(70 * time.Minute)
		// Work that was done twice is harmless; ticks "done" by a clock that was a day ahead must not stop everything for a day.
		if n := len(h.all()); n != 4 {
			t.Errorf("%d runs, want 4: one for each tick since the clock went back", n)
		}
		cancel()
		<-ended
	})
}

// TestRetries: a failing job is tried again with growing pauses, never past the next tick, and never when it was refused.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name          string
		schedule      string
		retries       int
		err           error
		within        time.Duration
		atLeast, most int
	}{
		{"grows", "0 */6 * * *", 30, errors.New("no"), 6*time.Hour - time.Second, 15, 31},
		{"bounded", "0 */6 * * *", 3, errors.New("no"), 6*time.Hour - time.Second, 4, 4},
		{"fast schedule", "@every 5s", 30, errors.New("no"), 60 * time.Second, 30, 400},
		{"refused", "0 */6 * * *", 30, fail.Refused(errors.New("no"), ""), 6*time.Hour - time.Second, 1, 1},
		{"damage", "0 */6 * * *", 30, fail.New(fail.Wanting, errors.New("no"), ""), 6*time.Hour - time.Second, 1, 1},
		{"not allowed", "*/10 * * * *", 30, fmt.Errorf("%w: no", errNotAllowed), 3 * time.Hour, 18, 18}, // once a tick: what was denied may be allowed again
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntil(t, "2026-11-20T12:00:00Z")
				h := &history{}
				r := newRunner(t, newStore(t), "a", job{
					schedule: parse(t, c.schedule, "UTC"), retries: c.retries, run: func(context.Context) error { h.add("a"); return c.err },
				})
				runFor(c.within, r)
				runs := h.all()
				if len(runs) < c.atLeast || len(runs) > c.most {
					t.Errorf("%d attempts, want %d to %d", len(runs), c.atLeast, c.most)
				}
				if n := r.state.failures["other"] + r.state.failures["refused"] + r.state.failures["found-wanting"]; !errors.Is(c.err, errNotAllowed) && n != uint64(len(runs)) {
					t.Errorf("%d failures counted for %d attempts: %v", n, len(runs), r.state.failures)
				}
			})
		})
	}
}

// TestBackoff: within its bounds for every schedule and however often it failed.
func TestBackoff(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second, time.Minute, 6 * time.Hour, 30 * 24 * time.Hour} {
		for n := 1; n < 200; n++ {
			d := backoff(n, interval)
			if d < 50*time.Millisecond || d > backoffMax || d > max(interval/12, 100*time.Millisecond) {
				t.Fatalf("backoff(%d, %s) = %s", n, interval, d)
			}
		}
	}
	if first := backoff(1, 6*time.Hour); first > backoffFirst {
		t.Errorf("the first retry waits %s", first)
	}
}

// TestHolderDies: the tick of a daemon that was killed is done by another, when the lease has run out and not before.
func TestHolderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:00Z")
		st, h := newStore(t), &history{}
		tick := time.Now()
		ttl := leaseFor(6 * time.Hour)
		if _, o, err := lease.Take(t.Context(), st, leaseKey("work"), lease.Claim{Holder: "killed", Tick: tick, TTL: ttl}); err != nil || o != lease.Mine {
			t.Fatal(o, err)
		}
		r := newRunner(t, st, "b", job{schedule: parse(t, "0 */6 * * *", "UTC"), run: func(context.Context) error { h.add("b"); return nil }})
		runFor(5*time.Minute, r)
		runs := h.all()
		if len(runs) != 1 {
			t.Fatalf("runs: %v", runs)
		}
		if after := runs[0].at.Sub(tick); after < ttl || after > ttl+time.Minute {
			t.Errorf("taken over after %s, the lease lasts %s", after, ttl)
		}
		if len(r.state.failures) != 0 {
			t.Errorf("waiting for another daemon counts as a failure: %v", r.state.failures)
		}
	})
}

// TestOthersFailure: a daemon that cannot do a tick gives it back, and another does it.
func TestOthersFailure(t *testing.T) {
	for name, err := range map[string]error{"failed": errors.New("no"), "not allowed": errNotAllowed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntil(t, "2026-11-20T12:00:00Z")
				st, h := newStore(t), &history{}
				bad := newRunner(t, st, "bad", job{schedule: parse(t, "@hourly", "UTC"), retries: 5, run: func(context.Context) error { return err }})
				good := newRunner(t, st, "good", job{
					schedule: parse(t, "@hourly", "UTC"), jitter: 3 * time.Minute, run: func(context.Context) error { h.add("good"); return nil },
				})
				runFor(4*time.Hour-time.Second, bad, good)
				if n := len(h.all()); n != 4 {
					t.Errorf("%d of 4 ticks were done", n)
				}
			})
		})
	}
}

// TestDoneByHand: a backup that somebody took after the tick is the tick's.
func TestDoneByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:10:00Z")
		h := &history{}
		byHand := time.Now()
		r := newRunner(t, newStore(t), "a", job{
			schedule: parse(t, "@hourly", "UTC"),
			done:     func(_ context.Context, tick time.Time) (bool, error) { return !byHand.Before(tick), nil },
			run:      func(context.Context) error { h.add("a"); return nil },
		})
		runFor(55*time.Minute, r)
		if runs := h.all(); len(runs) != 1 || runs[0].at.Hour() != 13 {
			t.Errorf("runs: %v, want one at 13:00", runs)
		}
	})
}

// TestStop: a run that is nearly done when the daemon stops ends well; one that is not is cancelled, and its tick is free at once.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		want  lease.Outcome
	}{{"finished", 8 * time.Second, lease.Done}, {"cancelled", time.Minute, lease.Mine}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntil(t, "2026-11-20T12:00:00Z")
				st := newStore(t)
				tick := time.Now()
				r := newRunner(t, st, "a", job{schedule: parse(t, "@hourly", "UTC"), run: func(ctx context.Context) error {
					sleep(ctx, c.takes)
					return ctx.Err()
				}})
				loop, stopLoop := context.WithCancel(t.Context())
				work, stopWork := context.WithCancel(t.Context())
				r.work = work
				ended := make(chan struct{})
				go func() { defer close(ended); r.loop(loop) }()
				time.Sleep(time.Second)
				stopLoop()
				select {
				case <-ended:
				case <-time.After(stopGrace):
					stopWork()
				}
				<-ended
				stopWork()
				_, o, err := lease.Take(t.Context(), st, leaseKey("work"), lease.Claim{Holder: "b", Tick: tick, TTL: time.Minute})
				if err != nil || o != c.want {
					t.Errorf("the tick is %s for the next daemon, %v; want %s", o, err, c.want)
				}
				if len(r.state.failures) != 0 {
					t.Errorf("stopping counts as a failure: %v", r.state.failures)
				}
				if silent := r.pulse.silent(); len(silent) != 0 || len(r.pulse.last) != 0 {
					t.Errorf("the pulse still waits for %v", r.pulse.last)
				}
			})
		})
	}
}

// TestHung: a job that ignores the end of its context lets the pulse run out, so that the watchdog acts.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:00Z")
		release := make(chan struct{})
		r := newRunner(t, newStore(t), "a", job{
			schedule: parse(t, "@hourly", "UTC"), limit: 10 * time.Minute,
			run: func(context.Context) error { <-release; return nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.loop(ctx) }()
		time.Sleep(10*time.Minute - time.Second)
		if silent := r.pulse.silent(); len(silent) != 0 {
			t.Errorf("silent while the job may still run: %v", silent)
		}
		time.Sleep(staleAfter + 2*time.Second)
		if silent := r.pulse.silent(); len(silent) != 1 {
			t.Errorf("a hung job is not seen: %v", silent)
		}
		cancel()
		close(release)
		<-ended
	})
}
