package retention

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

var (
	now = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	a1  = repo.Timeline{Cluster: 1, Cut: 1}
)

// item is a good backup.
func item(at time.Time) Item {
	return Item{ID: repo.NewSnapshotID(at), Time: at, Timeline: a1, Revision: repo.Revision(at.Unix()), Good: true}
}

// kept are the times of those that stay, oldest first.
func kept(ds []Decision) (out []string) {
	for _, d := range ds {
		if d.Keep {
			out = append(out, d.Item.Time.UTC().Format("01-02 15:04"))
		}
	}
	return out
}

// every makes n items, the newest one at `last`.
func every(n int, step time.Duration, last time.Time) (items []Item) {
	for i := range n {
		items = append(items, item(last.Add(-time.Duration(i)*step)))
	}
	return items
}

// The rules, by example. The two newest stay in all of them.
func TestRules(t *testing.T) {
	sixHourly := every(4*40, 6*time.Hour, now.Add(-30*time.Minute)) // ... 11-20 00:00, 06:00, 12:00
	for name, c := range map[string]struct {
		p    Policy
		want []string
	}{
		"last":    {Policy{Last: 3}, []string{"11-20 00:00", "11-20 06:00", "11-20 12:00"}},
		"hourly":  {Policy{Hourly: 3}, []string{"11-20 00:00", "11-20 06:00", "11-20 12:00"}},
		"daily":   {Policy{Daily: 3}, []string{"11-18 18:00", "11-19 18:00", "11-20 06:00", "11-20 12:00"}},
		"weekly":  {Policy{Weekly: 3}, []string{"11-08 18:00", "11-15 18:00", "11-20 06:00", "11-20 12:00"}},
		"monthly": {Policy{Monthly: 3}, []string{"10-31 18:00", "11-20 06:00", "11-20 12:00"}},
		"within":  {Policy{Within: 13 * time.Hour}, []string{"11-20 00:00", "11-20 06:00", "11-20 12:00"}},
		"several": {Policy{Last: 1, Daily: 2, Monthly: 2}, []string{"10-31 18:00", "11-19 18:00", "11-20 06:00", "11-20 12:00"}},
	} {
		if diff := cmp.Diff(c.want, kept(Apply(c.p, sixHourly, now, nil))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Days are those of the place: a backup at 23:30 UTC is tomorrow's in Berlin. The hour that the end of summer time repeats is two hours.
func TestPlace(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}
	items := every(3, 30*time.Minute, time.Date(2026, 11, 18, 23, 30, 0, 0, time.UTC)) // 22:30, 23:00, 23:30
	items = append(items, every(2, time.Minute, now)...)
	if diff := cmp.Diff([]string{"11-18 23:30", "11-20 12:29", "11-20 12:30"}, kept(Apply(Policy{Daily: 2}, items, now, nil))); diff != "" {
		t.Errorf("UTC: %s", diff)
	}
	if diff := cmp.Diff([]string{"11-18 22:30", "11-18 23:30", "11-20 12:29", "11-20 12:30"}, kept(Apply(Policy{Daily: 3}, items, now, berlin))); diff != "" {
		t.Errorf("Berlin: %s", diff)
	}
	end := time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC) // 02:30 for the second time
	if diff := cmp.Diff([]string{"10-24 23:30", "10-25 00:30", "10-25 01:30"}, kept(Apply(Policy{Hourly: 3}, every(5, time.Hour, end), now, berlin))); diff != "" {
		t.Errorf("end of summer time: %s", diff)
	}
}

// What no policy can let go of.
func TestFloors(t *testing.T) {
	one := Policy{Last: 1}
	old := every(10, 24*time.Hour, now.Add(-24*time.Hour))
	names := func(ds []Decision) (out []string) {
		for _, d := range ds {
			if d.Keep {
				out = append(out, fmt.Sprintf("%s: %s", d.Item.Time.Format("01-02"), strings.Join(d.Why, ", ")))
			}
		}
		return out
	}
	check := func(name string, items []Item, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, names(Apply(one, items, now, nil))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	const second, last = "11-18: one of the two newest good ones", "11-19: last 1 of 1"
	check("plain", old, second, last)

	verified := slices.Clone(old)
	verified[6].Verified, verified[8].Verified = true, true
	check("only old ones are verified", verified, "11-13: the newest that was proven readable", second, last)

	young := append(slices.Clone(old), every(4, 20*time.Minute, now)...) // 0, 20, 40, 60 minutes old
	if got := kept(Apply(one, young, now, nil)); !cmp.Equal(got, []string{"11-20 11:50", "11-20 12:10", "11-20 12:30"}) {
		t.Errorf("young ones: kept %q", got)
	}

	cut := slices.Clone(old) // the cluster was cut, and a clock behind dates the new cut's backup before the old cut's
	cut[5].Timeline.Cut = 2
	check("the current timeline", cut, "11-14: the newest of the current timeline", second, last)

	lagging := slices.Clone(old) // snapshots of a survivor came after a fuller one
	lagging[3].Revision = lagging[0].Revision + 100
	check("the highest revision", lagging, "11-16: the newest of the current timeline", second, last)

	future := append(slices.Clone(old), item(now.Add(time.Hour)))
	check("dated in the future", future, second, last, "11-20: dated in the future: a clock is wrong")

	bad := slices.Clone(old)
	bad[0].Good, bad[4].Good, bad[9].Good = false, false, false
	check("bad ones count for nothing", bad, "11-17: one of the two newest good ones", "11-18: last 1 of 1", "11-19: not good, but of a time that is kept")

	allBad := slices.Clone(old[:2])
	allBad[0].Good, allBad[1].Good = false, false
	check("nothing good", allBad, "11-18: not good, but of a time that is kept", "11-19: not good, but of a time that is kept")
	check("one", old[:1], last)
	if got := Apply(one, nil, now, nil); len(got) != 0 {
		t.Errorf("decisions about nothing: %v", got)
	}
}

func TestPolicy(t *testing.T) {
	for _, p := range []Policy{{}, {Last: -1}, {Last: 1, Daily: -1}, {Within: -time.Second, Last: 1}} {
		if p.Validate() == nil {
			t.Errorf("%+v is valid", p)
		}
		ds := Apply(p, every(9, 24*time.Hour, now), now, nil)
		if len(kept(ds)) != 9 {
			t.Errorf("%+v removes something", p)
		}
		if err := Guard(p, ds, now, nil, true); fail.ExitCode(err) != fail.Unsafe {
			t.Errorf("%+v: %v, want it refused", p, err)
		}
	}
	if got, want := (Policy{Last: 4, Daily: 7, Within: 72 * time.Hour}).String(), "last 4, daily 7, within 72h0m0s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (Policy{}).String(), "keep nothing"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
