package retention

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Every history of up to 3 backups, at all combinations of four ages (one in the future), two cuts, and good, verified or bad, under small policies: the promises of the package
// hold.
func TestPromisesExhaustive(t *testing.T) {
	ages := []time.Duration{-time.Hour, 10 * time.Minute, 30 * time.Hour, 24 * 40 * time.Hour}
	kinds := []struct{ good, verified bool }{{true, false}, {true, true}, {false, false}}
	policies := []Policy{{Last: 1}, {Hourly: 1}, {Daily: 2}, {Weekly: 1}, {Monthly: 1}, {Within: time.Hour}, {Within: 48 * time.Hour}, {}}
	perItem := len(ages) * len(kinds) * 2
	cases := 0
	for n := range 4 {
		total := 1
		for range n {
			total *= perItem
		}
		for code := range total {
			var items []Item
			for i, c := 0, code; i < n; i, c = i+1, c/perItem {
				at := now.Add(-ages[c%len(ages)]).Add(time.Duration(-i) * time.Millisecond)
				k := kinds[c/len(ages)%len(kinds)]
				items = append(items, Item{
					ID: repo.SnapshotID(string(rune('A' + i))), Time: at, Revision: repo.Revision(100 - i), Good: k.good, Verified: k.verified,
					Timeline: repo.Timeline{Cluster: 1, Cut: uint32(1 + c/len(ages)/len(kinds))},
				})
			}
			for _, p := range policies {
				cases++
				checkPromises(t, p, items)
			}
		}
	}
	t.Logf("%d cases", cases)
}

func TestPromisesRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		var items []Item
		for range rng.IntN(60) {
			it := item(now.Add(-time.Duration(rng.Int64N(int64(400*24*time.Hour)) >> rng.IntN(12))).Add(time.Duration(rng.IntN(2)) * 20 * time.Minute))
			it.Good, it.Verified = rng.IntN(5) > 0, rng.IntN(4) == 0
			it.Timeline = repo.Timeline{Cluster: repo.ClusterID(1 + rng.IntN(2)), Cut: uint32(1 + rng.IntN(3))}
			it.Revision = repo.Revision(rng.IntN(100))
			items = append(items, it)
		}
		p := Policy{Last: rng.IntN(4), Hourly: rng.IntN(4), Daily: rng.IntN(4), Weekly: rng.IntN(3), Monthly: rng.IntN(3), Within: time.Duration(rng.IntN(3)) * 24 * time.Hour}
		checkPromises(t, p, items)
	}
}

// checkPromises looks at decisions without knowing how they were made.
func checkPromises(t *testing.T, p Policy, items []Item) {
	t.Helper()
	before := slices.Clone(items)
	ds := Apply(p, items, now, nil)
	if !slices.Equal(before, items) || len(ds) != len(items) {
		t.Fatalf("%v: %d decisions about %d items, or the items were changed", p, len(ds), len(items))
	}
	stays := map[repo.SnapshotID]bool{}
	goodKept := 0
	for i, d := range ds {
		if len(d.Why) == 0 || i > 0 && d.Item.Time.Before(ds[i-1].Item.Time) {
			t.Fatalf("%v: a decision without a reason, or out of order: %+v", p, d)
		}
		stays[d.Item.ID] = d.Keep
		if d.Keep && d.Item.Good {
			goodKept++
		}
		if !d.Keep && d.Item.Time.After(now.Add(-time.Hour)) && d.Item.Good {
			t.Fatalf("%v: %+v is younger than an hour and goes", p, d.Item)
		}
	}
	var good []Item
	for _, it := range items {
		if it.Good && !it.Time.After(now.Add(clockSkewMax)) {
			good = append(good, it)
		}
	}
	must := func(what string, score func(a, b Item) int, of []Item) {
		if len(of) == 0 {
			return
		}
		best := slices.MaxFunc(of, score)
		// Of several that are equal one is enough.
		if !slices.ContainsFunc(of, func(it Item) bool { return stays[it.ID] && score(it, best) == 0 }) {
			t.Fatalf("%v: the %s goes: %+v\n%+v", p, what, best, items)
		}
	}
	byTime := func(a, b Item) int { return a.Time.Compare(b.Time) }
	must("newest good backup", byTime, good)
	must("newest verified backup", byTime, slices.DeleteFunc(slices.Clone(good), func(it Item) bool { return !it.Verified }))
	if len(good) > 0 {
		cluster := slices.MaxFunc(good, func(a, b Item) int { return cmp.Or(byTime(a, b), cmp.Compare(a.ID, b.ID)) }).Timeline.Cluster
		must("best of the current timeline", func(a, b Item) int {
			return cmp.Or(cmp.Compare(a.Timeline.Cut, b.Timeline.Cut), cmp.Compare(a.Revision, b.Revision))
		}, slices.DeleteFunc(slices.Clone(good), func(it Item) bool { return it.Timeline.Cluster != cluster }))
	}
	if goodKept < min(keepMin, len(good)) {
		t.Fatalf("%v: %d good ones stay of %d", p, goodKept, len(good))
	}
	if again := Apply(p, keptItems(ds), now, nil); len(keptItems(again)) != len(keptItems(ds)) {
		t.Fatalf("%v: applied again to what stays, it removes more", p)
	}
}

