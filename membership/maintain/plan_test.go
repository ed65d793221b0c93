package maintain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

const mib = 1 << 20

// cluster is a view of so many voters of which nothing is wrong; the first leads.
func cluster(voters int) *probe.View {
	v := &probe.View{}
	var members []probe.Member
	for i := range voters {
		members = append(members, probe.Member{ID: uint64(i + 1), Name: fmt.Sprint("m", i+1), ClientURLs: []string{fmt.Sprint("http://m", i+1, ":2379")}})
	}
	for i := range voters {
		v.Answers = append(v.Answers, probe.Answer{
			Endpoint: members[i].ClientURLs[0], ClusterID: 7, MemberID: uint64(i + 1), Version: "3.6.16", Leader: 1, Term: 2, Index: 1000, Applied: 1000, Revision: 50_000,
			DBSize: 200 * mib, DBInUse: 100 * mib, Quota: 2048 * mib, Quorum: true, Members: members,
		})
	}
	return v
}

func names(d Defrag) (out []string) {
	for _, s := range d.Steps {
		out = append(out, s.Name)
	}
	return out
}

func TestOrder(t *testing.T) {
	v := cluster(5)
	v.Answers[2].DBSize, v.Answers[3].DBSize, v.Answers[0].DBSize = 900*mib, 300*mib, 1000*mib
	v.Answers[4].DBSize = 101 * mib // hardly anything is free
	d := PlanDefrag(v, Rule{})
	if got := names(d); !slices.Equal(got, []string{"m3", "m4", "m2", "m1"}) || !d.MovesLeader || d.Single {
		t.Errorf("%v (%+v)", got, d)
	}
	if len(d.Left) != 1 || d.Left[0].Name != "m5" || !strings.Contains(d.Left[0].Why, "less than 45 %") {
		t.Errorf("left: %+v", d.Left)
	}
	if d := PlanDefrag(v, Rule{All: true}); len(d.Steps) != 5 || !d.Steps[4].Leader {
		t.Errorf("all: %+v", d)
	}
	if d := PlanDefrag(cluster(1), Rule{All: true}); !d.Single || d.MovesLeader {
		t.Errorf("one: %+v", d)
	}
}

