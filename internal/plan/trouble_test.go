package plan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

func s3Place(t *testing.T, s3 *lab.S3) *place {
	t.Helper()
	pl := filePlace(t)
	pl.cfg = s3.StoreConfig()
	pl.cfg.URL += "/" + filepath.Base(pl.dir)
	return pl
}

// A store that goes away in the middle and comes back is waited for; one that stays away ends the run with a clear error, and the same command goes on.
func TestBoardAway(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	pl := s3Place(t, s3)
	pl.cfg.S3.BackoffMax = 10 * time.Millisecond
	p := pl.opened(t, "a m1", "b m1")
	r := pl.on(t, "m1")
	said := make(chan string, 100)
	r.Say = func(line string) { said <- line }
	r.Hook = func(point string) {
		if point == "before do a" {
			s3.Kill()
		}
	}
	r.Patience = time.Second
	err := r.Run(t.Context(), p, "m1")
	wantCode(t, err, fail.Failed, "the store is away", "the same command goes on")
	pl.world.want(t, "a")

	s3.Restart()
	r = pl.on(t, "m1")
	r.Say = func(line string) {
		if strings.Contains(line, "does not answer") {
			s3.Restart()
		}
	}
	r.Hook = func(point string) {
		if point == "before do a" {
			t.Error("a is done again, although it is known here that it was done")
		}
		if point == "after do b" {
			s3.Kill()
		}
	}
	if err := r.Run(t.Context(), p, "m1"); err != nil {
		t.Fatal(err)
	}
	pl.world.want(t, "a", "b")
}

