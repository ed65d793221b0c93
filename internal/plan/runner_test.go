package plan_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// three is a plan of three hosts that wait for each other.
var three = []string{"a1 m1", "b1 m2 after a1", "c1 m3 after a1", "a2 m1 after b1,c1", "b2 m2 after a2"}

// together runs all parties, each on a machine of its name, and wants no error.
func together(t *testing.T, pl *place, p *plan.Plan, parties ...string) {
	t.Helper()
	ctx := bounded(t)
	var wg sync.WaitGroup
	for _, party := range parties {
		r := pl.on(t, party)
		wg.Go(func() {
			if err := r.Run(ctx, p, party); err != nil {
				t.Errorf("run %s: %v", party, err)
			}
		})
	}
	wg.Wait()
}

func wantCode(t *testing.T, err error, code fail.Code, words ...string) {
	t.Helper()
	if err == nil || fail.ExitCode(err) != code {
		t.Fatalf("got %v (exit code %d), want exit code %d", err, fail.ExitCode(err), code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error()+"\n"+fail.HintOf(err), word) {
			t.Errorf("%q (hint: %q) does not say %q", err, fail.HintOf(err), word)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, three...)
	together(t, pl, p, "m1", "m2", "m3")
	pl.world.want(t, "a1", "a2", "b1", "b2", "c1")
	s := pl.status(t, p.ID)
	if s.Phase != plan.Done || !s.Finished {
		t.Errorf("the plan is %s, want done", s.Phase)
	}
	together(t, pl, p, "m1", "m2", "m3") // again: nothing to do
	_, err := pl.on(t, "m1").Rollback(t.Context(), p, "m1")
	wantCode(t, err, fail.Unsafe, "done")
	next := pl.opened(t, "x m1") // another may be opened
	together(t, pl, next, "m1")
}

// A plan is rolled back by all hosts, each undoing its part behind those that depend on it.
func TestRollback(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, append([]string{"d1 m2 after c1"}, three...)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := pl.on(t, "m1")
	r.Hook = func(point string) {
		if point == "before do a2" {
			cancel()
		}
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, p, "m1") }()
	go func() { _ = pl.on(t, "m3").Run(ctx, p, "m3") }()
	var waits string
	m2 := pl.on(t, "m2")
	m2.Say = func(line string) { waits += line + "\n" }
	_ = m2.Run(ctx, p, "m2")
	if err := <-done; !errors.Is(err, context.Canceled) && err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(waits, "waiting for m1") {
		t.Errorf("m2 did not say that it waits for m1: %s", waits)
	}
	var wg sync.WaitGroup
	for _, host := range []string{"m1", "m2", "m3"} {
		r := pl.on(t, host)
		wg.Go(func() {
			if _, err := r.Rollback(t.Context(), p, host); err != nil {
				t.Errorf("rollback %s: %v", host, err)
			}
		})
	}
	wg.Wait()
	pl.world.want(t)
	if s := pl.status(t, p.ID); s.Phase != plan.RolledBack {
		t.Errorf("the plan is %s, want rolled back", s.Phase)
	}
	wantCode(t, pl.on(t, "m1").Run(t.Context(), p, "m1"), fail.Unsafe, "rolled back", "make a new one")
}

func TestFinal(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m1 final", "c m2 after b")
	together(t, pl, p, "m1")
	for _, host := range []string{"m1", "m2"} {
		_, err := pl.on(t, host).Rollback(t.Context(), p, host)
		wantCode(t, err, fail.Unsafe, `"b"`, "only go forward", "steward plan run "+p.ID)
	}
	together(t, pl, p, "m2")
	pl.world.want(t, "a", "b", "c")
}

// What is left of a plan may be done late when its action finds that it still fits.
func TestOptionalLate(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "clean m2 after a optional", "sweep m2 optional")
	together(t, pl, p, "m1")
	next := pl.opened(t, "x m1")
	late := func(fits error) *plan.Runner {
		r := pl.on(t, "m2")
		put := r.Actions["put"]
		put.Late = func(_ context.Context, t *plan.Task) error {
			if t.Again || t.Plan.ID != p.ID || t.Step.Party != "m2" {
				return fmt.Errorf("asked for %+v", t)
			}
			return fits
		}
		r.Actions["put"] = put
		return r
	}
	wantCode(t, late(errors.New("it is another's")).Run(t.Context(), p, "m2"), fail.Unsafe, next.ID, "opened since", "it is another's")
	pl.world.want(t, "a")
	if err := late(nil).Run(t.Context(), p, "m2"); err != nil {
		t.Fatal(err)
	}
	pl.world.want(t, "a", "clean", "sweep")
	if s := pl.status(t, next.ID); s.Phase != plan.Open {
		t.Errorf("the new plan is %s", s.Phase)
	}
}

// The plan is done without its optional steps, which can be done afterwards, but not once another plan was opened.
func TestOptional(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "clean m2 after a optional", "sweep m3 after a optional")
	together(t, pl, p, "m1")
	if s := pl.status(t, p.ID); s.Phase != plan.Done {
		t.Fatalf("the plan is %s, want done", s.Phase)
	}
	together(t, pl, p, "m2")
	pl.world.want(t, "a", "clean")
	next := pl.opened(t, "x m1")
	wantCode(t, pl.on(t, "m3").Run(t.Context(), p, "m3"), fail.Unsafe, next.ID, "opened since")
	pl.world.want(t, "a", "clean")
}