func TestRule(t *testing.T) {
	for name, c := range map[string]struct {
		rule Rule
		a    probe.Answer
		want bool
	}{
		"half free":               {Rule{}, probe.Answer{DBSize: 200 * mib, DBInUse: 100 * mib}, true},
		"just enough":             {Rule{}, probe.Answer{DBSize: 100 * mib, DBInUse: 54 * mib}, true},
		"too small":               {Rule{}, probe.Answer{DBSize: 99 * mib, DBInUse: 1 * mib}, false},
		"little free":             {Rule{}, probe.Answer{DBSize: 100 * mib, DBInUse: 56 * mib}, false},
		"near its quota":          {Rule{}, probe.Answer{DBSize: 90 * mib, DBInUse: 80 * mib, Quota: 100 * mib}, true},
		"near it, nothing free":   {Rule{}, probe.Answer{DBSize: 90 * mib, DBInUse: 90 * mib, Quota: 100 * mib}, false},
		"quota unknown":           {Rule{}, probe.Answer{DBSize: 90 * mib, DBInUse: 1 * mib}, false},
		"smaller is asked for":    {Rule{MinSize: 1 * mib}, probe.Answer{DBSize: 9 * mib, DBInUse: 1 * mib}, true},
		"less free is asked for":  {Rule{MinFree: 0.1}, probe.Answer{DBSize: 100 * mib, DBInUse: 85 * mib}, true},
		"all":                     {Rule{All: true}, probe.Answer{DBSize: 1, DBInUse: 1}, true},
		"nonsense is nothing":     {Rule{}, probe.Answer{DBSize: 100 * mib, DBInUse: 900 * mib}, false},
		"nonsense is nothing too": {Rule{}, probe.Answer{DBSize: -1, DBInUse: -9}, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := cluster(1)
			v.Answers[0].DBSize, v.Answers[0].DBInUse, v.Answers[0].Quota = c.a.DBSize, c.a.DBInUse, c.a.Quota
			if d := PlanDefrag(v, c.rule); (len(d.Steps) == 1) != c.want {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestGates: each thing that is wrong closes a gate, and names the way; whether a reason opens it.
func TestGates(t *testing.T) {
	silent := func(v *probe.View, i int) {
		v.Answers[i] = probe.Answer{Endpoint: v.Answers[i].Endpoint, Named: uint64(i + 1), Err: errors.New("no answer")}
	}
	for name, c := range map[string]struct {
		voters int
		wrong  func(v *probe.View)
		rule   string // "" when all gates are open
		force  bool
	}{
		"nothing":    {3, func(*probe.View) {}, "", false},
		"one member": {1, func(*probe.View) {}, "", false},
		"NOSPACE":    {3, func(v *probe.View) { v.Answers[1].Alarms = []probe.Alarm{{Member: 2, Kind: "NOSPACE"}} }, "", false},
		"CORRUPT":    {3, func(v *probe.View) { v.Answers[1].Alarms = []probe.Alarm{{Member: 2, Kind: "CORRUPT"}} }, "corrupt", false},
		"no quorum": {3, func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Quorum = false
			}
		}, "quorum", false},
		"another cluster":          {3, func(v *probe.View) { v.Answers[2].ClusterID = 9 }, "agree", false},
		"another leader":           {3, func(v *probe.View) { v.Answers[2].Leader = 3 }, "agree", false},
		"a silent member of three": {3, func(v *probe.View) { silent(v, 2) }, "answers", true},
		"two members":              {2, func(*probe.View) {}, "goes on without", true},
		"a silent member of five":  {5, func(v *probe.View) { silent(v, 4) }, "answers", true},
		"not applied":              {3, func(v *probe.View) { v.Answers[1].Applied = 900 }, "applied", true},
		"nearly applied":           {3, func(v *probe.View) { v.Answers[1].Applied = 901 }, "", false},
		"far behind":               {3, func(v *probe.View) { v.Answers[0].Index, v.Answers[0].Applied = 7000, 7000 }, "receives the whole database", true},
		"far behind, an old version": {3, func(v *probe.View) {
			v.Answers[0].Index, v.Answers[0].Applied, v.Answers[1].Version = 7000, 7000, "3.6.4"
		}, "receives the whole database", false},
		"an old version by itself": {3, func(v *probe.View) { v.Answers[1].Version = "3.5.22" }, "", false},
		"nobody told of members": {3, func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Members = nil
			}
		}, "known", false},
		"a learner that is silent": {4, func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Members[3].Learner = true
			}
			silent(v, 3)
		}, "receives", true},
		"a learner that has caught up": {4, func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Members[3].Learner = true
			}
		}, "", false},
		"a learner, of an old version": {3, func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Members[2].Learner, v.Answers[i].Version = true, "3.5.22"
			}
		}, "receives", false},
	} {
		t.Run(name, func(t *testing.T) {
			v := cluster(c.voters)
			c.wrong(v)
			gates := GatesOfDefrag(v, PlanDefrag(v, Rule{All: true}), nil)
			if c.rule == "" {
				if len(gates) != 0 {
					t.Errorf("closed: %v", gates)
				}
				return
			}
			if len(gates) == 0 {
				t.Fatal("all are open")
			}
			_, err := Pass(gates, "")
			if !strings.Contains(fmt.Sprint(err), c.rule) || fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" {
				t.Errorf("refused with %v (%d, %q)", err, fail.ExitCode(err), fail.HintOf(err))
			}
			forced, err := Pass(gates, "because")
			if (err == nil) != c.force || c.force && (len(forced) == 0 || !strings.Contains(forced[0], "because")) {
				t.Errorf("forced: %v, %v", forced, err)
			}
		})
	}
}

// TestRooms: a disk that is seen has room for what is in use and a tenth more, or its member is not defragmented, whatever reason is given.
func TestRooms(t *testing.T) {
	v := cluster(3)
	d := PlanDefrag(v, Rule{All: true})
	need := int64(110 * mib)
	for name, c := range map[string]struct {
		rooms  Rooms
		narrow string
		unseen string
	}{
		"none is seen":          {nil, "", "m2 m3 m1"},
		"enough":                {Rooms{1: need, 2: need}, "", "m3"},
		"a byte less":           {Rooms{1: need, 2: need - 1, 3: need}, "m2 has 110.0 MiB free for 100.0 MiB", ""},
		"of another":            {Rooms{9: 0}, "", "m2 m3 m1"},
		"nothing at the leader": {Rooms{1: 0}, "m1 has 0 B free for 100.0 MiB", "m2 m3"},
	} {
		_, err := Pass(GatesOfDefrag(v, d, c.rooms), "because")
		if c.narrow == "" && err != nil || c.narrow != "" && (fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), c.narrow)) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(c.rooms.Unseen(d), " "); got != c.unseen {
			t.Errorf("%s: unseen are %q, want %q", name, got, c.unseen)
		}
	}
}

