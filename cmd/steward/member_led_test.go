package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLedBy: what this machine's stewardd knows of the last election, and nothing where it knows nothing.
func TestLedBy(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) float64 { return float64(now.Add(-ago).UnixMilli()) / 1000 }
	page := func(cluster string, changed, looked float64, term int) string {
		text := fmt.Sprintf("# TYPE steward_health_look_timestamp_seconds gauge\nsteward_health_look_timestamp_seconds{cluster=%q} %f\n", cluster, looked) +
			fmt.Sprintf("# TYPE steward_health_raft_term gauge\nsteward_health_raft_term{cluster=%q} %d\n", cluster, term)
		if changed != 0 {
			text += fmt.Sprintf("# TYPE steward_health_leader_changed_timestamp_seconds gauge\nsteward_health_leader_changed_timestamp_seconds{cluster=%q} %f\n", cluster, changed)
		}
		return text
	}
	for name, x := range map[string]struct {
		page string
		want time.Duration
	}{
		"none seen":            {page("main", 0, at(10*time.Second), 7), 0},
		"20 s ago":             {page("main", at(20*time.Second), at(10*time.Second), 7), 20 * time.Second},
		"an hour ago":          {page("main", at(time.Hour), at(10*time.Second), 7), time.Hour},
		"of another cluster":   {page("other", at(20*time.Second), at(10*time.Second), 7), 0},
		"since it looked":      {page("main", at(time.Hour), at(10*time.Second), 6), 10 * time.Second},
		"the first, since":     {page("main", 0, at(10*time.Second), 6), 10 * time.Second},
		"a moment in 2 min":    {page("main", at(-2*time.Minute), at(10*time.Second), 7), 0},
		"clocks to the second": {page("main", at(-time.Second), at(10*time.Second), 7), time.Second},
		"no metrics":           {"<html>", 0},
		"another program":      {"# TYPE up gauge\nup 1\n", 0},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, x.page) }))
		got := ledBy(daemonMetrics(t.Context(), strings.TrimPrefix(s.URL, "http://")), "main", 7, now)
		s.Close()
		if d := got - x.want; d < -10*time.Millisecond || d > 10*time.Millisecond {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer stuck.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if families := daemonMetrics(ctx, strings.TrimPrefix(stuck.URL, "http://")); families != nil {
		t.Errorf("from a daemon that does not answer: %v", families)
	}
	for _, listen := range []string{"", "nonsense", "127.0.0.1:1", ":1"} {
		if daemonMetrics(t.Context(), listen) != nil {
			t.Errorf("something answers at %q", listen)
		}
	}
}
