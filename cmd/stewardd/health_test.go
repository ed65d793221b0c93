package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// TestHealth: the daemon looks at the members by itself, and a person can read what it sees.
func TestHealth(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *"})
	d.awaitMetric(20*time.Second, "steward_health_voters_up", is(1))
	d.awaitMetric(20*time.Second, "steward_health_quorum", is(1))
	d.awaitMetric(20*time.Second, "steward_member_up", is(1))
	code, body, err := d.get("/status")
	if err != nil || code != http.StatusOK {
		t.Fatalf("/status: %d, %v", code, err)
	}
	for _, want := range []string{"members: 1 voters, 1 up", "leader", "single-voter"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if n := strings.Count(d.log(), "finding=single-voter"); n != 1 {
		t.Errorf("it is told %d times:\n%s", n, d.log())
	}
	d.term(15 * time.Second)
	r.noSecrets("the log", d.log())
}
