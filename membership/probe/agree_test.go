package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func members(ids ...uint64) (all []Member) {
	for _, id := range ids {
		all = append(all, Member{ID: id, Name: fmt.Sprint("m", id), PeerURLs: []string{fmt.Sprintf("http://h%d:2380", id)}})
	}
	return all
}

// says is an answer of a member that has a quorum.
func says(id, leader uint64, list ...uint64) Answer {
	return Answer{Endpoint: fmt.Sprintf("http://h%d:2379", id), ClusterID: 7, MemberID: id, Leader: leader, Applied: 10, Quorum: true, Members: members(list...), Version: "3.6.16"}
}

func (a Answer) with(change func(a *Answer)) Answer {
	change(&a)
	return a
}

// TestAgreed: what most of those with a quorum believe, and who believes something else.
func TestAgreed(t *testing.T) {
	alone := func(a *Answer) { a.Quorum, a.Leader = false, 0 }
	other := func(a *Answer) { a.ClusterID = 8 }
	for name, c := range map[string]struct {
		answers []Answer
		cluster uint64
		members string
		leader  uint64
		quorum  bool
		dissent string
	}{
		"all agree":                      {[]Answer{says(1, 1, 1, 2, 3), says(2, 1, 3, 2, 1), says(3, 1, 1, 2, 3)}, 7, "1 2 3", 1, true, ""},
		"nobody":                         {nil, 0, "", 0, false, ""},
		"one was removed and sleeps":     {[]Answer{says(1, 1, 1, 2, 4), says(2, 1, 1, 2, 4), says(3, 0, 1, 2, 3).with(alone)}, 7, "1 2 4", 1, true, "3 members, 3 leader"},
		"the one with a quorum counts":   {[]Answer{says(1, 1, 1, 2, 3), says(2, 0, 1, 2).with(alone), says(3, 0, 1, 2).with(alone)}, 7, "1 2 3", 1, true, "2 members, 2 leader, 3 members, 3 leader"},
		"no quorum: most":                {[]Answer{says(1, 0, 1, 2, 3).with(alone), says(2, 0, 1, 2).with(alone), says(3, 0, 1, 2, 3).with(alone)}, 7, "1 2 3", 0, false, "2 members"},
		"a tie goes to who applied most": {[]Answer{says(1, 1, 1, 2), says(2, 1, 1, 2, 3).with(func(a *Answer) { a.Applied = 11 })}, 7, "1 2 3", 1, true, "1 members"},
		"two clusters":                   {[]Answer{says(1, 1, 1, 2, 3), says(2, 1, 1, 2, 3), says(9, 9, 9).with(other)}, 7, "1 2 3", 1, true, "9 cluster"},
		"a learner tells no list":        {[]Answer{says(1, 1, 1, 2), says(2, 1, 1, 2), says(5, 1).with(func(a *Answer) { a.Learner, a.Quorum, a.Members = true, false, nil })}, 7, "1 2", 1, true, ""},
		"two leaders":                    {[]Answer{says(1, 1, 1, 2, 3), says(2, 1, 1, 2, 3), says(3, 3, 1, 2, 3)}, 7, "1 2 3", 1, true, "3 leader"},
		"a member at two endpoints votes once": {
			[]Answer{says(1, 1, 1, 2), says(1, 1, 1, 2).with(func(a *Answer) { a.Endpoint = "http://localhost:2379" }), says(2, 1, 1, 2, 3).with(func(a *Answer) { a.Applied = 11 })},
			7, "1 2 3", 1, true, "1 members",
		},
		"silent ones say nothing": {[]Answer{says(1, 1, 1, 2), says(2, 2, 1).with(func(a *Answer) { a.Err = errors.New("x") })}, 7, "1 2", 1, true, ""},
	} {
		v := &View{Answers: c.answers}
		a := v.Agreed()
		var ids, dissent []string
		for _, m := range a.Members {
			ids = append(ids, fmt.Sprint(m.ID))
		}
		for _, d := range a.Dissent {
			dissent = append(dissent, fmt.Sprint(d.Member, " ", d.About))
		}
		if a.ClusterID != c.cluster || strings.Join(ids, " ") != c.members || a.Leader != c.leader || a.Quorum != c.quorum || strings.Join(dissent, ", ") != c.dissent {
			t.Errorf("%s: got cluster %d, members %v, leader %d, quorum %v, dissent %q", name, a.ClusterID, ids, a.Leader, a.Quorum, dissent)
		}
	}
}

// TestCluster: who answers and follows the agreed leader is up, and the oldest server's rules hold.
func TestCluster(t *testing.T) {
	v := &View{Answers: []Answer{says(1, 1, 1, 2, 3, 4), says(2, 1, 1, 2, 3, 4).with(func(a *Answer) { a.Version = "3.5.29" }), says(3, 0, 1, 2, 3, 4).with(func(a *Answer) { a.Quorum = false })}}
	c := v.Cluster()
	up := ""
	for _, m := range c.Members {
		if m.Up {
			up += m.Name
		}
	}
	if up != "m1m2" || !c.Rules.AddNeedsAll || c.State().Voters != 4 || c.State().Tolerates() != -1 {
		t.Errorf("got %+v", c)
	}
	if c := (&View{}).Cluster(); !c.Rules.AddNeedsAll || !c.Rules.UpdatePromotes || len(c.Members) != 0 {
		t.Errorf("of nobody: %+v", c)
	}
}

// TestAgreedAny: whatever the answers, everything that is agreed on was said, and the order of the answers makes no difference.
func TestAgreedAny(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STEWARD_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("STEWARD_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		v := &View{}
		for id := range uint64(rng.IntN(6)) {
			var list []uint64
			for m := range uint64(5) {
				if rng.IntN(4) > 0 {
					list = append(list, m)
				}
			}
			v.Answers = append(v.Answers, says(id, rng.Uint64N(3), list...).with(func(a *Answer) {
				a.Quorum, a.ClusterID, a.Applied = rng.IntN(3) > 0, 7+rng.Uint64N(2), rng.Uint64N(4)
				if rng.IntN(5) == 0 {
					a.Err = errors.New("x")
				}
				if rng.IntN(5) == 0 {
					a.Members = nil
				}
			}))
		}
		a := v.Agreed()
		said := false
		for _, ans := range v.Answers {
			said = said || ans.Err == nil && ans.ClusterID == a.ClusterID && ans.Members != nil && listKey(ans.Members) == listKey(a.Members)
		}
		if a.Members != nil && !said {
			t.Fatalf("nobody said %+v: %+v", a.Members, v.Answers)
		}
		shuffled := &View{Answers: append([]Answer{}, v.Answers...)}
		rng.Shuffle(len(shuffled.Answers), func(i, j int) {
			shuffled.Answers[i], shuffled.Answers[j] = shuffled.Answers[j], shuffled.Answers[i]
		})
		b := shuffled.Agreed()
		if a.ClusterID != b.ClusterID || listKey(a.Members) != listKey(b.Members) || a.Leader != b.Leader || len(a.Dissent) != len(b.Dissent) {
			t.Fatalf("got %+v, and in another order %+v", a, b)
		}
		v.Cluster()
	}
}
