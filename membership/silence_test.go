package membership

import (
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// TestWatchFor: the minute counts from when the plan was made, by a clock that nobody sets; on another machine, or after a reboot, it begins anew.
func TestWatchFor(t *testing.T) {
	p := Pace{}.filled()
	now := Moment{Boot: "a", Up: time.Hour}
	at := func(boot string, ago time.Duration) *Moment { return &Moment{Boot: boot, Up: now.Up - ago} }
	for name, x := range map[string]struct {
		silent *Moment
		want   time.Duration
	}{
		"not known":           {nil, time.Minute},
		"just now":            {at("a", 0), time.Minute},
		"20 s ago":            {at("a", 20*time.Second), 40 * time.Second},
		"55 s ago":            {at("a", 55*time.Second), 10 * time.Second},
		"long ago":            {at("a", 30*time.Minute), 10 * time.Second},
		"elsewhere":           {at("b", 30*time.Minute), time.Minute},
		"in the future":       {at("a", -time.Second), time.Minute},
		"no boot":             {at("", 30*time.Minute), time.Minute},
		"the zero value of a": {&Moment{}, time.Minute},
	} {
		if got := (Basis{Silent: x.silent}).watchFor(now, p); got != x.want {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
	if got := (Basis{Silent: &Moment{}}).watchFor(Moment{}, p); got != time.Minute {
		t.Errorf("where no boot is known: %v, want a minute", got)
	}
	if a, b := Now(), Now(); a.Boot == "" || a.Boot != b.Boot || b.Up < a.Up || a.Up <= 0 {
		t.Errorf("this machine's moments are %+v and %+v", a, b)
	}
}

// TestSilent: who is connected with another member that shows it is not silent, whatever is seen from here.
func TestSilent(t *testing.T) {
	with := func(peers map[uint64]bool) *probe.Answer { return &probe.Answer{Metrics: &probe.Metrics{Peers: peers}} }
	for name, x := range map[string]struct {
		own, other *probe.Answer
		want       bool
	}{
		"dead":               {nil, with(nil), true},
		"no metrics":         {nil, &probe.Answer{}, true},
		"answers":            {&probe.Answer{}, with(nil), false},
		"only not from here": {nil, with(map[uint64]bool{2: true}), false},
		"another":            {nil, with(map[uint64]bool{3: true}), true},
	} {
		c := &Cluster{Members: []Member{{Spec: Spec{ID: 1}, Answer: x.other}, {Spec: Spec{ID: 2}, Answer: x.own}}}
		if got := c.silent(c.Members[1]); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// confirm does the step in which a member's death is confirmed, of a plan made of that basis, and says how long it took.
func (r *rig) confirm(p plan.Plan, pace Pace) (time.Duration, error) {
	r.t.Helper()
	sealed, err := plan.New(p)
	if err != nil {
		r.t.Fatal(err)
	}
	s := r.site()
	s.Pace = pace
	begun := time.Now()
	_, err = s.confirmDead(within(r.t, 20*time.Second), &plan.Task{Plan: sealed})
	return time.Since(begun), err
}

// TestDeadSince: a member is watched for what is left of its minute, never shorter because of a clock; and one that comes back after the plan was made is not replaced.
func TestDeadSince(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{Members: 3})
	r.Kill(2)
	pace := hurry
	pace.Dead = 3 * time.Second
	made := r.origin("")
	earlier := made
	earlier.At.Up -= pace.Dead // what a person takes to read the plan
	p, err := earlier.Replace(Replacement{Who: "m2"})
	if err != nil {
		t.Fatal(err)
	}
	took, err := r.confirm(p, pace)
	if err != nil || took >= pace.Dead {
		t.Errorf("it was watched for %v, though it was silent for long before (%v)", took, err)
	}
	wrong := made
	wrong.At = Moment{Boot: "another machine's", Up: made.At.Up - time.Hour}
	v := *made.View
	v.At = v.At.Add(-time.Hour) // the wall clock, on which nothing depends
	wrong.View = &v
	if p, err = wrong.Replace(Replacement{Who: "m2"}); err != nil {
		t.Fatal(err)
	}
	if took, err := r.confirm(p, pace); err != nil || took < pace.Dead {
		t.Errorf("it was watched for %v only (%v)", took, err)
	}
	r.Restart(t, 2)
	r.WaitHealthy(t, 2)
	if _, err = r.confirm(p, pace); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "it is not dead") {
		t.Errorf("a member that came back: %v", err)
	}
}

// TestElectionMeanwhile: after an election since the plan was made, nothing is changed until the leader has led for a while; while it does not stay, it is refused.
func TestElectionMeanwhile(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{Members: 3})
	cli := r.ClientOf(t, 0)
	p, err := r.origin("the test shrinks it").Remove("m2")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := plan.New(p)
	if err != nil {
		t.Fatal(err)
	}
	step, _ := sealed.Step(doRemove)
	elect := func() {
		to := "m0"
		if r.Leader(t) == 0 {
			to = "m1"
		}
		if _, err := r.site().MoveLeader(t.Context(), to, t.Logf); err != nil {
			t.Fatal(err)
		}
	}
	elect()
	s := r.site()
	s.Pace.Calm, s.Pace.Retry = time.Minute, 500*time.Millisecond
	remove := s.Actions()[doRemove].Do
	_, err = remove(t.Context(), &plan.Task{Plan: sealed, Step: step})
	wantRefused(t, "right after an election", err, fail.Unsafe, "the leader changes now", "steward health")
	r.want(cli, "m0", "m1", "m2")
	if _, err = r.site().Actions()[doRemove].Do(t.Context(), &plan.Task{Plan: sealed, Step: step}); err != nil {
		t.Fatal(err)
	}
	r.want(cli, "m0", "m1")
	s.Pace.Calm = time.Hour
	if _, err = s.Actions()[doRemove].Do(t.Context(), &plan.Task{Plan: sealed, Step: step}); err != nil {
		t.Errorf("after a crash behind the removal: %v", err) // it is done: nothing is waited for
	}
}
