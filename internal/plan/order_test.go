package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seeded is a source of chance that can be repeated: STEWARD_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("STEWARD_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("STEWARD_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("STEWARD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// chancePlan makes a plan of up to n steps, which may not be a good one.
func chancePlan(rng *rand.Rand, n int) Plan {
	p := Plan{Kind: "test", Title: "chance", Cluster: "1", Made: time.Unix(1, 0).UTC()}
	parties := 1 + rng.IntN(3)
	for i := range 1 + rng.IntN(n) {
		p.Steps = append(p.Steps, Step{
			Name: fmt.Sprintf("s%d", i), Party: fmt.Sprintf("m%d", rng.IntN(parties)), Action: "x",
			Final: rng.IntN(8) == 0, Optional: rng.IntN(6) == 0,
		})
	}
	for i := range p.Steps {
		for j := range p.Steps {
			// Mostly earlier ones; a later one only now and then, which may close a circle.
			if i > j && rng.IntN(4) == 0 || i < j && rng.IntN(25) == 0 {
				p.Steps[i].After = append(p.Steps[i].After, p.Steps[j].Name)
			}
		}
	}
	return p
}

// comesBefore is the relation as the documentation says it: named in After, or earlier of the same party; all of it, by Warshall's algorithm.
func comesBefore(p Plan) [][]bool {
	n := len(p.Steps)
	r := make([][]bool, n)
	for i := range r {
		r[i] = make([]bool, n)
		for j := range r[i] {
			r[i][j] = slices.Contains(p.Steps[j].After, p.Steps[i].Name) || i < j && p.Steps[i].Party == p.Steps[j].Party
		}
	}
	for k := range n {
		for i := range n {
			for j := range n {
				r[i][j] = r[i][j] || r[i][k] && r[k][j]
			}
		}
	}
	return r
}

// A plan is accepted exactly if nothing waits for itself, and nothing that is needed for what need not be done.
func TestAcceptedPlans(t *testing.T) {
	rng := seeded(t)
	accepted, refused := 0, 0
	for range 4000 {
		p := chancePlan(rng, 8)
		before := comesBefore(p)
		good := slices.ContainsFunc(p.Steps, func(s Step) bool { return !s.Optional })
		for i := range p.Steps {
			for j := range p.Steps {
				good = good && !before[i][i] && (!before[i][j] || !p.Steps[i].Optional || p.Steps[j].Optional)
			}
		}
		sealed, err := New(p)
		if (err == nil) != good {
			t.Fatalf("New: %v, want it accepted: %v: %+v", err, good, p.Steps)
		}
		if err != nil {
			refused++
			continue
		}
		accepted++
		order := sealed.Order()
		for i := range p.Steps {
			all := sealed.allBefore(p.Steps[i].Name)
			for j := range p.Steps {
				if all[p.Steps[j].Name] != before[j][i] {
					t.Fatalf("allBefore(%s) has %s: %v", p.Steps[i].Name, p.Steps[j].Name, !before[j][i])
				}
				at := func(k int) int {
					return slices.IndexFunc(order, func(s Step) bool { return s.Name == p.Steps[k].Name })
				}
				if before[j][i] && at(j) >= at(i) {
					t.Fatalf("Order has %s before %s: %+v", p.Steps[i].Name, p.Steps[j].Name, p.Steps)
				}
			}
		}
	}
	if accepted < 500 || refused < 500 {
		t.Errorf("%d plans accepted, %d refused: the chances are badly chosen", accepted, refused)
	}
}

// Every way in which parties can take turns: explored for chance plans, with a rollback at every point.
func TestEveryInterleaving(t *testing.T) {
	rng := seeded(t)
	var total explored
	for plans := 0; plans < 80; {
		p, err := New(chancePlan(rng, 6))
		if err != nil {
			continue
		}
		plans++
		explore(t, p, &total)
	}
	t.Logf("%d states, %d done, %d rolled back, %d with no way back", total.states, total.done, total.rolledBack, total.final)
	if total.done < 80 || total.rolledBack < 40 || total.final < 40 {
		t.Errorf("%+v: the chances are badly chosen", total)
	}
}

type explored struct{ states, done, rolledBack, final int }

var someMachine = Machine{ID: "1", Host: "h"}

// explore walks through all states that a plan can come to, and checks each.
func explore(t *testing.T, p *Plan, total *explored) {
	t.Helper()
	before := comesBefore(*p)
	at := time.Unix(1, 0).UTC()
	start := newState(p, at)
	for _, party := range p.Parties() {
		if err := start.claim(p, party, someMachine, false, at); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for todo := []*State{start}; len(todo) > 0; todo = todo[1:] {
		s := todo[0]
		if key := stateKey(p, s); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		total.states++
		if err := s.Validate(p); err != nil {
			t.Fatalf("%v: %s of %+v", err, stateKey(p, s), p.Steps)
		}
		checkOrder(t, p, s, before)
		next := successors(t, p, s, at)
		final := slices.ContainsFunc(p.Steps, func(step Step) bool { return step.Final && s.mark(step.Name) != "" })
		switch {
		case s.Phase == Done:
			total.done++
		case s.Phase == RolledBack:
			total.rolledBack++
		case len(next) == 0:
			t.Fatalf("stuck: %s of %+v", stateKey(p, s), p.Steps)
		}
		if back := s.clone(); s.Phase == Open {
			if err := back.rollBack(p, someMachine, at); (err == nil) == final {
				t.Fatalf("rollBack: %v, with a final step begun: %v", err, final)
			} else if err == nil {
				next = append(next, back)
			} else {
				total.final++
			}
		}
		todo = append(todo, next...)
	}
}

// checkOrder is independent of State.Validate.
func checkOrder(t *testing.T, p *Plan, s *State, before [][]bool) {
	t.Helper()
	for i, earlier := range p.Steps {
		for j, later := range p.Steps {
			if !before[i][j] {
				continue
			}
			e, l := s.mark(earlier.Name), s.mark(later.Name)
			if l != "" && l != Undone && e != DoneOK || l == Undone && (e == "" || e == Begun || e == Failed) {
				t.Fatalf("%s is %q and %s is %q: %s of %+v", earlier.Name, e, later.Name, l, stateKey(p, s), p.Steps)
			}
		}
	}
}

// successors are the states after each move that some party can make. Each move made twice is the same as made once.
func successors(t *testing.T, p *Plan, s *State, at time.Time) []*State {
	t.Helper()
	var next []*State
	try := func(move func(*State) error) {
		c := s.clone()
		if err := move(c); err != nil || stateKey(p, c) == stateKey(p, s) {
			return
		}
		again := c.clone()
		if err := move(again); err != nil || stateKey(p, again) != stateKey(p, c) {
			t.Fatalf("made twice: %v, %s, then %s", err, stateKey(p, c), stateKey(p, again))
		}
		next = append(next, c)
	}
	for _, step := range p.Steps {
		switch s.mark(step.Name) {
		case "", Failed:
			try(func(s *State) error { return s.begin(p, step, someMachine, at) })
		case Begun:
			try(func(s *State) error { return s.finish(p, step, someMachine, nil, at) })
			try(func(s *State) error { return s.failed(p, step, someMachine, "why", at) })
		case Undoing:
			try(func(s *State) error { return s.undone(p, step, someMachine, at) })
		}
		try(func(s *State) error { return s.undo(p, step, someMachine, at) })
	}
	return next
}

func stateKey(p *Plan, s *State) string {
	var b strings.Builder
	fmt.Fprint(&b, s.Phase)
	for _, step := range p.Steps {
		fmt.Fprintf(&b, " %s=%s", step.Name, s.mark(step.Name))
	}
	return b.String()
}

// A status can be made of every state, and encodes.
func TestStatusOfNothing(t *testing.T) {
	p, err := New(chancePlan(rand.New(rand.NewPCG(1, 1)), 1))
	if err != nil {
		t.Fatal(err)
	}
	s := StatusOf(p, &State{})
	if body, err := json.Marshal(s); err != nil || !strings.Contains(string(body), `"phase":""`) {
		t.Errorf("got %s, %v", body, err)
	}
}
