package health

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"etcd-steward/membership/probe"
)

// seed is new for each run, or STEWARD_SEED's.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("STEWARD_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STEWARD_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// TestWell: of a cluster that is well, of whatever size but those that are fragile in themselves, nothing above info is found, and of three or more voters
// with a store nothing at all; also with a history, and while it works.
func TestWell(t *testing.T) {
	rng := seed(t)
	for _, n := range []int{1, 3, 5, 7} {
		h := NewHistory()
		applied, revision := uint64(1000), int64(900)
		for i := range 200 {
			v := well(n)
			v.At = now.Add(time.Duration(i) * 10 * time.Second)
			for k := range v.Answers {
				a := &v.Answers[k]
				// Each is asked at a moment of its own, while writes go on.
				for range rng.IntN(3) {
					applied++
					revision += int64(rng.IntN(2))
				}
				a.Index, a.Applied, a.Revision = applied+rng.Uint64N(3), applied, revision
				a.Hash = &probe.Hash{Revision: 900 + int64(i), Compact: 800, Sum: uint32(i)}
				a.Clock = time.Duration(rng.IntN(1000)-500) * time.Millisecond
				a.DBSize = int64(50<<20 + rng.IntN(1<<20))
			}
			for k := range v.Answers {
				v.Answers[k].After = probe.Again{Revision: revision, Index: applied + 3, Applied: applied, Term: 5, Leader: 1}
			}
			b := backedUp()
			b.Newest, b.Through, b.Verified = v.At.Add(-time.Hour), v.At.Add(-5*time.Second), v.At.Add(-time.Hour)
			got := Judge(Input{Now: v.At, View: v, History: h, Backup: b})
			if Worst(got) > Info || n > 1 && len(got) > 0 {
				t.Fatalf("%d members, view %d: %s", n, i, list(got))
			}
			h.Add(v)
		}
		if len(h.seen) > keepViews || len(h.highest) != n {
			t.Errorf("the history holds %d views and %d members", len(h.seen), len(h.highest))
		}
	}
}

// TestAnyView: no view makes Judge panic or an unfinished finding, whatever is missing in it, or said by members that lie; and the history stays bounded.
func TestAnyView(t *testing.T) {
	rng := seed(t)
	h := NewHistory()
	kinds := map[Kind]int{}
	at := now
	for range 4000 {
		at = at.Add(time.Duration(rng.IntN(100)) * time.Second)
		v := anyView(rng, at)
		in := Input{Now: at.Add(time.Duration(rng.IntN(3)-1) * time.Second), View: v, Backup: anyBackup(rng, at), Certificates: []Certificate{{Where: "f", Leaf: certificate("f", at)}, {Where: "g"}}}
		if rng.IntN(4) > 0 {
			in.History = h
		}
		if rng.IntN(50) == 0 {
			in.View = nil
		}
		got := Judge(in)
		for _, f := range got {
			kinds[f.Kind]++
			if f.Text == "" || f.Next == "" || f.Confidence == "" || order(f.Kind) < 0 {
				t.Fatalf("%+v lacks something, of %+v", f, v)
			}
		}
		if _, err := json.Marshal(got); err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(got, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) }) {
			t.Fatalf("not sorted: %s", list(got))
		}
		h.Add(v)
	}
	if len(h.seen) > keepViews || len(h.happened) > keepEach || len(h.highest) > keepEach || len(h.learners) > keepEach {
		t.Errorf("the history holds %d views, %d events, %d members, %d learners", len(h.seen), len(h.happened), len(h.highest), len(h.learners))
	}
	if len(kinds) < 35 {
		t.Errorf("only %d kinds were met: %v", len(kinds), kinds)
	}
}

func pick[T any](rng *rand.Rand, all ...T) T { return all[rng.IntN(len(all))] }

func anyView(rng *rand.Rand, at time.Time) *probe.View {
	v := &probe.View{At: at, Hashed: rng.IntN(2) == 0}
	var members []probe.Member
	for i := range rng.IntN(8) {
		members = append(members, probe.Member{ID: uint64(rng.IntN(9)), Name: pick(rng, "", fmt.Sprint("m", i)), ClientURLs: pick(rng, nil, []string{fmt.Sprintf("http://h%d:1", i)}), Learner: rng.IntN(5) == 0})
	}
	numbers := []int64{0, 1, 2, 900, 1 << 20, 100 << 20, 2 << 30, math.MaxInt64, -1}
	for range rng.IntN(9) {
		a := probe.Answer{
			Endpoint: fmt.Sprintf("http://h%d:1", rng.IntN(9)), Given: rng.IntN(2) == 0, Named: uint64(rng.IntN(9)), ClusterID: uint64(rng.IntN(3)), MemberID: uint64(rng.IntN(300)) % pick(rng, uint64(9), 300),
			Version: pick(rng, "", "3.5.0", "3.6.16", "3.7.0-rc.0", "x", "3.4.1"), Leader: uint64(rng.IntN(4)), Learner: rng.IntN(6) == 0, Term: uint64(rng.IntN(3)),
			Index: uint64(pick(rng, numbers...)), Applied: uint64(pick(rng, numbers...)), Revision: pick(rng, numbers...), After: probe.Again{Revision: pick(rng, numbers...), Index: uint64(pick(rng, numbers...)), Applied: uint64(pick(rng, numbers...)), Leader: uint64(rng.IntN(4))},
			DBSize: pick(rng, numbers...), DBInUse: pick(rng, numbers...), Quota: pick(rng, numbers...), Errors: pick(rng, nil, []string{"x"}), Quorum: rng.IntN(2) == 0,
			Members: members[:rng.IntN(len(members)+1)], Alarms: pick(rng, nil, []probe.Alarm{{Member: uint64(rng.IntN(9)), Kind: pick(rng, "NOSPACE", "CORRUPT", "")}}),
			AuthRefused: rng.IntN(8) == 0, Hash: pick(rng, nil, &probe.Hash{Revision: 5, Compact: int64(rng.IntN(2)), Sum: rng.Uint32N(2)}),
			Clock: time.Duration(pick(rng, numbers...)), ClockKnown: rng.IntN(2) == 0, Certificates: pick(rng, nil, []*x509.Certificate{certificate("x", at.Add(time.Duration(rng.IntN(40))*day)), {}}),
			Metrics: pick(rng, nil, &probe.Metrics{}, &probe.Metrics{Fsync: disk(rng.Uint64N(1000), rng.Uint64N(100)), Commit: disk(9, rng.Uint64N(2000)), LeaderChanges: math.NaN(), Started: at}),
		}
		if rng.IntN(4) == 0 {
			a.Err = errors.New("no")
		}
		if rng.IntN(4) == 0 {
			a.HashErr = errors.New("no")
		}
		v.Answers = append(v.Answers, a)
	}
	return v
}

func anyBackup(rng *rand.Rand, at time.Time) *Backup {
	when := func() time.Time { return pick(rng, time.Time{}, at, at.Add(-10*day), at.Add(day)) }
	return pick(rng, nil, &Backup{}, &Backup{Configured: true, Err: errors.New("x")}, &Backup{
		Configured: true, Newest: when(), Recording: rng.IntN(2) == 0, Through: when(), Gaps: pick(rng, nil, []Gap{{Text: "g", Open: rng.IntN(2) == 0}}), Verified: when(), VerifiedOK: rng.IntN(2) == 0,
	})
}