// A lock that is lost ends the context of the step that is being done, which stays begun; the board does not hear that it failed.
func TestLockLost(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1")
	r := pl.on(t, "m1")
	r.Lock.(*leaseLock).ttl = time.Second
	r.Actions = plan.Actions{"put": {Do: func(ctx context.Context, t *plan.Task) (any, error) {
		steal := lease.Claim{Holder: "thief", Tick: time.Now(), TTL: time.Minute, Gone: func(string) bool { return true }}
		_, outcome, err := lease.Take(ctx, r.Lock.(*leaseLock).st, "coordination/plans/"+t.Plan.ID+"/m1.lease.json", steal)
		if err != nil || outcome != lease.Mine {
			return nil, fmt.Errorf("steal the lock: %v, %w", outcome, err)
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}}
	err := r.Run(t.Context(), p, "m1")
	wantCode(t, err, fail.Failed, "the lock was lost", "steward plan status")
	if !errors.Is(err, plan.ErrLockLost) {
		t.Errorf("got %v, want %v", err, plan.ErrLockLost)
	}
	s := pl.status(t, p.ID)
	if got := s.Parties[0].Steps[0]; got.Mark != plan.Begun || got.Error != "" {
		t.Errorf("the step is %+v, want it begun", got)
	}
	wantCode(t, pl.on(t, "m1").Run(t.Context(), p, "m1"), fail.Unsafe, "thief")
}

// Whoever takes a party over waits until its lock has ended, and is refused while it is renewed.
func TestTakeOverWaits(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1")
	r := pl.on(t, "m1")
	r.Lock.(*leaseLock).ttl = time.Second
	_, release, err := r.Lock.Hold(t.Context(), p.ID+"/m1")
	if err != nil {
		t.Fatal(err)
	}
	other := pl.on(t, "m9")
	other.TakeOver = true
	wantCode(t, other.Run(t.Context(), p, "m1"), fail.Unsafe, "id-of-m1")
	pl.world.want(t)
	said := false
	other.Say = func(line string) {
		if strings.Contains(line, "not at work any more") {
			said = true
			release()
		}
	}
	if err := other.Run(t.Context(), p, "m1"); err != nil {
		t.Fatal(err)
	}
	if !said {
		t.Error("nothing was said of the wait")
	}
}

// A plan whose content was changed in the store is not executed, however it was changed; nor is one under another's name, nor the state of another.
func TestTampered(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a")
	r := pl.on(t, "m1")
	doc, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for old, evil := range map[string]string{`"party":"m2"`: `"party":"m1"`, `"make a"`: `"rm -rf"`, `,"after":["a"]`: ``, `"cdf818194e3a8c32"`: `"1"`} {
		changed := bytes.Replace(doc, []byte(old), []byte(evil), 1)
		if bytes.Equal(changed, doc) {
			t.Fatalf("%s is not in %s", old, doc)
		}
		if _, err := plan.Decode(changed); !errors.Is(err, plan.ErrTampered) {
			t.Errorf("with %s: got %v, want %v", evil, err, plan.ErrTampered)
		}
	}
	changed := bytes.Replace(doc, []byte(`"make a"`), []byte(`"make x"`), 1)
	overwrite(t, r, p.ID+"/plan.json", changed)
	_, _, err = plan.Load(t.Context(), r.Board, p.ID)
	wantCode(t, err, fail.Unsafe, "not the one that its ID names")

	// Whoever was given the plan before has it on his disk, and compares.
	overwrite(t, r, p.ID+"/plan.json", doc)
	if err := os.MkdirAll(filepath.Join(r.Dir, p.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, p.ID, "plan.json"), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Run(t.Context(), p, "m1"), fail.Unsafe, "not the one that its ID names")

	other := sample(t, "x m1")
	otherDoc, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, r, p.ID+"/plan.json", otherDoc)
	_, _, err = plan.Load(t.Context(), r.Board, p.ID)
	wantCode(t, err, fail.Unsafe, other.ID, "under the name of")
	pl.world.want(t)

	// Such a plan does not block the cluster for ever.
	wantCode(t, pl.on(t, "m1").Open(t.Context(), other), fail.Unsafe, "cannot be read", "steward plan close "+p.ID)
	if err := r.Close(t.Context(), p.ID, "somebody changed it"); err != nil {
		t.Fatal(err)
	}
	if err := pl.on(t, "m1").Open(t.Context(), other); err != nil {
		t.Fatal(err)
	}
}

// overwrite puts a document on the board, whatever is there.
func overwrite(t *testing.T, r *plan.Runner, name string, doc []byte) {
	t.Helper()
	_, version, err := r.Board.Read(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var ok bool
	if version == "" {
		ok, err = r.Board.Create(t.Context(), name, doc)
	} else {
		ok, err = r.Board.Swap(t.Context(), name, version, doc)
	}
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
}

// A state that the plan cannot have come to is not acted on.
func TestBadState(t *testing.T) {
	t.Parallel()
	p := sample(t, "a m1", "b m2 after a", "c m1 after b")
	machine := `{"machine":{"id":"1","host":"h"},"claimed":"2026-11-28T00:00:00Z"}`
	for what, c := range map[string]struct{ phase, parties, steps string }{
		"of a step before its time": {"open", `"m2":` + machine, `"b":{"mark":"begun"}`},
		"done too early":            {"done", `"m1":` + machine, `"a":{"mark":"done"}`},
		"of nobody":                 {"open", ``, `"a":{"mark":"begun"}`},
		"undone while open":         {"open", `"m1":` + machine, `"a":{"mark":"undone"}`},
		"undone in a wrong order":   {"rolling back", `"m1":` + machine + `,"m2":` + machine, `"a":{"mark":"undone"},"b":{"mark":"begun"}`},
		"of a step that is none":    {"open", `"m1":` + machine, `"x":{"mark":"begun"}`},
		"of a party that is none":   {"open", `"m7":` + machine, ``},
		"that means nothing":        {"open", `"m1":` + machine, `"a":{"mark":"perhaps"}`},
		"in no phase":               {"", ``, ``},
	} {
		doc := fmt.Sprintf(`{"plan":%q,"nonce":"x","phase":%q,"changed":"2026-11-28T00:00:00Z","parties":{%s},"steps":{%s}}`, p.ID, c.phase, c.parties, c.steps)
		_, err := plan.DecodeState(p, []byte(doc))
		if err == nil {
			t.Errorf("a state %s is accepted", what)
			continue
		}
		wantCode(t, err, fail.Unsafe, "steward plan close "+p.ID)
	}
	good := fmt.Sprintf(`{"plan":%q,"nonce":"x","phase":"open","changed":"2026-11-28T00:00:00Z","parties":{"m1":%s},"steps":{"a":{"mark":"failed"}}}`, p.ID, machine)
	if _, err := plan.DecodeState(p, []byte(good)); err != nil {
		t.Errorf("a good state is refused: %v", err)
	}
	_, err := plan.DecodeState(sample(t, "a m1"), []byte(good))
	wantCode(t, err, fail.Unsafe, "it is the state of plan")
}

func TestOtherCluster(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1")
	r := pl.on(t, "m1")
	r.Cluster = "1234"
	wantCode(t, r.Run(t.Context(), p, "m1"), fail.Unsafe, "is for cluster cdf818194e3a8c32, this is cluster 1234")
	wantCode(t, r.Open(t.Context(), p), fail.Unsafe, "this is cluster 1234")
	_, err := r.Rollback(t.Context(), p, "m1")
	wantCode(t, err, fail.Unsafe, "this is cluster 1234")
	wantCode(t, pl.on(t, "m1").Run(t.Context(), p, "m7"), fail.Usage, `no party "m7"`)
	r = pl.on(t, "m1")
	r.Actions = nil
	wantCode(t, r.Run(t.Context(), p, "m1"), fail.Usage, `is a "put"`)
	pl.world.want(t)
}

// A store that was put back to an older state is noticed by the machine that knows better.
func TestOlderBoard(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a", "c m1 after b")
	r := pl.on(t, "m1")
	ctx, cancel := context.WithCancel(t.Context())
	r.Hook = func(point string) {
		if point == "after board done a" {
			cancel()
		}
	}
	if err := r.Run(ctx, p, "m1"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	old := fmt.Sprintf(`{"plan":%q,"nonce":"x","phase":"open","changed":"2026-11-28T00:00:00Z","parties":{"m1":{"machine":{"id":"id-of-m1","host":"m1"},"claimed":"2026-11-28T00:00:00Z"}}}`, p.ID)
	overwrite(t, r, p.ID+"/state.json", []byte(old))
	r = pl.on(t, "m1")
	wantCode(t, r.Run(t.Context(), p, "m1"), fail.Unsafe, `"a"`, "was never begun by the store", "not as this machine left it")
}

// A state that was put back to when its plan was open does not make two plans open at once; it can be given up again.
func TestOlderStateOfClosedPlan(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1", "b m2 after a")
	together(t, pl, p, "m1")
	r := pl.on(t, "m1")
	old, _, err := r.Board.Read(t.Context(), p.ID+"/state.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context(), p.ID, "why"); err != nil {
		t.Fatal(err)
	}
	next := pl.opened(t, "x m1")
	overwrite(t, r, p.ID+"/state.json", old)
	wantCode(t, pl.on(t, "m2").Run(t.Context(), p, "m2"), fail.Unsafe, next.ID, "an old copy", "steward plan close "+p.ID)
	_, err = pl.on(t, "m1").Rollback(t.Context(), p, "m1")
	wantCode(t, err, fail.Unsafe, next.ID, "an old copy")
	pl.world.want(t, "a")
	if err := r.Close(t.Context(), p.ID, "again"); err != nil {
		t.Fatal(err)
	}
}

// A result that nobody could read is the step's failure.
func TestBadResult(t *testing.T) {
	t.Parallel()
	pl := filePlace(t)
	p := pl.opened(t, "a m1")
	for _, result := range []any{strings.Repeat("x", 5000), make([]int, 2000), func() {}} {
		r := pl.on(t, "m1")
		r.Actions = plan.Actions{"put": {Do: func(context.Context, *plan.Task) (any, error) { return result, nil }}}
		wantCode(t, r.Run(t.Context(), p, "m1"), fail.Failed, "what it returned")
	}
	together(t, pl, p, "m1")
}

// Many hosts that write one document through a network that loses answers: nothing is done too early, nothing twice that was known to be done, and all of it in the end.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	pl := s3Place(t, s3)
	var opened atomic.Uint64
	pl.cfg.S3.BackoffMax = 5 * time.Millisecond
	pl.cfg.S3.Transport = func(next http.RoundTripper) http.RoundTripper { // each host has a network of its own
		return faults.New(faults.Options{Seed: seed + opened.Add(1), AccessKeyID: s3.Access, Secret: s3.Secret, Chance: map[faults.Fault]float64{
			faults.LostAnswer: 0.05, faults.LateError500: 0.05, faults.Error503: 0.05, faults.Conflict: 0.05,
		}}).Wrap(next)
	}
	const rounds, hosts = 3, 6
	var lines, names, parties []string
	for round := range rounds {
		barrier := ""
		if round > 0 {
			barrier = " after " + strings.Join(names[(round-1)*hosts:], ",")
		}
		for host := range hosts {
			name := fmt.Sprintf("s%d%d", round, host)
			lines, names = append(lines, fmt.Sprintf("%s m%d%s", name, host+1, barrier)), append(names, name)
		}
	}
	for host := range hosts {
		parties = append(parties, fmt.Sprintf("m%d", host+1))
	}
	p := pl.opened(t, append(lines, "z m9")...)
	together(t, pl, p, parties...)
	pl.world.want(t, names...)
	ctx := bounded(t)
	var wg sync.WaitGroup
	for _, party := range parties {
		r := pl.on(t, party)
		wg.Go(func() {
			if _, err := r.Rollback(ctx, p, party); err != nil {
				t.Errorf("roll back %s: %v", party, err)
			}
		})
	}
	wg.Wait()
	wantRolledBack(t, pl, p)
}
