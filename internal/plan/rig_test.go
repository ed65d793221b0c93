package plan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/plan"
)

// A world is what the steps of a test act on: a folder in which every step that is done has a file. A step that is done too early, or undone too early, leaves a
// file called "violation".
type world string

func (w world) has(step string) bool {
	_, err := os.Stat(filepath.Join(string(w), step))
	return err == nil
}

func (w world) violation(format string, a ...any) {
	f, err := os.OpenFile(filepath.Join(string(w), "violation"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, format+"\n", a...)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
}

// actions make and remove the files.
func (w world) actions() plan.Actions {
	return plan.Actions{"put": {
		Do: func(_ context.Context, t *plan.Task) (any, error) {
			for _, b := range t.Plan.Before(t.Step.Name) {
				var from string
				if ok, err := t.Result(b, &from); !w.has(b) || !ok || err != nil || from != "did "+b {
					w.violation("%s is done before %s (%v, %v, %q)", t.Step.Name, b, ok, err, from)
				}
			}
			return "did " + t.Step.Name, os.WriteFile(filepath.Join(string(w), t.Step.Name), nil, 0o600)
		},
		Undo: func(_ context.Context, t *plan.Task) error {
			for _, n := range t.Plan.Next(t.Step.Name) {
				if w.has(n) {
					w.violation("%s is undone before %s", t.Step.Name, n)
				}
			}
			if err := os.Remove(filepath.Join(string(w), t.Step.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		},
	}}
}

// want checks which steps are done in the world.
func (w world) want(t *testing.T, steps ...string) {
	t.Helper()
	entries, err := os.ReadDir(string(w))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(steps, " ") {
		text, _ := os.ReadFile(filepath.Join(string(w), "violation"))
		t.Fatalf("the world has %q, want %q\n%s", got, steps, text)
	}
}

// leaseLock is what cmd/steward gives a runner.
type leaseLock struct {
	st      store.Store
	machine plan.Machine
	ttl     time.Duration
}

func (l *leaseLock) Hold(ctx context.Context, name string) (context.Context, func(), error) {
	here := l.machine.ID + " process "
	taken, outcome, err := lease.Take(ctx, l.st, "coordination/plans/"+name+".lease.json", lease.Claim{
		Holder: fmt.Sprint(here, os.Getpid()), Tick: time.Now(), TTL: l.ttl,
		Gone: func(holder string) bool { return strings.HasPrefix(holder, here) },
	})
	if err != nil {
		return nil, nil, err
	}
	if outcome != lease.Mine {
		return nil, nil, &plan.HeldError{By: taken.Status().Holder, Until: taken.Status().Until}
	}
	work, cancel := context.WithCancelCause(ctx)
	held, stop := taken.Hold(ctx)
	context.AfterFunc(held, func() {
		cause := context.Cause(held)
		if errors.Is(cause, lease.ErrLost) {
			cause = fmt.Errorf("%w: %w", plan.ErrLockLost, cause)
		}
		cancel(cause)
	})
	return work, func() {
		stop()
		cancel(context.Canceled)
		_ = taken.Release(context.WithoutCancel(ctx))
	}, nil
}

// place is one store, and the machines' folders beside it.
type place struct {
	cfg   store.Config
	dir   string
	world world
}

func filePlace(t *testing.T) *place {
	t.Helper()
	dir := memoryDir(t)
	for _, d := range []string{"store", "world"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &place{cfg: store.Config{URL: "file://" + filepath.Join(dir, "store")}, dir: dir, world: world(filepath.Join(dir, "world"))}
}

// memoryDir is a folder in memory, where there is such a thing: the processes here are killed, not the machine, and hundreds of them need not wait for a disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "plan-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (pl *place) open(ctx context.Context) (*repo.Repo, error) {
	st, err := store.Open(ctx, pl.cfg)
	if err != nil {
		return nil, err
	}
	return repo.Open(ctx, st, "main")
}

// runner is that of a machine, which is called as its party.
func (pl *place) runner(ctx context.Context, host string) (*plan.Runner, error) {
	r, err := pl.open(ctx)
	if err != nil {
		return nil, err
	}
	m := plan.Machine{ID: "id-of-" + host, Host: host}
	return &plan.Runner{
		Board: r.Plans(plan.DocumentKind), Lock: &leaseLock{st: r.Store(), machine: m, ttl: time.Minute}, Machine: m,
		Dir: filepath.Join(pl.dir, "state-"+host, "plans"), Actions: pl.world.actions(), Poll: 5 * time.Millisecond, Patience: 30 * time.Second,
	}, nil
}

func (pl *place) on(t *testing.T, host string) *plan.Runner {
	t.Helper()
	r, err := pl.runner(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// steps makes steps of texts like "a1 m1 after b1,c1 final".
func steps(t testing.TB, lines ...string) []plan.Step {
	t.Helper()
	var all []plan.Step
	for _, line := range lines {
		words := strings.Fields(line)
		s := plan.Step{Name: words[0], Party: words[1], Action: "put", Text: "make " + words[0]}
		for i := 2; i < len(words); i++ {
			switch words[i] {
			case "after":
				i++
				s.After = strings.Split(words[i], ",")
			case "final":
				s.Final = true
			case "optional":
				s.Optional = true
			default:
				t.Fatalf("%q: what is %q?", line, words[i])
			}
		}
		all = append(all, s)
	}
	return all
}

func sample(t testing.TB, lines ...string) *plan.Plan {
	t.Helper()
	p, err := plan.New(plan.Plan{
		Kind: "test", Title: "a test", Cluster: "cdf818194e3a8c32", Made: time.Date(2026, 11, 28, 1, 2, 3, 4, time.Local), MadeBy: "m1", Steps: steps(t, lines...),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opened is a plan that m1 has opened.
func (pl *place) opened(t *testing.T, lines ...string) *plan.Plan {
	t.Helper()
	p := sample(t, lines...)
	if err := pl.on(t, "m1").Open(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func (pl *place) status(t *testing.T, id string) *plan.Status {
	t.Helper()
	p, st, err := plan.Load(t.Context(), pl.on(t, "m1").Board, id)
	if err != nil {
		t.Fatal(err)
	}
	return plan.StatusOf(p, st)
}
