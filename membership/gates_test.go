package membership

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// TestGates: each precondition of section A, alone, refuses an addition, with the rule, the evidence and the way; and may be forced where the procedures allow it.
func TestGates(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil       func(*probe.View)
		words, hint string
		force       bool
	}{
		"other members":  {func(v *probe.View) { v.Answers[2].Members = v.Answers[2].Members[:2] }, "it knows other members", "caught up", false},
		"another leader": {func(v *probe.View) { v.Answers[2].Leader = 0xa2 }, "it follows m2, the others m0", "election", false},
		"no leader":      {func(v *probe.View) { each(v, func(a *probe.Answer) { a.Leader, a.Quorum = 0, false }) }, "no member knows one", "elect", false},
		"NOSPACE":        {func(v *probe.View) { v.Answers[0].Alarms = []probe.Alarm{{Member: 0xa1, Kind: "NOSPACE"}} }, "NOSPACE of member 00000000000000a1", "health", true},
		"CORRUPT":        {func(v *probe.View) { v.Answers[0].Alarms = []probe.Alarm{{Member: 0xa1, Kind: "CORRUPT"}} }, "CORRUPT of member 00000000000000a1", "replace that member", false},
		"not applied":    {func(v *probe.View) { v.Answers[1].Applied = 900 }, "m1 (ID 00000000000000a1, https://10.0.0.2:2380) lacks 100", "caught up", true},
		"far behind":     {func(v *probe.View) { v.Answers[0].Index, v.Answers[0].Applied = 9000, 9000 }, "entries behind", "caught up", true},
		"an error":       {func(v *probe.View) { v.Answers[1].Errors = []string{"disk on fire"} }, "disk on fire", "health", true},
		"mid-upgrade":    {func(v *probe.View) { v.Answers[1].Version = "3.7.3" }, "3.6 and 3.7 run side by side", "upgrade", true},
		"different data": {func(v *probe.View) { hash(v, 1, 1, 2) }, "00000001, m2", "steward health", false},
		"rights":         {func(v *probe.View) { v.Answers[1].AuthRefused = true }, "m1 (ID 00000000000000a1, https://10.0.0.2:2380) refuses", "root", false},
		"a voter that is dead": {func(v *probe.View) {
			v.Answers[2] = probe.Answer{Endpoint: v.Answers[2].Endpoint, Err: fmt.Errorf("gone")}
		}, "m2 (ID 00000000000000a2, https://10.0.0.3:2380) does not", "member remove 00000000000000a2", false},
	} {
		v := shape{members: 3, up: 0b111, version: "3.6.16"}.view()
		tc.spoil(v)
		add := func(force string) (plan.Plan, error) {
			return Origin{View: v, Force: force}.Add(Newcomer{Name: "m3", PeerURL: "https://10.0.0.9:2380"})
		}
		_, err := add("")
		wantRefused(t, name, err, fail.Unsafe, tc.words, tc.hint)
		if offered := strings.Contains(fail.HintOf(err), "--force"); offered != tc.force {
			t.Errorf("%s: the hint is %q, and it may be forced: %v", name, fail.HintOf(err), tc.force)
		}
		p, err := add("the test says so")
		if (err == nil) != tc.force {
			t.Errorf("%s, forced: %v", name, err)
		}
		if err == nil && !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.HasPrefix(w, "forced (the test says so)") }) {
			t.Errorf("%s: the reason is not in the plan: %q", name, p.Warnings)
		}
	}
	v := shape{members: 3, up: 0b111, version: "3.6.16"}.view()
	_, err := Origin{View: v, LedSince: 20 * time.Second}.Add(Newcomer{Name: "m3", PeerURL: "https://10.0.0.9:2380"})
	wantRefused(t, "a new leader", err, fail.Unsafe, "changed 20s ago", "wait a minute")
}

func each(v *probe.View, f func(*probe.Answer)) {
	for i := range v.Answers {
		f(&v.Answers[i])
	}
}

