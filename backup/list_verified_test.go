package backup

import (
	"slices"
	"testing"

	"etcd-steward/backup/repo"
)

// TestReaches: a level reaches as far as every revision that a segment holds was verified so far; what only snapshots hold does not hinder.
func TestReaches(t *testing.T) {
	mark := func(first, last repo.Revision, level string) repo.VerifiedRange {
		return repo.VerifiedRange{First: first, Last: last, Level: level, OK: true}
	}
	runs := []span{{11, 50}, {61, 90}}
	for name, c := range map[string]struct {
		marks []repo.VerifiedRange
		w     span
		want  []VerifiedReach
	}{
		"nothing":    {nil, span{5, 90}, nil},
		"all of one": {[]repo.VerifiedRange{mark(11, 50, repo.LevelContent), mark(61, 90, repo.LevelContent)}, span{5, 90}, []VerifiedReach{{repo.LevelContent, 90}}},
		"a tail":     {[]repo.VerifiedRange{mark(11, 50, repo.LevelProven), mark(61, 80, repo.LevelContent)}, span{5, 90}, []VerifiedReach{{repo.LevelProven, 50}, {repo.LevelContent, 80}}},
		"weaker in between": {
			[]repo.VerifiedRange{mark(11, 20, repo.LevelProven), mark(21, 30, repo.LevelRebuilt), mark(31, 50, repo.LevelProven)},
			span{5, 50},
			[]VerifiedReach{{repo.LevelProven, 20}, {repo.LevelRebuilt, 50}},
		},
		"not the beginning": {[]repo.VerifiedRange{mark(12, 90, repo.LevelProven)}, span{5, 90}, nil},
		"from the middle":   {[]repo.VerifiedRange{mark(12, 50, repo.LevelProven)}, span{12, 50}, []VerifiedReach{{repo.LevelProven, 50}}},
		"a finding": {
			[]repo.VerifiedRange{mark(11, 20, repo.LevelProven), {First: 21, Last: 50, Level: repo.LevelRebuilt, Problem: "x"}},
			span{5, 90},
			[]VerifiedReach{{repo.LevelProven, 20}},
		},
	} {
		if got := reaches(within(c.marks, c.w), runs, c.w); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
