package probe

import "testing"

// TestMoving: what will have passed in a moment is told from what stays.
func TestMoving(t *testing.T) {
	alone := func(a *Answer) { a.Quorum, a.Leader = false, 0 }
	for name, c := range map[string]struct {
		answers []Answer
		want    bool
	}{
		"all agree":                    {[]Answer{says(1, 1, 1, 2, 3), says(2, 1, 1, 2, 3)}, false},
		"nobody answers":               {nil, false},
		"one has not applied a change": {[]Answer{says(1, 1, 1, 2, 3), says(3, 1, 1, 2, 3), says(2, 1, 1, 2)}, true},
		"one follows the old leader":   {[]Answer{says(1, 1, 1, 2, 3), says(3, 1, 1, 2, 3), says(2, 2, 1, 2, 3)}, true},
		"a removed one sleeps":         {[]Answer{says(1, 1, 1, 2), says(2, 1, 1, 2), says(3, 0, 1, 2, 3).with(alone)}, false},
		"another cluster":              {[]Answer{says(1, 1, 1, 2), says(2, 1, 1, 2), says(9, 9, 9).with(func(a *Answer) { a.ClusterID = 8 })}, false},
	} {
		if got := (&View{Answers: c.answers}).moving(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
