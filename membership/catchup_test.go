package membership

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestPursuit: how a learner is followed.
func TestPursuit(t *testing.T) {
	type point struct {
		second          int
		leader, learner uint64
		ready, stalled  bool
	}
	for name, points := range map[string][]point{
		"idle and equal":             {{0, 50, 50, false, false}, {9, 50, 50, false, false}, {10, 50, 50, true, false}},
		"near, and getting nearer":   {{0, 5000, 4200, false, false}, {5, 6000, 5500, false, false}, {10, 7000, 6900, true, false}},
		"near enough for etcd alone": {{0, 1e6, 9.5e5, false, false}, {100, 1e6, 9.5e5, false, false}},
		"falls behind again":         {{0, 5000, 4900, false, false}, {9, 6000, 5300, false, false}, {12, 7000, 6300, false, false}, {19, 8000, 7400, true, false}},
		"loses touch":                {{0, 50, 50, false, false}, {9, 5000, 50, false, false}, {11, 5000, 5000, false, false}, {21, 5000, 5000, true, false}},
		"never answers":              {{0, 50, 0, false, false}, {299, 50, 0, false, false}, {300, 50, 0, false, true}},
		"stalls":                     {{0, 1e6, 10, false, false}, {200, 1e6, 20, false, false}, {499, 1e6, 20, false, false}, {500, 1e6, 20, false, true}},
		"slow, but moving":           {{0, 1e6, 10, false, false}, {299, 1e6, 11, false, false}, {598, 1e6, 12, false, false}},
		"answers rarely":             {{0, 1e6, 10, false, false}, {200, 1e6, 0, false, false}, {400, 1e6, 30, false, false}, {600, 1e6, 0, false, false}},
	} {
		p := pursuit{hold: 10 * time.Second, noProgress: 5 * time.Minute}
		for _, x := range points {
			ready, stalled, text := p.add(sample{time.Unix(int64(x.second), 0), x.leader, x.learner})
			if ready != x.ready || stalled != x.stalled || text == "" {
				t.Errorf("%s: at %d s ready %v, stalled %v (%s), want %v, %v", name, x.second, ready, stalled, text, x.ready, x.stalled)
			}
		}
	}
}

// TestPursuitNeverEarly: whatever is seen, a learner is ready only when it has been near for the whole time.
func TestPursuitNeverEarly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	readies := 0
	for range 500 {
		p := pursuit{hold: 10 * time.Second, noProgress: time.Minute}
		nearSince := time.Time{}
		leader := uint64(rnd.IntN(5000))
		for second := range 120 {
			leader += uint64(rnd.IntN(300))
			x := sample{time.Unix(int64(second), 0), leader, 0}
			if rnd.IntN(30) > 0 {
				x.learner = leader - min(leader, uint64(rnd.IntN(1050)))
			}
			switch {
			case !x.near():
				nearSince = time.Time{}
			case nearSince.IsZero():
				nearSince = x.at
			}
			ready, stalled, _ := p.add(x)
			if ready && (nearSince.IsZero() || x.at.Sub(nearSince) < p.hold || stalled) {
				t.Fatalf("seed %d: ready after %v", seed, x.at.Sub(nearSince))
			}
			if ready {
				readies++
				break
			}
		}
	}
	if readies < 50 {
		t.Errorf("seed %d: only %d were ever ready", seed, readies)
	}
}
