package quorum

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// everyCluster calls f with each cluster of up to 7 members: every split into voters and at most one learner, every pattern of who is up and
// who has ever started, under both kinds of rules.
func everyCluster(f func(Cluster)) {
	for n := 1; n <= 7; n++ {
		for learners := 0; learners <= min(1, n-1); learners++ {
			for up := range 1 << n {
				for started := range 1 << n {
					if up&^started != 0 {
						continue // what never started is not up
					}
					for _, all := range []bool{false, true} {
						c := Cluster{Rules: Rules{AddNeedsAll: all}}
						for i := range n {
							m := Member{ID: uint64(i + 1), Up: up>>i&1 == 1, Learner: i >= n-learners}
							if started>>i&1 == 1 {
								m.Name = fmt.Sprint("m", i)
							}
							c.Members = append(c.Members, m)
						}
						f(c)
					}
				}
			}
		}
	}
}

const newID = 99

// plans are all that an operator may want of a cluster: each single step, and each replacement of a member.
func plans(c Cluster) (all [][]Step) {
	join := []Step{{AddLearner, newID, "new"}, {Start, newID, "new"}, {Promote, newID, ""}}
	all = append(all, join, []Step{{AddVoter, newID, "new"}, {Start, newID, "new"}})
	for _, m := range c.Members {
		all = append(all, []Step{{Remove, m.ID, ""}}, []Step{{Promote, m.ID, ""}}, []Step{{Start, m.ID, "again"}})
		all = append(all, []Step{{Stop, m.ID, ""}}, append([]Step{{Stop, m.ID, ""}, {Remove, m.ID, ""}}, join...))
		all = append(all, append([]Step{{Remove, m.ID, ""}}, join...), append(append([]Step{}, join...), Step{Remove, m.ID, ""}))
	}
	return all
}

// TestNoPlanWithoutQuorum: whatever the cluster and the plan, no accepted state is one in which the cluster cannot commit, nothing is accepted that
// etcd would refuse, and the cluster that was given is not changed.
func TestNoPlanWithoutQuorum(t *testing.T) {
	accepted, refused := 0, 0
	everyCluster(func(c Cluster) {
		for _, steps := range plans(c) {
			before := slices.Clone(c.Members)
			states, err := Simulate(c, steps)
			if !slices.Equal(c.Members, before) {
				t.Fatalf("the cluster was changed: %v, was %v", c.Members, before)
			}
			for _, s := range states {
				if !s.State.CanCommit() || s.State.Up > s.State.Voters || s.State.Tolerates() != s.State.Up-(s.State.Voters/2+1) {
					t.Fatalf("%+v: %+v is accepted: %+v", c, steps, s)
				}
			}
			var r *Refusal
			switch {
			case err == nil:
				accepted++
				if len(states) != len(steps) || !c.State().CanCommit() {
					t.Fatalf("%+v: %+v is accepted with %d states", c, steps, len(states))
				}
			case !errors.As(err, &r) || r.Rule == "" || r.Safe == "" || len(states) != max(0, r.Index):
				t.Fatalf("%+v: %+v: %v after %d states", c, steps, err, len(states))
			default:
				refused++
			}
		}
	})
	if accepted < 1000 || refused < 1000 {
		t.Errorf("only %d plans were accepted and %d refused", accepted, refused)
	}
}

// TestNothingSafeIsRefused: a single step that etcd takes and that leaves a quorum is accepted, but for a promotion while another voter is down, of a
// learner that is down, or an addition under a name that is taken.
func TestNothingSafeIsRefused(t *testing.T) {
	n := 0
	everyCluster(func(c Cluster) {
		if !c.State().CanCommit() {
			return
		}
		for _, steps := range plans(c) {
			s := steps[0]
			next := Cluster{Members: append([]Member{}, c.Members...)}
			if s.Kind == Promote && !c.Members[c.index(s.ID)].Learner || c.asks(s) != "" {
				continue
			}
			next.apply(s)
			if !next.State().CanCommit() || s.Kind == Promote && (!c.allUp() || !c.Members[c.index(s.ID)].Up) {
				continue
			}
			n++
			if _, err := Simulate(c, steps[:1]); err != nil {
				t.Fatalf("%+v: %+v: %v", c, s, err)
			}
		}
	})
	if n < 1000 {
		t.Errorf("only %d steps were tried", n)
	}
}

