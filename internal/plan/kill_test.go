package plan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// childVariable makes the test binary one machine's run of a plan, which ends by SIGKILL at a point.
const childVariable = "STEWARD_PLAN_CHILD"

// patience bounds every run: when one has failed, others would wait for it for ever.
const patience = time.Minute

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// child is such a run.
type child struct {
	URL, Endpoint, Access, Secret, CA string // of the store
	Dir, Host, Plan                   string
	Verb                              string // open, run, rollback
	KillAt                            string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := runChild([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runChild(text []byte) error {
	var c child
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	doc, err := os.ReadFile(c.Plan)
	if err != nil {
		return err
	}
	p, err := plan.Decode(doc)
	if err != nil {
		return err
	}
	pl := &place{dir: c.Dir, world: world(filepath.Join(c.Dir, "world")), cfg: store.Config{URL: c.URL, S3: store.S3Options{
		Endpoint: c.Endpoint, AccessKeyID: c.Access, SecretAccessKey: c.Secret, CAFile: c.CA,
	}}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := pl.runner(ctx, c.Host)
	if err != nil {
		return err
	}
	r.Hook = func(point string) {
		if point == c.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	switch c.Verb {
	case "open":
		return r.Open(ctx, p)
	case "run":
		return r.Run(ctx, p, c.Host)
	}
	_, err = r.Rollback(ctx, p, c.Host)
	return err
}

// killed runs a verb of a party in a process of its own that dies at a point.
func (pl *place) killed(t *testing.T, p *plan.Plan, host, verb, point string) {
	t.Helper()
	doc, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(pl.dir, "plan.json")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	s3 := pl.cfg.S3
	text, err := json.Marshal(child{
		URL: pl.cfg.URL, Endpoint: s3.Endpoint, Access: s3.AccessKeyID, Secret: s3.SecretAccessKey, CA: s3.CAFile,
		Dir: pl.dir, Host: host, Plan: file, Verb: verb, KillAt: point,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s of %s was not killed at %q: %v\n%s", verb, host, point, err, out)
	}
}

// points are where a verb of a party can be killed when nothing goes wrong, found out by doing it.
func points(t *testing.T, verb string, lines []string) map[string][]string {
	t.Helper()
	pl := filePlace(t)
	p := sample(t, lines...)
	var mu sync.Mutex
	all := map[string][]string{}
	on := func(host string) *plan.Runner {
		r := pl.on(t, host)
		r.Hook = func(point string) {
			mu.Lock()
			defer mu.Unlock()
			all[host] = append(all[host], point)
		}
		return r
	}
	if err := on("m1").Open(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if verb == "open" {
		return all
	}
	clear(all)
	var wg sync.WaitGroup
	each := func(f func(r *plan.Runner, host string) error) {
		for _, host := range hosts(p) {
			r := on(host)
			wg.Go(func() {
				if err := f(r, host); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			})
		}
		wg.Wait()
	}
	each(func(r *plan.Runner, host string) error { return r.Run(t.Context(), p, host) })
	if verb == "rollback" {
		clear(all)
		each(func(r *plan.Runner, host string) error {
			_, err := r.Rollback(t.Context(), p, host)
			return err
		})
	}
	return all
}

// hosts are the parties that have a machine: not m9, whose step keeps a plan from being done.
func hosts(p *plan.Plan) []string {
	var all []string
	for _, party := range p.Parties() {
		if party != "m9" {
			all = append(all, party)
		}
	}
	return all
}

// neverDone is a plan whose last step nobody does, so that it can be rolled back at any moment.
func neverDone(lines []string) []string { return append(lines[:len(lines):len(lines)], "z m9") }

var killPlans = map[string][]string{
	"one party":     {"a1 m1", "a2 m1"},
	"two parties":   {"a1 m1", "b1 m2 after a1", "a2 m1 after b1"},
	"three parties": {"a1 m1", "b1 m2 after a1", "c1 m3 after a1", "a2 m1 after b1,c1"},
}

// forEveryKill makes a test for each point at which a verb of each party can be killed.
func forEveryKill(t *testing.T, newPlace func(*testing.T) *place, verb string, lines []string, f func(t *testing.T, pl *place, host, point string)) {
	n := 0
	for host, all := range points(t, verb, lines) {
		for _, point := range all {
			n++
			t.Run(host+" "+point, func(t *testing.T) {
				t.Parallel()
				f(t, newPlace(t), host, point)
			})
		}
	}
	if n < 4 {
		t.Errorf("only %d points", n)
	}
}

// others calls f for all parties but one, each in a goroutine, and returns how to wait for them.
func others(t *testing.T, pl *place, p *plan.Plan, not string, f func(r *plan.Runner, host string)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for _, host := range hosts(p) {
		if host != not {
			r := pl.on(t, host)
			wg.Go(func() { f(r, host) })
		}
	}
	t.Cleanup(wg.Wait) // also when the test has failed
	return wg.Wait
}

// killThenResume: the others go on meanwhile, and the same command ends as if nothing had happened.
func killThenResume(t *testing.T, pl *place, lines []string, host, point string) {
	p := pl.opened(t, lines...)
	wait := others(t, pl, p, host, func(r *plan.Runner, other string) {
		if err := r.Run(bounded(t), p, other); err != nil {
			t.Errorf("run %s: %v", other, err)
		}
	})
	pl.killed(t, p, host, "run", point)
	if err := pl.on(t, host).Run(bounded(t), p, host); err != nil {
		t.Errorf("run %s again: %v", host, err)
	}
	wait()
	pl.world.want(t, sortedSteps(p)...)
	if s := pl.status(t, p.ID); s.Phase != plan.Done {
		t.Errorf("the plan is %s, want done", s.Phase)
	}
}

// killThenRollback: all parties roll back, also those that were at work, and nothing is left.
func killThenRollback(t *testing.T, pl *place, lines []string, host, point string) {
	p := pl.opened(t, neverDone(lines)...)
	dead := make(chan struct{})
	wait := others(t, pl, p, host, func(r *plan.Runner, other string) {
		if err := r.Run(bounded(t), p, other); err != nil && fail.ExitCode(err) != fail.Unsafe {
			t.Errorf("run %s: %v", other, err)
		}
		select {
		case <-dead:
		case <-bounded(t).Done():
			return
		}
		if _, err := pl.on(t, other).Rollback(bounded(t), p, other); err != nil {
			t.Errorf("roll back %s: %v", other, err)
		}
	})
	pl.killed(t, p, host, "run", point)
	close(dead)
	if _, err := pl.on(t, host).Rollback(bounded(t), p, host); err != nil {
		t.Errorf("roll back %s: %v", host, err)
	}
	wait()
	wantRolledBack(t, pl, p)
}

// killRollback: a rollback that is killed ends when it is asked for again.
func killRollback(t *testing.T, pl *place, lines []string, host, point string) {
	p := pl.opened(t, neverDone(lines)...)
	together(t, pl, p, hosts(p)...)
	wait := others(t, pl, p, host, func(r *plan.Runner, other string) {
		if _, err := r.Rollback(bounded(t), p, other); err != nil {
			t.Errorf("roll back %s: %v", other, err)
		}
	})
	pl.killed(t, p, host, "rollback", point)
	if _, err := pl.on(t, host).Rollback(bounded(t), p, host); err != nil {
		t.Errorf("roll back %s again: %v", host, err)
	}
	wait()
	wantRolledBack(t, pl, p)
}

func wantRolledBack(t *testing.T, pl *place, p *plan.Plan) {
	t.Helper()
	pl.world.want(t)
	s := pl.status(t, p.ID)
	if s.Phase != plan.RolledBack {
		t.Errorf("the plan is %s, want rolled back", s.Phase)
	}
}

func TestKillThenResume(t *testing.T) {
	for name, lines := range killPlans {
		t.Run(name, func(t *testing.T) {
			forEveryKill(t, filePlace, "run", lines, func(t *testing.T, pl *place, host, point string) { killThenResume(t, pl, lines, host, point) })
		})
	}
}

func TestKillThenRollback(t *testing.T) {
	for name, lines := range killPlans {
		t.Run(name, func(t *testing.T) {
			forEveryKill(t, filePlace, "run", neverDone(lines), func(t *testing.T, pl *place, host, point string) { killThenRollback(t, pl, lines, host, point) })
		})
	}
}

func TestKillRollback(t *testing.T) {
	for name, lines := range killPlans {
		t.Run(name, func(t *testing.T) {
			forEveryKill(t, filePlace, "rollback", neverDone(lines), func(t *testing.T, pl *place, host, point string) { killRollback(t, pl, lines, host, point) })
		})
	}
}

// Whoever was killed while he opened a plan opens it again; or, if he does not, another plan can be opened unless his was.
func TestKillOpen(t *testing.T) {
	lines := killPlans["one party"]
	forEveryKill(t, filePlace, "open", lines, func(t *testing.T, pl *place, host, point string) {
		p := sample(t, lines...)
		pl.killed(t, p, host, "open", point)
		err := pl.on(t, "m1").Open(t.Context(), sample(t, "x m1"))
		if opened := point == "after board open"; opened {
			wantCode(t, err, fail.Unsafe, "one plan at a time")
		} else if err != nil {
			t.Fatal(err)
		} else {
			wantCode(t, pl.on(t, "m1").Run(bounded(t), p, "m1"), fail.Unsafe, "never opened")
			wantCode(t, pl.on(t, "m1").Open(t.Context(), p), fail.Unsafe, "one plan at a time")
			return
		}
		if err := pl.on(t, host).Open(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		together(t, pl, p, "m1")
		pl.world.want(t, "a1", "a2")
	})
}

// On S3, which answers over a network: one party's kills of each sort.
func TestKillS3(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	newPlace := func(t *testing.T) *place { return s3Place(t, s3) }
	lines := killPlans["two parties"]
	t.Run("resume", func(t *testing.T) {
		forEveryKill(t, newPlace, "run", lines, func(t *testing.T, pl *place, host, point string) {
			if host != "m2" {
				t.Skip("the file store has them all")
			}
			killThenResume(t, pl, lines, host, point)
		})
	})
	t.Run("rollback", func(t *testing.T) {
		forEveryKill(t, newPlace, "rollback", neverDone(lines), func(t *testing.T, pl *place, host, point string) {
			if host != "m2" {
				t.Skip("the file store has them all")
			}
			killRollback(t, pl, lines, host, point)
		})
	})
}

func sortedSteps(p *plan.Plan) []string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, s.Name)
	}
	slices.Sort(all)
	return all
}
