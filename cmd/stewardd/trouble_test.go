package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/integration/lab"
)

// awaitReady waits until /readyz answers with a code and a text.
func (d *stewardd) awaitReady(within time.Duration, code int, text string) {
	d.t.Helper()
	lab.Eventually(d.t, within, fmt.Sprintf("/readyz says %d", code), func() error {
		got, body, err := d.get("/readyz")
		if err == nil && (got != code || !strings.Contains(body, text)) {
			err = fmt.Errorf("%d %q", got, body)
		}
		return err
	})
}

// TestStoreDown: a store that goes away is said to be away, on every page; when it is back, so are the backups. No restart is needed, not
// even of a daemon that was started meanwhile.
func TestStoreDown(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "@every 5s"})
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	r.s3.Kill()
	d.awaitReady(90*time.Second, http.StatusServiceUnavailable, "main: store: ")
	late := r.start(settings{name: "late", schedule: "@every 5s"})
	d.awaitMetric(90*time.Second, "steward_store_errors_total", positive, "kind=unreachable")
	d.awaitMetric(90*time.Second, "steward_job_failures_total", positive, "task=snapshot", "reason=store-unreachable")
	if v, ok := d.metric("steward_store_up"); !ok || v != 0 {
		t.Errorf("steward_store_up is %v (there: %t)", v, ok)
	}
	if code, _, err := d.get("/healthz"); err != nil || code != http.StatusOK {
		t.Errorf("/healthz: %d %v: a store that is away is no reason to restart the daemon", code, err)
	}
	d.checkSpool()
	before := time.Now()
	r.s3.Restart()
	for _, d := range []*stewardd{d, late} {
		d.awaitMetric(90*time.Second, "steward_last_success_timestamp_seconds", func(v float64) bool { return v > float64(before.Unix()) })
		d.awaitReady(30*time.Second, http.StatusOK, "ok")
		d.term(15 * time.Second)
		r.noSecrets("the log", d.log())
	}
}

// TestEtcdDown: likewise etcd. The store is still read, and the age of the newest backup tells.
func TestEtcdDown(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "@every 3s"})
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	r.etcd.Kill(0)
	d.awaitReady(60*time.Second, http.StatusServiceUnavailable, "main: the newest backup is ")
	d.awaitMetric(30*time.Second, "steward_job_failures_total", positive, "task=snapshot", "reason=etcd")
	if v, ok := d.metric("steward_store_up"); !ok || v != 1 {
		t.Errorf("steward_store_up is %v (there: %t)", v, ok)
	}
	d.awaitLog(10*time.Second, `level=ERROR msg="failed; .*job=snapshot.*hint=".+"`)
	r.etcd.Restart(t, 0)
	d.awaitReady(60*time.Second, http.StatusOK, "ok")
	d.term(15 * time.Second)
}

// TestStopInTheMiddle: SIGTERM while a stream hangs: the daemon waits a little, gives it up, removes the spool, gives the tick back, and ends well.
func TestStopInTheMiddle(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	lab.Fill(t, r.etcd.Client(t), lab.FillOptions{Keys: 4000, ValueSize: 8 << 10, Prefix: "/large/"})
	for name, again := range map[string]bool{"grace": false, "a second SIGTERM": true} {
		t.Run(name, func(t *testing.T) {
			sub := *r
			sub.t = t
			prefix := strings.ReplaceAll(name, " ", "-")
			d := sub.start(settings{name: prefix, prefix: prefix, schedule: "@every 1h"})
			d.awaitLog(30*time.Second, `msg="taking a backup"`)
			resume := r.etcd.Pause(t, 0)
			defer resume()
			if strings.Contains(d.log(), "backup done") {
				t.Fatal("the backup was faster than the pause: the test is too slow")
			}
			begun := time.Now()
			if err := d.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if again {
				lab.Eventually(t, 9*time.Second, "the second SIGTERM counts", func() error {
					_ = d.Signal(syscall.SIGTERM)
					if !strings.Contains(d.log(), "cancelling what is still running") {
						return fmt.Errorf("not cancelled yet")
					}
					return nil
				})
			}
			select {
			case <-d.Done():
			case <-time.After(35 * time.Second):
				t.Fatal("still running 35 s after SIGTERM")
			}
			took := time.Since(begun)
			if err := d.Err(); err != nil {
				t.Errorf("ended with %v\n%s", err, d.Tail(2<<10))
			}
			if !again && took < 9*time.Second || again && took > 9*time.Second {
				t.Errorf("ended after %s", took)
			}
			d.checkSpool()
			tick := time.Now().Truncate(time.Hour)
			_, o, err := lease.Take(t.Context(), sub.repo(prefix).Store(), "coordination/jobs/snapshot.json", lease.Claim{Holder: "test", Tick: tick, TTL: time.Minute})
			if err != nil || o != lease.Mine {
				t.Errorf("the tick was not given back: %s %v", o, err)
			}
		})
	}
}

// TestDamage: a scheduled verification finds a flipped bit, and the daemon says so in every way it has.
func TestDamage(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	first := r.start(settings{name: "a", schedule: "@every 1h"})
	first.awaitMetric(30*time.Second, "steward_repository_backups", is(1))
	first.term(15 * time.Second)
	entry := r.catalog("").Backups()[0]
	r.flipBit(entry.Data.Key)

	d := r.start(settings{name: "b", schedule: "0 0 1 1 *", verify: "@every 5s", identity: true})
	d.awaitMetric(30*time.Second, "steward_verified_ok", is(0))
	d.awaitReady(30*time.Second, http.StatusServiceUnavailable, "was found damaged")
	if v, ok := d.metric("steward_job_failures_total", "task=verify-database", "reason=found-wanting"); !ok || v < 1 {
		t.Errorf("failures: %v (there: %t)", v, ok)
	}
	d.awaitLog(5*time.Second, `the repository is damaged: backup `+string(entry.ID))
	d.term(15 * time.Second)
}

// TestDeep: a scheduled deep verification starts a real etcd in a child, and publishes how long the restore took.
func TestDeep(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "@every 1h", deep: "@every 20s", identity: true})
	d.awaitMetric(120*time.Second, "steward_verified_timestamp_seconds", positive, "level=deep")
	if v, ok := d.metric("steward_verified_restore_seconds"); !ok || v <= 0 || v > 60 {
		t.Errorf("restore took %v s (there: %t)", v, ok)
	}
	if v, ok := d.metric("steward_verified_ok"); !ok || v != 1 {
		t.Errorf("steward_verified_ok is %v (there: %t)\n%s", v, ok, d.Tail(4<<10))
	}
	d.term(15 * time.Second)
}