// three is a cluster of three voters, so many of them up.
func three(up int) Cluster {
	var c Cluster
	for i := range 3 {
		c.Members = append(c.Members, Member{ID: uint64(i + 1), Name: fmt.Sprint("m", i+1), Up: i < up})
	}
	return c
}

// TestReplaceDead: remove first, then add: the other order is what etcd refuses of three members.
func TestReplaceDead(t *testing.T) {
	join := []Step{{AddLearner, newID, "m3"}, {Start, newID, "m3"}, {Promote, newID, ""}}
	states, err := Simulate(three(2), append([]Step{{Remove, 3, ""}}, join...))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range states {
		got = append(got, fmt.Sprintf("%s: %s, tolerates %d", s.Step.Kind, s.State, s.State.Tolerates()))
	}
	want := "remove: 2 voters, 2 up, quorum 2, tolerates 0\n" +
		"add as learner: 2 voters, 2 up, quorum 2, 1 learners, tolerates 0\n" +
		"start: 2 voters, 2 up, quorum 2, 1 learners, tolerates 0\n" +
		"promote: 3 voters, 3 up, quorum 2, tolerates 1"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	join[0].Name, join[1].Name = "m4", "m4"
	var r *Refusal
	if _, err := Simulate(three(2), append(join, Step{Remove, 3, ""})); !errors.As(err, &r) || r.Index != 0 || !strings.Contains(r.Rule, "etcd would refuse") {
		t.Errorf("add first: %v, want a refusal of the first step by etcd's own rule", err)
	}
}

// TestRefusals: the classic accidents, each with its reason and the safe way.
func TestRefusals(t *testing.T) {
	single := Cluster{Members: []Member{{ID: 1, Name: "m1", Up: true}}}
	for name, c := range map[string]struct {
		cluster    Cluster
		step       Step
		rule, safe string
	}{
		"no quorum":             {three(1), Step{Remove, 3, ""}, "has no quorum", "recover a survivor"},
		"remove of a live one":  {three(2), Step{Remove, 1, ""}, "too few of the other voters", "bring a member back"},
		"a voter beside one":    {single, Step{AddVoter, newID, "m2"}, "unable to commit", "as a learner"},
		"the last one":          {single, Step{Remove, 1, ""}, "etcd would refuse", "bring a member back"},
		"the same name":         {three(3), Step{AddLearner, newID, "m2"}, "named m2", "another name"},
		"a member that is gone": {three(3), Step{Remove, 77, ""}, "no member 4d", "outdated"},
		"a voter is promoted":   {three(3), Step{Promote, 1, ""}, "voter already", "outdated"},
	} {
		var r *Refusal
		if _, err := Simulate(c.cluster, []Step{c.step}); !errors.As(err, &r) || !strings.Contains(r.Error(), c.rule) || !strings.Contains(r.Safe, c.safe) {
			t.Errorf("%s: %v (%+v), want %q, %q", name, err, r, c.rule, c.safe)
		}
	}
}

func TestRulesOf(t *testing.T) {
	for version, want := range map[string]Rules{
		"3.4.37": {true, true}, "3.5.29": {true, true}, "3.5.30": {false, true}, "3.5.31": {}, "3.6.0": {true, true}, "3.6.10": {true, true}, "3.6.11": {false, true},
		"3.6.12": {}, "3.7.0-rc.0": {}, "3.7.3": {}, "4.0.0": {}, "2.3.8": {true, true},
	} {
		if got, err := RulesOf(version); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", version, got, err, want)
		}
	}
	for _, bad := range []string{"", "3", "3.6", "3.x.1", "v3.6.1", "3.6.-1"} {
		if got, err := RulesOf(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// TestWarnings: what is allowed and fragile says so.
func TestWarnings(t *testing.T) {
	for want, s := range map[string]State{
		"":                       {Voters: 3, Up: 3, Quorum: 2},
		"two voters":             {Voters: 2, Up: 2, Quorum: 2},
		"4 voters tolerate":      {Voters: 4, Up: 4, Quorum: 3},
		"no further voter":       {Voters: 3, Up: 2, Quorum: 2},
		"6 voters tolerate no m": {Voters: 6, Up: 5, Quorum: 4},
	} {
		if got := s.Warning(); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
}
