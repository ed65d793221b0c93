package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

func positive(v float64) bool { return v > 0 }

func is(want float64) func(float64) bool { return func(v float64) bool { return v == want } }

// notifySocket is systemd's end of sd_notify.
func notifySocket(t *testing.T) (path string, received func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	all := make(chan string, 10000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			all <- string(buf[:n])
		}
	}()
	var seen strings.Builder
	return path, func() string {
		for {
			select {
			case m := <-all:
				seen.WriteString(m + "\n---\n")
			default:
				return seen.String()
			}
		}
	}
}

// TestLifecycle: backups on schedule to real S3, what the daemon says about them, its stop, and that a restart knows as much as before.
func TestLifecycle(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	socket, received := notifySocket(t)
	d := r.prepare(settings{name: "a", schedule: "@every 2s", verify: "@every 3s", identity: true})
	d.run("NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=2000000")

	d.awaitMetric(30*time.Second, "steward_repository_backups", func(v float64) bool { return v >= 3 })
	d.awaitMetric(30*time.Second, "steward_verified_timestamp_seconds", positive, "level=database")
	if code, body, err := d.get("/readyz"); err != nil || code != http.StatusOK || body != "ok\n" {
		t.Errorf("/readyz: %d %q %v", code, body, err)
	}
	if code, _, _ := d.get("/nothing"); code != http.StatusNotFound {
		t.Errorf("/nothing: %d", code)
	}
	entry := r.catalog("").Backups()[0]
	m, err := r.repo("").Manifest(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"steward_backup_revision": float64(m.Database.Revision), "steward_backup_keys": 200, "steward_store_up": 1, "steward_verified_ok": 1,
		"steward_config_reload_success": 1, "steward_repository_unfinished": 0, "steward_build_info": 1, "steward_backup_age_limit_seconds": 4,
	} {
		if v, ok := d.metric(name); !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
	if v, _ := d.metric("steward_backup_age_seconds"); v <= 0 || v > 10 {
		t.Errorf("the newest backup is %v s old", v)
	}
	raw, _ := d.metric("steward_backup_bytes", "kind=raw")
	stored, _ := d.metric("steward_backup_bytes", "kind=stored")
	if raw < float64(m.Database.Size) || stored < 1000 || stored > raw/2 {
		t.Errorf("raw size %v, stored size %v, the first backup has %d and %d", raw, stored, m.Database.Size, m.Object.Size)
	}
	lab.Eventually(t, 10*time.Second, "systemd hears of it", func() error {
		for _, want := range []string{"READY=1", "WATCHDOG=1", "STATUS=main: "} {
			if !strings.Contains(received(), want) {
				return fmt.Errorf("no %s in %s", want, received())
			}
		}
		return nil
	})
	d.term(15 * time.Second)
	if got := received(); !strings.Contains(got, "STOPPING=1") {
		t.Errorf("no STOPPING=1 in %s", got)
	}
	r.noSecrets("the log", d.log())
	restarted(t, r)
}

// restarted: a daemon with nothing to do for months shows what the store holds.
func restarted(t *testing.T, r *rig) {
	t.Helper()
	before := len(r.catalog("").Backups())
	d := r.start(settings{name: "b", schedule: "0 0 1 1 *"})
	d.awaitMetric(20*time.Second, "steward_repository_backups", is(float64(before)))
	for _, name := range []string{"steward_last_success_timestamp_seconds", "steward_backup_revision", "steward_verified_timestamp_seconds"} {
		if v, ok := d.metric(name); !ok || v <= 0 {
			t.Errorf("after a restart %s is %v (there: %t)", name, v, ok)
		}
	}
	if code, body, _ := d.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz after a restart: %d %s", code, body)
	}
	d.term(15 * time.Second)
	if after := len(r.catalog("").Backups()); after != before {
		t.Errorf("a restart changed %d backups into %d, though no tick was due", before, after)
	}
}

// TestCatchUp: a tick that nobody did while no daemon ran is done at the start, once.
func TestCatchUp(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "@every 1h"})
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(1))
	d.term(15 * time.Second)
	d.run()
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(1))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	<-ctx.Done() // time in which a second one could have been taken
	if n := len(r.catalog("").Backups()); n != 1 {
		t.Errorf("%d backups of one tick", n)
	}
	d.term(15 * time.Second)
}

// TestTwoClusters: one daemon keeps two clusters apart: each has its folder, its schedule and its series. What is wrong with one
// leaves the other alone.
func TestTwoClusters(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	events := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	lab.Fill(t, events.Client(t), lab.FillOptions{Keys: 7})
	d := r.start(settings{name: "a", schedule: "@every 2s", more: fmt.Sprintf(
		"- name: events\n  endpoints: [%q]\n  snapshot: {schedule: '@every 3s', spool: %s/spool-a}\n  verify: {schedule: never}\n  changes: {enabled: false}", events.Endpoint(0), r.dir)})
	d.awaitMetric(30*time.Second, "steward_backup_keys", is(200), "cluster=main")
	d.awaitMetric(30*time.Second, "steward_backup_keys", is(7), "cluster=events")
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	events.Kill(0)
	d.awaitReady(60*time.Second, http.StatusServiceUnavailable, "events: the newest backup is ")
	if _, body, _ := d.get("/readyz"); strings.Contains(body, "main: ") {
		t.Errorf("/readyz: %s", body)
	}
	before, _ := d.metric("steward_last_success_timestamp_seconds", "cluster=main")
	d.awaitMetric(30*time.Second, "steward_last_success_timestamp_seconds", func(v float64) bool { return v > before }, "cluster=main")
	if v, ok := d.metric("steward_job_failures_total", "cluster=main"); ok {
		t.Errorf("main has %v failures", v)
	}
	d.term(20 * time.Second)
}
