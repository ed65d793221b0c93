package repo

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// TestMergeRanges: whatever is checked in whatever order, of each revision the marks say what its last checks of each kind did.
func TestMergeRanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	levels := []string{LevelBytes, LevelContent, LevelRebuilt, LevelProven}
	type kind struct {
		level string
		ok    bool
	}
	for range 200 {
		var marks []VerifiedRange
		model := map[Revision]map[kind]time.Time{}
		for i := range 30 {
			c := VerifiedRange{First: Revision(1 + rng.IntN(40)), Level: levels[rng.IntN(4)], OK: rng.IntN(3) > 0, At: time.Unix(int64(i), 0), Host: "h"}
			c.Last = c.First + Revision(rng.IntN(20))
			if !c.OK {
				c.Problem = "bad"
			}
			marks = MergeRanges(marks, []VerifiedRange{c})
			for r := c.First; r <= c.Last; r++ {
				if model[r] == nil {
					model[r] = map[kind]time.Time{}
				}
				for k := range model[r] {
					if c.OK && !k.ok && rangeRank(k.level) <= rangeRank(c.Level) || !c.OK && k.ok && rangeRank(k.level) >= rangeRank(c.Level) {
						delete(model[r], k)
					}
				}
				model[r][kind{c.Level, c.OK}] = c.At
			}
		}
		strongest := Strongest(marks)
		for i := 1; i < len(strongest); i++ {
			if strongest[i].First <= strongest[i-1].Last {
				t.Fatalf("they overlap: %+v", strongest)
			}
		}
		for r := Revision(1); r < 62; r++ {
			var want VerifiedRange
			for _, ok := range []bool{true, false} { // a finding goes before every proof
				for _, level := range levels {
					if at, known := model[r][kind{level, ok}]; known {
						want = VerifiedRange{Level: level, OK: ok, At: at}
					}
				}
			}
			i := slices.IndexFunc(strongest, func(v VerifiedRange) bool { return v.First <= r && r <= v.Last })
			got := VerifiedRange{}
			if i >= 0 {
				got = strongest[i]
			}
			if got.Level != want.Level || got.OK != want.OK || !got.At.Equal(want.At) {
				t.Fatalf("revision %d: got %+v, want %+v of %+v", r, got, want, marks)
			}
		}
	}
}

// TestVerifiedRanges: marks are kept and merged in the store; one that is damaged is as good as none, and is replaced by the next.
func TestVerifiedRanges(t *testing.T) {
	st, dir := fileStore(t)
	r := openRepo(t, st)
	line := Timeline{Cluster: 0xc1, Cut: 1}
	at := time.Now().UTC().Truncate(time.Millisecond)
	put := func(v ...VerifiedRange) {
		t.Helper()
		for i := range v {
			v[i].At, v[i].Host = at, "h"
		}
		if err := r.PutVerifiedRanges(t.Context(), line, 5, v); err != nil {
			t.Fatal(err)
		}
	}
	want := func(all ...VerifiedRange) {
		t.Helper()
		got, err := r.VerifiedRanges(t.Context(), line)
		if err != nil || !slices.EqualFunc(got, all, func(a, b VerifiedRange) bool {
			return a.First == b.First && a.Last == b.Last && a.Level == b.Level && a.OK == b.OK && a.At.Equal(at)
		}) {
			t.Fatalf("got %+v, %v, want %+v", got, err, all)
		}
	}
	want()
	put(VerifiedRange{First: 1, Last: 4, Level: LevelContent, OK: true}, VerifiedRange{First: 5, Last: 20, Level: LevelContent, OK: true})
	want(VerifiedRange{First: 5, Last: 20, Level: LevelContent, OK: true}) // what cannot be restored any more is forgotten
	put(VerifiedRange{First: 11, Last: 15, Level: LevelProven, OK: true}, VerifiedRange{First: 16, Last: 18, Level: LevelRebuilt, Problem: "not equal"})
	all := []VerifiedRange{
		{First: 5, Last: 10, Level: LevelContent, OK: true},
		{First: 11, Last: 15, Level: LevelProven, OK: true},
		{First: 16, Last: 18, Level: LevelRebuilt},
		{First: 19, Last: 20, Level: LevelContent, OK: true},
	}
	want(all...)
	if c, err := r.Catalog(t.Context()); err != nil || !slices.Equal(c.VerifiedChanges, []Timeline{line}) || len(c.Strange) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	path := dir + "/main/" + verifiedRangesKey(line)
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc[len(doc)/2] ^= 1
	if err := errors.Join(os.Remove(path), os.WriteFile(path, doc, 0o600)); err != nil {
		t.Fatal(err)
	}
	want()
	put(VerifiedRange{First: 7, Last: 7, Level: LevelBytes, OK: true})
	want(VerifiedRange{First: 7, Last: 7, Level: LevelBytes, OK: true})
	for _, bad := range []VerifiedRange{
		{First: 0, Last: 1, Level: LevelBytes, OK: true, At: at},
		{First: 2, Last: 1, Level: LevelBytes, OK: true, At: at},
		{First: 1, Last: 1, Level: "x", OK: true, At: at},
		{First: 1, Last: 1, Level: LevelBytes, At: at},
		{First: 1, Last: 1, Level: LevelBytes, OK: true},
	} {
		if err := r.PutVerifiedRanges(t.Context(), line, 0, []VerifiedRange{bad}); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
}
