package plan_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// burnt is a plan of which m1 and m2 have done all but the last step; m2's machine is gone, with what it had done.
func burnt(t *testing.T) (*place, *plan.Plan) {
	t.Helper()
	pl := filePlace(t)
	p := pl.opened(t, "a1 m1", "b1 m2 after a1", "b2 m2", "a2 m1 after b2", "b3 m2 after a2", "end m3 after b3 final")
	done := make(chan error, 1)
	go func() { done <- pl.on(t, "m2").Run(bounded(t), p, "m2") }()
	together(t, pl, p, "m1")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"b1", "b2", "b3"} {
		if err := os.Remove(filepath.Join(string(pl.world), step)); err != nil {
			t.Fatal(err)
		}
	}
	return pl, p
}

// A part whose machine is gone for good is left as it is, and the others' are undone, by one machine; wherever that is broken off, the same call comes to the same end. The
// machine that comes back undoes nothing and does nothing.
func TestRollbackWithout(t *testing.T) {
	t.Parallel()
	for stop := 0; ; stop++ {
		pl, p := burnt(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		points := 0
		count := make(chan struct{}, 1)
		hook := func(point string) {
			count <- struct{}{}
			defer func() { <-count }()
			if strings.Contains(point, "undo b") {
				t.Errorf("%q: a step of the machine that is gone is undone", point)
			}
			if points == stop {
				cancel()
			}
			points++
		}
		without := func(ctx context.Context) (*plan.State, error) {
			r := pl.on(t, "m1")
			r.Hook = hook
			return r.RollbackWithout(ctx, p, "m1", []string{"m2"}, "m2 burned down")
		}
		st, err := without(ctx)
		ended := ctx.Err() == nil
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped at %d: %v", stop, err)
			}
			if st, err = without(bounded(t)); err != nil {
				t.Fatalf("again after %d: %v", stop, err)
			}
		}
		pl.world.want(t)
		if st.Phase != plan.RolledBack {
			t.Fatalf("stopped at %d: the plan is %s", stop, st.Phase)
		}
		for step, left := range map[string]bool{"a1": false, "a2": false, "b1": true, "b2": true, "b3": true} {
			if s := st.Steps[step]; s.Mark != plan.Undone || s.Left != left {
				t.Errorf("stopped at %d: step %s is %s, left %v", stop, step, s.Mark, s.Left)
			}
		}
		if n := strings.Count(events(st), "what m2 has begun on m2 is left as it is: m2 burned down"); n != 1 {
			t.Errorf("it is told %d times: %s", n, events(st))
		}
		if !ended {
			continue
		}
		if stop < 20 {
			t.Errorf("only %d points", stop)
		}
		wantCode(t, pl.on(t, "m2").Run(t.Context(), p, "m2"), fail.Unsafe, "rolled back")
		_, err = pl.on(t, "m2").Rollback(t.Context(), p, "m2")
		wantCode(t, err, fail.Unsafe, "belongs to m1")
		return
	}
}

func events(st *plan.State) string {
	var all []string
	for _, e := range st.Events {
		all = append(all, e.What)
	}
	return strings.Join(all, "\n")
}

// A part is not left while its machine is at work, or here; nor without a reason, nor when there is no way back.
func TestRollbackWithoutRefused(t *testing.T) {
	t.Parallel()
	pl, p := burnt(t)
	r := pl.on(t, "m1")
	for _, reason := range []string{"", " ", "a\xffb"} {
		_, err := r.RollbackWithout(t.Context(), p, "m1", []string{"m2"}, reason)
		wantCode(t, err, fail.Usage, "reason")
	}
	_, err := r.RollbackWithout(t.Context(), p, "m1", []string{"m1"}, "why")
	wantCode(t, err, fail.Usage, "both")
	_, err = pl.on(t, "m9").RollbackWithout(t.Context(), p, "m1", []string{"m2"}, "why")
	wantCode(t, err, fail.Unsafe, "belongs to m1")
	if s := pl.status(t, p.ID); s.Phase != plan.Open || s.Parties[1].Left != "" {
		t.Errorf("on a machine that is none of the plan's, it became %s, %+v", s.Phase, s.Parties[1])
	}
	m2 := pl.on(t, "m2")
	m2.Lock.(*leaseLock).ttl = time.Second
	_, release, err := m2.Lock.Hold(t.Context(), p.ID+"/m2")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.RollbackWithout(t.Context(), p, "m1", []string{"m2"}, "why")
	wantCode(t, err, fail.Unsafe, "id-of-m2")
	release()
	if s := pl.status(t, p.ID); s.Parties[1].Machine.Host != "m2" || s.Parties[1].Left != "" {
		t.Errorf("the part of a machine that is at work is %+v", s.Parties[1])
	}
	_, err = r.RollbackWithout(t.Context(), p, "m3", []string{"m1"}, "why")
	wantCode(t, err, fail.Unsafe, "executed on this machine")

	pl, p = burnt(t)
	for _, step := range []string{"b1", "b2", "b3"} { // the world of m3's step wants them
		if err := os.WriteFile(filepath.Join(string(pl.world), step), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	together(t, pl, p, "m3")
	_, err = pl.on(t, "m1").RollbackWithout(t.Context(), p, "m1", []string{"m2"}, "why")
	wantCode(t, err, fail.Unsafe)
	if s := pl.status(t, p.ID); s.Parties[1].Left != "" {
		t.Errorf("what is done is left as it is: %+v", s.Parties[1])
	}
}