// TestReasonIsForWhatWasKnown: a reason that was given for one member's absence passes nothing that came later: with a second one away, the
// defragmentation of a third would stop the cluster. And that it would is said, beside who is away.
func TestReasonIsForWhatWasKnown(t *testing.T) {
	v := cluster(5)
	away := func(i int) {
		v.Answers[i] = probe.Answer{Endpoint: v.Answers[i].Endpoint, Named: uint64(i + 1), Err: errors.New("no answer")}
	}
	away(4)
	d := PlanDefrag(v, Rule{All: true})
	then := GatesOfDefrag(v, d, nil)
	if _, err := Pass(then, "m5 is dead"); err != nil {
		t.Fatal(err)
	}
	if _, err := Pass(known(GatesOfDefrag(v, d, nil), then), "m5 is dead"); err != nil {
		t.Errorf("what was known: %v", err)
	}
	away(3)
	_, err := Pass(known(GatesOfDefrag(v, d, nil), then), "m5 is dead")
	if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "m4 does not") || !strings.Contains(err.Error(), "goes on without the member") {
		t.Errorf("a second member is away: %v", err)
	}
	if strings.Contains(err.Error(), "m5 does not") || strings.Contains(fail.HintOf(err), "--force") {
		t.Errorf("refused with %v (%s)", err, fail.HintOf(err))
	}
}

// TestLearnerIsLeftOut: etcd does not defragment one that is being filled.
func TestLearnerIsLeftOut(t *testing.T) {
	v := cluster(4)
	for i := range v.Answers {
		v.Answers[i].Members[3].Learner = true
	}
	d := PlanDefrag(v, Rule{All: true})
	if len(d.Steps) != 3 || len(d.Left) != 1 || d.Left[0] != (Left{"m4", "it is a learner"}) {
		t.Errorf("%+v", d)
	}
}

// TestDefragProperties: whatever the view, the leader comes last, nobody comes twice, followers come by what is free, and each member is either done or left.
func TestDefragProperties(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("STEWARD_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		v := cluster(1 + rng.IntN(7))
		for i := range v.Answers {
			a := &v.Answers[i]
			a.DBSize, a.DBInUse, a.Quota = rng.Int64N(1000*mib), rng.Int64N(1000*mib), rng.Int64N(3)*512*mib
			a.Leader = uint64(rng.IntN(2))
			if rng.IntN(6) == 0 {
				v.Answers[i] = probe.Answer{Endpoint: a.Endpoint, Err: errors.New("no answer")}
			}
		}
		d := PlanDefrag(v, Rule{All: rng.IntN(2) == 0})
		if got, want := len(d.Steps)+len(d.Left), len(v.Agreed().Members); got != want {
			t.Fatalf("seed %d: %d of %d members: %+v", seed, got, want, d)
		}
		seen := map[uint64]bool{}
		for i, s := range d.Steps {
			if seen[s.Member] || s.Leader && i != len(d.Steps)-1 || s.Limit < 30e9 {
				t.Fatalf("seed %d: %+v", seed, d.Steps)
			}
			if i > 0 && !s.Leader && d.Steps[i-1].Size-d.Steps[i-1].InUse < s.Size-s.InUse {
				t.Fatalf("seed %d: not by what is free: %+v", seed, d.Steps)
			}
			seen[s.Member] = true
		}
		GatesOfDefrag(v, d, nil)
		PlanNospace(v, rng.Int64N(60_000))
	}
}

func TestCompactPlan(t *testing.T) {
	for name, c := range map[string]struct {
		rule Rule
		by   CompactRule
		want int64
		gate string
		cap  bool
	}{
		"the default":                {by: CompactRule{Keep: DefaultKeep}, want: 40_000},
		"all but the newest":         {by: CompactRule{}, want: 50_000},
		"more than there is":         {by: CompactRule{Keep: 60_000}, want: 0},
		"the log is behind":          {by: CompactRule{Keep: 10, Recorded: 30_000}, want: 30_000, cap: true},
		"the log is far enough":      {by: CompactRule{Keep: 10_000, Recorded: 45_000}, want: 40_000},
		"asked for":                  {by: CompactRule{Revision: 20_000, Recorded: 45_000}, want: 20_000},
		"asked for, not recorded":    {by: CompactRule{Revision: 48_000, Recorded: 45_000}, want: 48_000, gate: "in the change log"},
		"asked for, nothing records": {by: CompactRule{Revision: 48_000}, want: 48_000},
		"in the future":              {by: CompactRule{Revision: 50_001}, want: 50_001, gate: "has been"},
	} {
		t.Run(name, func(t *testing.T) {
			p, gates := PlanCompact(cluster(3), c.by)
			if p.Revision != c.want || p.Current != 50_000 || p.Capped != c.cap {
				t.Errorf("%+v, want %d", p, c.want)
			}
			if _, err := Pass(gates, ""); (err == nil) != (c.gate == "") || !strings.Contains(fmt.Sprint(err), c.gate) && c.gate != "" {
				t.Errorf("gates: %v", err)
			}
		})
	}
}