// What is left of a plan is not begun either by a run that was under way when another plan was opened.
func TestOptionalMeanwhile(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "clean m2 after a optional", "sweep m2 optional")
	together(t, pl, p, "m1")
	r := pl.on(t, "m2")
	r.Hook = func(point string) {
		if point == "after board done clean" {
			pl.opened(t, "x m1")
		}
	}
	wantCode(t, r.Run(t.Context(), p, "m2"), fail.Unsafe, "opened since")
	pl.world.want(t, "a", "clean")
}

// Two machines that say they are the same party: the first one is it, also when their names are the same.
func TestClaim(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a", "c m1 after b")
	ctx, cancel := context.WithCancel(t.Context())
	r := pl.on(t, "m1")
	r.Hook = func(point string) {
		if point == "after board done a" {
			cancel()
		}
	}
	if err := r.Run(ctx, p, "m1"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it cancelled", err)
	}
	wantCode(t, pl.on(t, "m9").Run(t.Context(), p, "m1"), fail.Unsafe, "belongs to m1", "--take-over")
	clone := pl.on(t, "m1")
	clone.Machine.ID, clone.Dir = "another", t.TempDir()
	wantCode(t, clone.Run(t.Context(), p, "m1"), fail.Unsafe, "also called m1")
	together(t, pl, p, "m2")

	other := pl.on(t, "m9")
	other.TakeOver = true
	if err := other.Run(t.Context(), p, "m1"); err != nil {
		t.Fatal(err)
	}
	pl.world.want(t, "a", "b", "c")
	wantCode(t, pl.on(t, "m1").Run(t.Context(), p, "m1"), fail.Unsafe, "belongs to m9")
	var told bool
	for _, e := range pl.status(t, p.ID).Events {
		told = told || e.What == "m1 is taken over from m1 by m9"
	}
	if !told {
		t.Errorf("the take-over is not told: %+v", pl.status(t, p.ID).Events)
	}
}

// Two operators at once: one works, the other is told who.
func TestLock(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a")
	waiting := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := pl.on(t, "m2")
	var once sync.Once
	first.Say = func(string) { once.Do(func() { close(waiting) }) }
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx, p, "m2") }()
	<-waiting
	wantCode(t, pl.on(t, "m2").Run(t.Context(), p, "m2"), fail.Unsafe, "another process on this machine")
	second := pl.on(t, "m9")
	wantCode(t, second.Run(t.Context(), p, "m2"), fail.Unsafe, "id-of-m2", "at work")
	other := pl.on(t, "m9")
	wantCode(t, other.Open(t.Context(), sample(t, "x m1")), fail.Unsafe, "one plan at a time", "steward plan run "+p.ID, "steward plan rollback", "steward plan close "+p.ID+" --force")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
}

// A step that fails here ends the wait there, and is done when it is asked again.
func TestFailure(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a", "c m2", "d m1 after c")
	sick := errors.New("no disk")
	r := pl.on(t, "m2")
	r.Actions = plan.Actions{"put": {Do: func(context.Context, *plan.Task) (any, error) { return nil, sick }}}
	done := make(chan error, 1)
	go func() { done <- pl.on(t, "m1").Run(t.Context(), p, "m1") }()
	err := r.Run(t.Context(), p, "m2")
	wantCode(t, err, fail.Failed, "no disk", "steward plan run "+p.ID+" --party m2", "steward plan rollback")
	if !errors.Is(err, sick) {
		t.Errorf("got %v, want %v", err, sick)
	}
	wantCode(t, <-done, fail.Failed, `"b"`, "failed on m2: no disk", "steward plan run "+p.ID+" --party m2")
	if s := pl.status(t, p.ID); len(s.Failed()) != 1 || s.Parties[1].Why == "" {
		t.Errorf("the status does not tell of the failure: %+v", s)
	}
	together(t, pl, p, "m2")
	together(t, pl, p, "m1")
	pl.world.want(t, "a", "b", "c", "d")
}

// A rollback that begins elsewhere ends a wait.
func TestRollbackElsewhere(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a", "c m1 after b")
	waiting := make(chan struct{})
	r := pl.on(t, "m1")
	var once sync.Once
	r.Say = func(line string) {
		if strings.Contains(line, "waiting") {
			once.Do(func() { close(waiting) })
		}
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context(), p, "m1") }()
	<-waiting
	st, err := pl.on(t, "m2").Rollback(t.Context(), p, "m2")
	if err != nil || st.Phase != plan.RollingBack {
		t.Fatalf("got %+v, %v", st, err)
	}
	wantCode(t, <-done, fail.Unsafe, "being rolled back", "by m2", "steward plan rollback "+p.ID+" --party m1")
	wantCode(t, pl.on(t, "m2").Run(t.Context(), p, "m2"), fail.Unsafe, "being rolled back")
	if st, err := pl.on(t, "m1").Rollback(t.Context(), p, "m1"); err != nil || st.Phase != plan.RolledBack {
		t.Fatalf("got %+v, %v", st, err)
	}
	pl.world.want(t)
}

func TestClose(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a")
	r := pl.on(t, "m1")
	wantCode(t, r.Close(t.Context(), p.ID, " "), fail.Usage)
	wantCode(t, r.Close(t.Context(), "test-0123456789abcdef", "why"), fail.Usage, "no plan")
	if err := r.Close(t.Context(), p.ID, "m2 burned down"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Run(t.Context(), p, "m1"), fail.Unsafe, "m2 burned down")
	_, err := r.Rollback(t.Context(), p, "m1")
	wantCode(t, err, fail.Unsafe, "m2 burned down")
	pl.opened(t, "x m1")
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := pl.on(t, "m2").Run(ctx, p, "m2")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "still waiting for m1") {
		t.Errorf("got %v, want what it was waiting for", err)
	}
}
