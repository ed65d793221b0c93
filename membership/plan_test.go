package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
	"etcd-steward/membership/quorum"
)

// shape is a cluster as a test wants it.
type shape struct {
	members  int
	learner  bool // the last one
	up       int  // bits
	nameless int  // bits: never started
	version  string
}

func (s shape) String() string {
	return fmt.Sprintf("%d members (learner %v), up %0*b, never started %b, etcd %s", s.members, s.learner, s.members, s.up, s.nameless, s.version)
}

// view is what such a cluster would answer: who is up follows the first voter that is up, if that has a majority.
func (s shape) view() *probe.View {
	v := &probe.View{At: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	var all []probe.Member
	voters, up, leader := 0, 0, uint64(0)
	for i := range s.members {
		m := probe.Member{
			ID: uint64(0xa0 + i), Name: fmt.Sprintf("m%d", i), PeerURLs: []string{fmt.Sprintf("https://10.0.0.%d:2380", i+1)},
			ClientURLs: []string{fmt.Sprintf("https://10.0.0.%d:2379", i+1)}, Learner: s.learner && i == s.members-1,
		}
		if s.nameless>>i&1 == 1 {
			m.Name, m.ClientURLs = "", nil
		}
		if !m.Learner {
			voters++
			if s.isUp(i) {
				up++
				if leader == 0 {
					leader = m.ID
				}
			}
		}
		all = append(all, m)
	}
	if up < quorum.Of(voters) {
		leader = 0
	}
	for i, m := range all {
		a := probe.Answer{Endpoint: fmt.Sprintf("https://10.0.0.%d:2379", i+1)}
		if !s.isUp(i) {
			a.Err = errors.New("connection refused")
		} else {
			a.ClusterID, a.MemberID, a.Version, a.Leader, a.Learner, a.Term, a.Index, a.Applied, a.Revision = 0xc1, m.ID, s.version, leader, m.Learner, 7, 1000, 1000, 500
			a.Quorum, a.Members = leader != 0 && !m.Learner, all
		}
		v.Answers = append(v.Answers, a)
	}
	return v
}

func (s shape) isUp(i int) bool { return s.up>>i&1 == 1 && s.nameless>>i&1 == 0 }

// everyShape calls f with every cluster of up to 7 members: with and without a learner, every pattern of who is up, all started or one that never was, before and
// after etcd relaxed its rules.
func everyShape(f func(shape)) {
	for n := 1; n <= 7; n++ {
		for _, learner := range []bool{false, true} {
			if learner && n == 1 {
				continue
			}
			for up := 1; up < 1<<n; up++ {
				for _, nameless := range []int{0, 1, 1 << (n - 1)} {
					for _, version := range []string{"3.5.29", "3.6.16"} {
						if s := (shape{n, learner, up, nameless, version}); up&^nameless != 0 {
							f(s)
						}
					}
				}
			}
		}
	}
}

// wants are all that a person may ask of a cluster.
func wants(o Origin, c *Cluster, s shape) map[string]func() (plan.Plan, error) {
	all := map[string]func() (plan.Plan, error){
		"add": func() (plan.Plan, error) { return o.add(c, Newcomer{Name: "new", PeerURL: "https://10.0.0.99:2380"}) },
		"add a voter": func() (plan.Plan, error) {
			return o.add(c, Newcomer{Name: "new", PeerURL: "https://10.0.0.99:2380", Voter: true})
		},
	}
	for i := range s.members {
		id, url := fmt.Sprintf("%x", 0xa0+i), fmt.Sprintf("https://10.0.1.%d:2380", i+1)
		all["remove "+id] = func() (plan.Plan, error) { return o.remove(c, id) }
		all["replace "+id] = func() (plan.Plan, error) { return o.replace(c, Replacement{Who: id, Name: "again"}) }
		all["replace elsewhere "+id] = func() (plan.Plan, error) { return o.replace(c, Replacement{Who: id, Name: "again", PeerURL: url}) }
		all["promote "+id] = func() (plan.Plan, error) { return o.promote(c, id) }
		all["update "+id] = func() (plan.Plan, error) { return o.update(c, id, []string{url}, false) }
	}
	return all
}

// walk executes a plan on a model of its own, and returns the first state in which a majority of the voters is not up.
func walk(t *testing.T, s shape, p *plan.Plan) error {
	t.Helper()
	type member struct{ voter, up bool }
	members := map[ID]*member{}
	for i := range s.members {
		members[ID(0xa0+i)] = &member{voter: !s.learner || i < s.members-1, up: s.isUp(i)}
	}
	var b Basis
	if err := json.Unmarshal(p.Basis, &b); err != nil {
		t.Fatal(err)
	}
	const added = ID(1)
	for _, step := range p.Order() {
		switch step.Action {
		case doAdd:
			members[added] = &member{voter: b.Adds.Voter}
		case doStarted:
			members[added].up = true
		case doPromote:
			if b.Adds != nil {
				members[added].voter = true
			} else {
				members[b.Promotes].voter = true
			}
		case doRemove:
			delete(members, b.Removes)
		case doStopOld:
			members[b.Removes].up = false
		}
		voters, up := 0, 0
		for _, m := range members {
			if m.voter {
				voters++
				if m.up {
					up++
				}
			}
		}
		if up <= voters/2 {
			return fmt.Errorf("after %s %d of %d voters are up", step.Name, up, voters)
		}
	}
	return nil
}

// TestPlansKeepQuorum: whatever the cluster, whoever is up, and whatever is asked, forced or not: no accepted plan comes through a state in which the cluster
// cannot commit, every accepted one is a plan that the engine takes and that is not outdated at once, and every refusal has a code, a rule and a safe way.
func TestPlansKeepQuorum(t *testing.T) {
	accepted, refused := map[string]int{}, 0
	everyShape(func(s shape) {
		for _, force := range []string{"", "because the test says so"} {
			o := Origin{View: s.view(), Host: "here", Force: force}
			c, err := Read(o.View)
			if err != nil {
				t.Fatal(err)
			}
			for name, make := range wants(o, c, s) {
				p, err := make()
				if err != nil {
					if code := fail.ExitCode(err); code != fail.Unsafe && code != fail.Usage && code != fail.Failed || fail.HintOf(err) == "" {
						t.Fatalf("%v: %s: exit code %d, hint %q: %v", s, name, code, fail.HintOf(err), err)
					}
					refused++
					continue
				}
				accepted[strings.Fields(name)[0]]++
				sealed, err := plan.New(p)
				if err != nil {
					t.Fatalf("%v: %s: %v", s, name, err)
				}
				if err := walk(t, s, sealed); err != nil {
					t.Fatalf("%v: %s is accepted: %v", s, name, err)
				}
				if b, err := BasisOf(*sealed); err != nil || b.Outdated(c.ID, c.specs()) != nil {
					t.Fatalf("%v: %s: the plan is outdated at once (%v)", s, name, err)
				}
			}
		}
	})
	for _, what := range []string{"add", "remove", "replace", "promote", "update"} {
		if accepted[what] < 20 {
			t.Errorf("only %d plans to %s were accepted", accepted[what], what)
		}
	}
	if refused < 1000 {
		t.Errorf("only %d plans were refused", refused)
	}
}

// TestDeadIsRemoved: whenever there is a quorum without it, and etcd would do it, a dead member may be removed without force where it is the only one that is dead.
func TestDeadIsRemoved(t *testing.T) {
	for n := 2; n <= 7; n++ {
		for dead := range n {
			s := shape{members: n, up: (1<<n - 1) &^ (1 << dead), version: "3.6.16"}
			_, err := Origin{View: s.view()}.Remove(fmt.Sprintf("m%d", dead))
			if want := n > 2; (err == nil) != want {
				t.Errorf("%v: %v", s, err)
			}
			_, err = Origin{View: s.view()}.Replace(Replacement{Who: fmt.Sprintf("m%d", dead)})
			if want := n > 2; (err == nil) != want {
				t.Errorf("%v: %v", s, err)
			}
		}
	}
}

// TestPlanShown: what a person sees of the plan that replaces one of three dead masters.
func TestPlanShown(t *testing.T) {
	p, err := Origin{View: shape{members: 3, up: 0b011, version: "3.6.16"}.view()}.Replace(Replacement{Who: "m2"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Steps {
		got = append(got, fmt.Sprintf("%s %s [%s]", s.Party, s.Action, s.State))
	}
	want := `m2 stop-replaced []
m2 check-machine []
operator backup []
operator confirm-dead []
operator remove-member [2 voters, 2 up, quorum 2, 0 may fail]
operator wait-gone []
operator add-member [2 voters, 2 up, quorum 2, 1 learners, 0 may fail]
m2 configure []
m2 start []
m2 wait-started [2 voters, 2 up, quorum 2, 1 learners, 0 may fail]
operator catch-up []
operator promote [3 voters, 3 up, quorum 2, 1 may fail]
operator verify []
operator repoint-kubernetes []`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
	two, err := Origin{View: shape{members: 1, up: 1, version: "3.6.16"}.view()}.Add(Newcomer{Name: "m1", PeerURL: "https://10.0.0.2:2380"})
	if err != nil || !strings.Contains(strings.Join(two.Warnings, "\n"), "two voters") {
		t.Errorf("a second member: %v, warnings %q", err, two.Warnings)
	}
}

// wantRefused checks an error's code, words and hint.
func wantRefused(t *testing.T, name string, err error, code fail.Code, words, hint string) {
	t.Helper()
	if err == nil || fail.ExitCode(err) != code || !strings.Contains(err.Error(), words) || !strings.Contains(fail.HintOf(err), hint) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: exit code %d, %v, hint %q; want %d, %q, %q", name, fail.ExitCode(err), err, fail.HintOf(err), code, words, hint)
	}
}

// TestBadInput: each mistake has its sentence, its hint and its code.
func TestBadInput(t *testing.T) {
	three := shape{members: 3, up: 0b111, version: "3.6.16"}
	o := Origin{View: three.view(), Lookup: func(host string) ([]string, error) {
		if host == "m0.example" {
			return []string{"10.0.0.1"}, nil
		}
		return nil, &net.DNSError{IsNotFound: true, Name: host}
	}}
	add := func(name, url string) error { _, err := o.Add(Newcomer{Name: name, PeerURL: url}); return err }
	remove := func(who string) error { _, err := o.Remove(who); return err }
	for name, tc := range map[string]struct {
		err         error
		code        fail.Code
		words, hint string
	}{
		"no URL":             {add("m3", "10.0.0.9:2380"), fail.Usage, "is no peer URL", "https://ADDRESS:2380"},
		"a path":             {add("m3", "https://10.0.0.9:2380/x"), fail.Usage, "is no peer URL", "https://ADDRESS:2380"},
		"wrong scheme":       {add("m3", "ftp://10.0.0.9:2380"), fail.Usage, "is no peer URL", "https://ADDRESS:2380"},
		"the other scheme":   {add("m3", "http://10.0.0.9:2380"), fail.Unsafe, "talk https", "https://"},
		"no port":            {add("m3", "https://10.0.0.9"), fail.Usage, "no valid port", "2380"},
		"port 0":             {add("m3", "https://10.0.0.9:0"), fail.Usage, "no valid port", "2380"},
		"any address":        {add("m3", "https://0.0.0.0:2380"), fail.Usage, "every address", "reach"},
		"loopback":           {add("m3", "https://127.0.0.1:2380"), fail.Unsafe, "loopback", "reach"},
		"unknown host":       {add("m3", "https://nowhere.example:2380"), fail.Usage, "does not resolve", "address"},
		"peer URL taken":     {add("m3", "https://10.0.0.2:2380"), fail.Unsafe, "peer URL of m1", "member replace"},
		"taken by a name":    {add("m3", "https://m0.example:2380"), fail.Unsafe, "peer URL of m0", "member replace"},
		"a client URL":       {add("m3", "https://10.0.0.2:2379"), fail.Unsafe, "client URL of m1", "2380"},
		"name taken":         {add("m1", "https://10.0.0.9:2380"), fail.Unsafe, "named m1 already", "another name"},
		"no name":            {add("", "https://10.0.0.9:2380"), fail.Usage, "no name", "host name"},
		"a name with commas": {add("a,b", "https://10.0.0.9:2380"), fail.Usage, "no name", "host name"},
		"our own name":       {add("operator", "https://10.0.0.9:2380"), fail.Usage, "this machine", "host name"},
		"unknown member":     {remove("m9"), fail.Usage, "no member", "member list"},
		"empty member":       {remove(""), fail.Usage, "no member", "member list"},
		"three to two":       {remove("m1"), fail.Unsafe, "none may fail", "--force"},
	} {
		wantRefused(t, name, tc.err, tc.code, tc.words, tc.hint)
	}
	twins := three.view()
	for i := range twins.Answers {
		twins.Answers[i].Members = slices.Clone(twins.Answers[i].Members)
		twins.Answers[i].Members[1].Name = "m0"
	}
	_, err := Origin{View: twins}.Remove("m0")
	wantRefused(t, "twins", err, fail.Usage, "may be any of m0 (ID 00000000000000a0, https://10.0.0.1:2380), m0 (ID 00000000000000a1, https://10.0.0.2:2380)", "by its ID")
}