func TestDisarmGates(t *testing.T) {
	nospace := []Alarm{{Member: 2, Kind: "NOSPACE"}}
	corrupt := []Alarm{{Member: 2, Kind: "CORRUPT"}}
	hashed := func(sums ...uint32) *probe.View {
		v := cluster(3)
		for i, s := range sums {
			v.Answers[i].Hash = &probe.Hash{Revision: 9, Compact: 1, Sum: s}
		}
		return v
	}
	full := cluster(3)
	full.Answers[1].DBSize = full.Answers[1].Quota*9/10 + 1
	unknown := cluster(3)
	for i := range unknown.Answers {
		unknown.Answers[i].Quota = 0
	}
	for name, c := range map[string]struct {
		view   *probe.View
		alarms []Alarm
		gate   string
		force  bool
	}{
		"room":              {cluster(3), nospace, "", false},
		"no room":           {full, nospace, "below 90 %", true},
		"quota is not told": {unknown, nospace, "", false},
		"equal":             {hashed(5, 5, 5), corrupt, "", false},
		"one differs":       {hashed(5, 6, 5), corrupt, "data are equal", false},
		"one is not known":  {hashed(5, 5), corrupt, "known to be equal", false},
		"no room, corrupt":  {full, corrupt, "known to be equal", false},
	} {
		t.Run(name, func(t *testing.T) {
			gates := GatesOfDisarm(c.view, c.alarms)
			_, err := Pass(gates, "")
			if (err == nil) != (c.gate == "") || c.gate != "" && !strings.Contains(err.Error(), c.gate) {
				t.Errorf("refused: %v, want %q", err, c.gate)
			}
			if _, err := Pass(gates, "because"); c.gate != "" && (err == nil) != c.force {
				t.Errorf("forced: %v", err)
			}
		})
	}
}

// TestAlarms: each is told once, whoever tells it, and it is known when its member is gone.
func TestAlarms(t *testing.T) {
	v := cluster(3)
	for i := range v.Answers {
		v.Answers[i].Alarms = []probe.Alarm{{Member: 99, Kind: "NOSPACE"}, {Member: 2, Kind: "NOSPACE"}, {Member: 0, Kind: "CORRUPT"}}
	}
	got := Alarms(v)
	if len(got) != 3 || got[0].Kind != "CORRUPT" || got[0].Gone || got[1].Member != 99 || !got[1].Gone || got[2].Name != "m2" || got[2].Gone {
		t.Errorf("%+v", got)
	}
}

func TestPrefixes(t *testing.T) {
	keys := []string{"/registry/a", "/registry/pods/d/a", "/registry/pods/d/b", "/registry/z"}
	for i := range 30 {
		keys = append(keys, fmt.Sprintf("flat-%02d", i))
	}
	var got []string
	w := walker{next: []byte{0}}
	for range 100 {
		i := slices.IndexFunc(keys, func(k string) bool { return k >= string(w.next) })
		if i < 0 {
			break
		}
		name, from, end := w.step(keys[i])
		if string(from) > keys[i] || string(end) != "\x00" && string(end) <= keys[i] {
			t.Fatalf("%q: from %q to %q", keys[i], from, end)
		}
		if got = append(got, name); string(end) == "\x00" {
			break
		}
	}
	want := []string{"/registry/a", "/registry/pods/", "/registry/z", "flat-00", "flat-01", "flat-02", "flat-03", "flat-04", "flat-05", "flat-06", "flat-07", ""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for prefix, want := range map[string]string{"a/": "a0", "a\xff": "b", "\xff\xff": "\x00", "": "\x00"} {
		if got := string(endOf([]byte(prefix))); got != want {
			t.Errorf("end of %q: %q, want %q", prefix, got, want)
		}
	}
	if p := estimate("a/", 100, &pb.RangeResponse{}); p.Bytes != 0 {
		t.Errorf("%+v", p)
	}
}

func TestBefore(t *testing.T) {
	good := map[int]int{5: 23, 6: 5}
	for version, want := range map[string]bool{
		"3.4.37": true, "3.5.22": true, "3.5.23": false, "3.6.0-rc.1": true, "3.6.5": false, "3.7.0": false, "4.0.0": false, "": false, "3.6": false, "3.x.1": false,
	} {
		if got := before(version, good); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}
