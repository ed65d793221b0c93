package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// TestReload: SIGHUP takes over a good config, keeps the old one when the new one is bad in any way, and tells systemd either way.
func TestReload(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	socket, received := notifySocket(t)
	d := r.prepare(settings{name: "a", schedule: "0 0 1 1 *"})
	d.run("NOTIFY_SOCKET=" + socket)
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(1)) // an empty repository: the last tick is caught up

	good, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]func(){
		"unknown field":    func() { r.write("a.yaml", string(good)+"\nextra: 1\n", 0o600) },
		"others may read":  func() { r.write("a.yaml", string(good), 0o644) },
		"missing":          func() { _ = os.Remove(d.config) },
		"no such key file": func() { r.write("a.yaml", strings.Replace(string(good), "/secret}", "/nothing}", 1), 0o600) },
		"address in use": func() {
			r.write("a.yaml", strings.Replace(string(good), d.settings.listen, strings.TrimPrefix(r.s3.Endpoint, "https://"), 1), 0o600)
		},
		"not a certificate": func() {
			r.write("a.yaml", strings.Replace(string(good), "cert: "+r.etcd.Pair.Cert, "cert: "+r.etcd.Pair.Key, 1), 0o600)
		},
	} {
		bad()
		d.reload(0)
		if v, ok := d.metric("steward_repository_backups"); !ok || v != 1 {
			t.Errorf("%s: the old config is not in use", name)
		}
		d.awaitReady(5*time.Second, http.StatusServiceUnavailable, "config: the file on disk is bad")
	}
	d.awaitLog(5*time.Second, `the new config is not used.*a.yaml:[0-9]+: unknown field`)

	// A good one, with another schedule, another address and other logs.
	s := d.settings
	s.listen, s.schedule = lab.FreeAddr(t), "@every 2s"
	r.config(s)
	r.write("a.yaml", strings.Replace(readFile(t, d.config), "level: debug, format: text", "level: info, format: json", 1), 0o600)
	old := d.url
	if err := d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + s.listen
	lab.Eventually(t, 10*time.Second, "the new address answers", func() error { _, _, err := d.get("/healthz"); return err })
	if _, err := http.Get(old + "/healthz"); err == nil {
		t.Error("the old address still answers")
	}
	d.awaitMetric(30*time.Second, "steward_repository_backups", func(v float64) bool { return v >= 3 })
	d.awaitMetric(10*time.Second, "steward_config_reload_success", is(1))
	d.awaitReady(10*time.Second, http.StatusOK, "ok")
	d.awaitLog(5*time.Second, `"msg":"backup done"`)
	got := received()
	if n := strings.Count(got, "RELOADING=1\nMONOTONIC_USEC="); n != 7 {
		t.Errorf("%d reloads were announced, want 7:\n%s", n, got)
	}
	if i, j := strings.LastIndex(got, "RELOADING=1"), strings.LastIndex(got, "READY=1"); j < i {
		t.Errorf("no READY=1 after the last reload:\n%s", got)
	}
	d.term(15 * time.Second)
}

// reload sends SIGHUP and waits for its result.
func (d *stewardd) reload(result float64) {
	d.t.Helper()
	before, _ := d.metric("steward_config_reload_timestamp_seconds")
	if err := d.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
	d.awaitMetric(10*time.Second, "steward_config_reload_timestamp_seconds", func(v float64) bool { return v > before })
	if v, ok := d.metric("steward_config_reload_success"); !ok || v != result {
		d.t.Errorf("steward_config_reload_success is %v (there: %t), want %v", v, ok, result)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReloadInTheMiddle: an attempt that is going on at a reload is finished under the config that it began with, and done once.
func TestReloadInTheMiddle(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	resume := r.etcd.Pause(t, 0)
	d := r.start(settings{name: "a", schedule: "@every 1h", more: "  dial_timeout: 60s"})
	d.awaitLog(30*time.Second, `msg="taking a backup"`)
	d.reload(1)
	d.reload(1)
	resume()
	d.awaitMetric(60*time.Second, "steward_repository_backups", is(1))
	d.awaitLog(30*time.Second, `(another daemon does this tick|the store answers)`)
	if n := strings.Count(d.log(), "backup done"); n != 1 {
		t.Errorf("%d backups were taken", n)
	}
	d.term(20 * time.Second)
	if n := len(r.catalog("").Backups()); n != 1 {
		t.Errorf("%d backups of one tick", n)
	}
}

// TestReloadHandsOver: the recorder of the new config waits for that of the old one. Nothing is wrong in between, so nothing is logged as wrong.
func TestReloadHandsOver(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *", changes: "flush: 1h"})
	d.awaitMetric(30*time.Second, "steward_changes_state", is(1), "state=recording")
	first := r.put(20)
	last := first
	for range 3 {
		d.awaitMetric(30*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(last) })
		d.reload(1)
		d.awaitMetric(30*time.Second, "steward_changes_state", is(1), "state=recording")
		last = r.put(20)
	}
	d.awaitMetric(30*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(last) })
	d.term(20 * time.Second)
	r.mustHold("", first, last)
	if log := d.log(); strings.Contains(log, "not recorded") || strings.Contains(log, "could not find out what the store can do") {
		t.Errorf("a reload was logged as a failure:\n%s", log)
	}
}