func hash(v *probe.View, sums ...uint32) {
	for i, s := range sums {
		v.Answers[i].Hash = &probe.Hash{Revision: 500, Compact: 1, Sum: s}
	}
}

// TestOddOneGoes: what is wrong with a member alone does not keep it in the cluster.
func TestOddOneGoes(t *testing.T) {
	for name, spoil := range map[string]func(*probe.View){
		"its alarm":   func(v *probe.View) { v.Answers[0].Alarms = []probe.Alarm{{Member: 0xa2, Kind: "CORRUPT"}} },
		"its data":    func(v *probe.View) { hash(v, 1, 1, 2) },
		"its lag":     func(v *probe.View) { v.Answers[2].Applied = 1 },
		"its members": func(v *probe.View) { v.Answers[2].Members = v.Answers[2].Members[:2] },
		"its leader":  func(v *probe.View) { v.Answers[2].Leader = 0 },
		"its version": func(v *probe.View) { v.Answers[2].Version = "3.5.30" },
	} {
		v := shape{members: 4, up: 0b1111, version: "3.6.16"}.view()
		spoil(v)
		if _, err := (Origin{View: v, Force: "it is sick"}).Replace(Replacement{Who: "m2"}); err != nil {
			t.Errorf("%s: replace: %v", name, err)
		}
		if _, err := (Origin{View: v}).Remove("m2"); err != nil {
			t.Errorf("%s: remove: %v", name, err)
		}
	}
}

// TestOutdated: what others changed since makes a plan outdated; what it changed itself does not.
func TestOutdated(t *testing.T) {
	v := shape{members: 3, up: 0b011, version: "3.6.16"}.view()
	p, err := Origin{View: v}.Replace(Replacement{Who: "m2", PeerURL: "https://10.0.0.9:2380"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := BasisOf(p)
	if err != nil {
		t.Fatal(err)
	}
	m := b.Members
	added := Spec{ID: 0xb, PeerURLs: []string{"https://10.0.0.9:2380"}, Learner: true}
	named, voter := added, added
	named.Name, voter.Name, voter.Learner = "m2", "m2", false
	renamed, moved, foreign, demoted := m[0], m[0], added, m[0]
	renamed.Name, moved.PeerURLs, foreign.Name, demoted.Learner = "other", []string{"https://10.0.0.7:2380"}, "someone", true
	for name, tc := range map[string]struct {
		now  []Spec
		want string // "" is not outdated
	}{
		"as it was":             {m, ""},
		"removed by the plan":   {m[:2], ""},
		"added":                 {append(slices.Clone(m[:2]), added), ""},
		"started":               {append(slices.Clone(m[:2]), named), ""},
		"promoted":              {append(slices.Clone(m[:2]), voter), ""},
		"another was removed":   {m[1:], "m0 (ID 00000000000000a0, https://10.0.0.1:2380) was removed"},
		"another was added":     {append(slices.Clone(m), Spec{ID: 0xc, PeerURLs: []string{"https://10.0.0.8:2380"}}), "was added"},
		"our URL, another name": {append(slices.Clone(m), foreign), "someone (ID 000000000000000b, https://10.0.0.9:2380) was added"},
		"another was moved":     {[]Spec{moved, m[1], m[2]}, "has the peer URL https://10.0.0.7:2380 now"},
		"another was renamed":   {[]Spec{renamed, m[1], m[2]}, "is named other now"},
		"another was demoted":   {[]Spec{demoted, m[1], m[2]}, "is a learner now"},
	} {
		err := b.Outdated(0xc1, tc.now)
		if tc.want == "" && err != nil || tc.want != "" {
			if tc.want == "" {
				t.Errorf("%s: %v", name, err)
			} else {
				wantRefused(t, name, err, fail.Unsafe, tc.want, "make a new one")
			}
		}
	}
	wantRefused(t, "another cluster", b.Outdated(0xc2, m), fail.Unsafe, "the plan is for cluster 00000000000000c1, and this is cluster 00000000000000c2", "endpoints")
}