func keptItems(ds []Decision) (out []Item) {
	for _, d := range ds {
		if d.Keep {
			out = append(out, d.Item)
		}
	}
	return out
}

// A daemon that prunes at least weekly under one policy is never refused, whatever the policy and however often it backs up; locks of any length
// included. The same daemon after its policy was mistyped is refused before it loses its history.
func TestGuardOverTime(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	refusals := 0
	for range 25 {
		p := Policy{Last: rng.IntN(6), Hourly: rng.IntN(30), Daily: rng.IntN(10), Weekly: rng.IntN(6), Monthly: 1 + rng.IntN(14), Within: time.Duration(rng.IntN(240)) * time.Hour}
		step := time.Duration(30+rng.IntN(12*60)) * time.Minute
		between := time.Duration(1+rng.IntN(7)) * 24 * time.Hour
		lock := time.Duration(rng.IntN(3)*20) * 24 * time.Hour
		var items []Item
		at, lastPrune := now, now
		for at.Before(now.Add(200 * 24 * time.Hour)) {
			at = at.Add(step)
			it := item(at)
			it.Verified = rng.IntN(6) == 0
			it.RetainUntil = at.Add(lock)
			items = append(items, it)
			if at.Sub(lastPrune)+step < between {
				continue
			}
			lastPrune = at
			ds := Apply(p, items, at, nil)
			if err := Guard(p, ds, at, nil, false); err != nil {
				t.Fatalf("policy %v, a backup every %v, prune every %v, locks of %v, at %v: %v", p, step, between, lock, at, err)
			}
			items = slices.DeleteFunc(items, func(it Item) bool {
				i := slices.IndexFunc(ds, func(d Decision) bool { return d.Item.ID == it.ID })
				return !ds[i].Keep && !it.RetainUntil.After(at)
			})
		}
		ds := Apply(Policy{Last: 3}, items, at, nil)
		lost := 0
		for _, d := range ds {
			if !d.Keep && at.Sub(d.Item.Time) > overdueAfter && at.Sub(d.Item.RetainUntil) > overdueAfter {
				lost++
			}
		}
		err := Guard(Policy{Last: 3}, ds, at, nil, false)
		// Up to six of them the new policy and the floors would have kept 8 days ago.
		if err == nil && lost > overdueMax+6 || err != nil && (lost <= overdueMax || fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "") {
			t.Fatalf("policy %v became last 3: %d old ones would go: %v", p, lost, err)
		}
		if err != nil {
			refusals++
			if err := Guard(Policy{Last: 3}, ds, at, nil, true); err != nil {
				t.Fatalf("with allow-large: %v", err)
			}
		}
	}
	if refusals == 0 {
		t.Error("no mistyped policy was refused: the test proves nothing")
	}
}

// A clock that is behind removes nothing that it should not, and is named when it matters.
func TestGuardClock(t *testing.T) {
	items := every(100, 6*time.Hour, now)
	p := Policy{Last: 2}
	behind := now.Add(-20 * 24 * time.Hour)
	err := Guard(p, Apply(p, items, behind, nil), behind, nil, true)
	if fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) != "set this machine's clock" {
		t.Errorf("%v (hint %q), want it refused for the clock", err, fail.HintOf(err))
	}
	if err := Guard(p, Apply(p, items, now, nil), now, nil, true); err != nil {
		t.Errorf("by the right clock: %v", err)
	}
	within := Policy{Within: 72 * time.Hour}
	ahead := now.Add(365 * 24 * time.Hour)
	if err := Guard(within, Apply(within, items, ahead, nil), ahead, nil, false); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("a clock that is a year ahead: %v, want it refused", err)
	}
}
