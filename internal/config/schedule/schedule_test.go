package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustParse(t *testing.T, text, zone string) Schedule {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ticks(s Schedule, from time.Time, n int) []string {
	var out []string
	for range n {
		if from = s.Next(from); from.IsZero() {
			return append(out, "never")
		}
		out = append(out, from.Format(time.RFC3339))
	}
	return out
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name, schedule, zone, from string
		want                       []string
	}{
		{
			"every six hours", "0 */6 * * *", "UTC", "2026-11-20T19:27:02Z",
			[]string{"2026-11-21T00:00:00Z", "2026-11-21T06:00:00Z"},
		},
		{
			"seconds", "*/20 * * * * *", "UTC", "2026-11-20T19:27:02Z",
			[]string{"2026-11-20T19:27:20Z", "2026-11-20T19:27:40Z"},
		},
		{
			"a tick is after, not at", "@hourly", "UTC", "2026-11-20T19:00:00Z",
			[]string{"2026-11-20T20:00:00Z"},
		},
		{
			"the multiples since the epoch", "@every 7m", "UTC", "2026-11-20T19:27:02Z",
			[]string{"2026-11-20T19:31:00Z", "2026-11-20T19:38:00Z"},
		},
		{
			"local time", "30 2 * * *", "Europe/Berlin", "2026-11-20T19:27:02Z",
			[]string{"2026-11-21T01:30:00Z"},
		},
		{
			"spring forward: 02:30 does not exist, so the tick is at 03:00", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z",
			[]string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		},
		{
			"spring forward: hourly loses nothing and doubles nothing", "0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z",
			[]string{"2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		},
		{
			"spring forward at midnight", "15 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z",
			[]string{"2018-11-04T03:00:00Z", "2018-11-05T02:15:00Z"},
		},
		{
			"fall back: 02:30 exists twice", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
		},
		{
			"fall back: hourly is every hour", "0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z",
			[]string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		},
		{
			"a zone that jumps by half an hour", "10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
			[]string{"2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"},
		},
		{
			"29 February", "0 0 29 2 *", "UTC", "2026-11-20T19:27:02Z",
			[]string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
		},
		{"never", "never", "UTC", "2026-11-20T19:27:02Z", []string{"never"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ticks(mustParse(t, c.schedule, c.zone), at(t, c.from), len(c.want))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks of %q (-want +got):\n%s", c.schedule, diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "schedule is empty: give cron fields, @daily, @every 6h, or never",
		"0 0 30 2 *":          `schedule "0 0 30 2 *" never fires: no such date exists`,
		"@every 500ms":        `schedule "@every 500ms": want whole seconds, at least 1s`,
		"@every 1.5s":         `schedule "@every 1.5s": want whole seconds, at least 1s`,
		"@every -5s":          `schedule "@every -5s": want whole seconds, at least 1s`,
		"@every 5":            `schedule "@every 5": failed to parse duration @every 5: time: missing unit in duration "5"`,
		"@sometimes":          `schedule "@sometimes": unrecognized descriptor: @sometimes`,
		"CRON_TZ=UTC @daily":  "schedule names a time zone: give it in the field timezone",
		"61 * * * *":          `schedule "61 * * * *": end of range (61) above maximum (59): 61`,
		"* * * *":             `schedule "* * * *": expected 5 to 6 fields, found 4: [* * * *]`,
		"@every 10000000h":    `schedule "@every 10000000h": failed to parse duration @every 10000000h: time: invalid duration "10000000h"`,
		"@every 1000000h":     `schedule "@every 1000000h": want whole seconds, at least 1s`,
		"0 0 31 4,6,9,11 *":   `schedule "0 0 31 4,6,9,11 *" never fires: no such date exists`,
		"TZ=Mars/Base @daily": "schedule names a time zone: give it in the field timezone",
	} {
		_, err := Parse(text, time.UTC)
		if err == nil || err.Error() != want {
			t.Errorf("Parse(%q): got %v, want %s", text, err, want)
		}
	}
}

// TestLast: at any time, no tick lies between the last one and now, and the last one is a tick.
func TestLast(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		for _, text := range []string{"0 */6 * * *", "30 2 * * *", "*/7 * * * *", "@weekly", "0 8-18 * * 1-5", "0 0 29 2 *", "@every 5s", "@every 25h"} {
			s := mustParse(t, text, zone)
			for range 30 {
				now := time.Unix(1_700_000_000+rnd.Int64N(200_000_000), rnd.Int64N(1e9))
				last := s.Last(now)
				name := fmt.Sprintf("%s %q at %s", zone, text, now.UTC().Format(time.RFC3339Nano))
				if last.IsZero() || last.After(now) {
					t.Fatalf("%s: last tick is %s", name, last)
				}
				if again := s.Next(last.Add(-time.Second)); !again.Equal(last) {
					t.Fatalf("%s: last tick %s is none: the next one there is %s", name, last, again)
				}
				if next := s.Next(last); !next.After(now) {
					t.Fatalf("%s: last tick is said to be %s, but %s is due too", name, last, next)
				}
			}
		}
	}
	if last := mustParse(t, "never", "UTC").Last(time.Now()); !last.IsZero() {
		t.Errorf("last tick of never: %s", last)
	}
}

func TestIntervals(t *testing.T) {
	now := at(t, "2026-11-20T19:27:02Z") // a Friday
	for _, c := range []struct {
		schedule          string
		interval, longest time.Duration
	}{
		{"@every 5s", 5 * time.Second, 5 * time.Second},
		{"0 */6 * * *", 6 * time.Hour, 6 * time.Hour},
		{"0 8-18 * * 1-5", time.Hour, 62 * time.Hour},
		{"never", 0, 0},
	} {
		s := mustParse(t, c.schedule, "UTC")
		if got := s.Interval(now); got != c.interval {
			t.Errorf("%q: interval %s, want %s", c.schedule, got, c.interval)
		}
		if got := s.MaxInterval(now); got != c.longest {
			t.Errorf("%q: longest interval %s, want %s", c.schedule, got, c.longest)
		}
	}
}
