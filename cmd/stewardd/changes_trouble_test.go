package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// recording is the one of several daemons that records.
func recording(t *testing.T, within time.Duration, all ...*stewardd) (found *stewardd) {
	t.Helper()
	lab.Eventually(t, within, "one of the daemons records", func() error {
		for _, d := range all {
			if v, _ := d.metric("steward_changes_state", "state=recording"); v == 1 {
				found = d
				return nil
			}
		}
		return errors.New("none does")
	})
	return found
}

// total is a counter's sum over its labels.
func (d *stewardd) total(name string) (sum float64) {
	for _, m := range d.families()[name].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	return sum
}

// TestChangesHandOver: of three daemons one records. It is killed, and another goes on; that one is stopped, and the third goes on at once. Then the
// member dies that is watched. The others say how far the log is, and nothing is missing.
func TestChangesHandOver(t *testing.T) {
	r := newRigOf(t, lab.S3Options{}, lab.EtcdOptions{Members: 3})
	var all []*stewardd
	for i := range 3 {
		all = append(all, r.start(settings{name: fmt.Sprint("master", i), schedule: "0 0 1 1 *", changes: quick}))
	}
	one := recording(t, 30*time.Second, all...)
	one.awaitReady(30*time.Second, http.StatusOK, "ok")
	first := r.put(1)
	one.awaitRecorded(30*time.Second, r.put(50))
	for _, d := range all {
		// Whoever records, each knows how far.
		d.awaitRecorded(30*time.Second, first)
		d.awaitReady(10*time.Second, http.StatusOK, "ok")
	}
	one.Kill()
	r.put(50)
	var left []*stewardd
	for _, d := range all {
		if d != one {
			left = append(left, d)
		}
	}
	two := recording(t, 30*time.Second, left...)
	two.awaitRecorded(30*time.Second, r.put(50))
	if v, _ := two.metric("steward_changes_turns_total"); v != 1 {
		t.Errorf("the second daemon took over %v times", v)
	}
	two.term(20 * time.Second)
	three := left[0]
	if three == two {
		three = left[1]
	}
	recording(t, 15*time.Second, three)

	line := regexp.MustCompile(`endpoint=(\S+)`).FindStringSubmatch(three.awaitLog(10*time.Second, `msg=recording .*endpoint=`))
	for i := range 3 {
		if r.etcd.Endpoint(i) == line[1] {
			r.etcd.Kill(i)
		}
	}
	last := r.put(50)
	three.awaitRecorded(60*time.Second, last)
	three.awaitMetric(10*time.Second, "steward_changes_reconnects_total", positive)
	if n := three.total("steward_changes_gaps_total"); n != 0 {
		t.Errorf("%v gaps", n)
	}
	three.term(20 * time.Second)
	r.mustHoldOn(r.alive(), "", first, last)
	if n := len(r.catalog("").Backups()); n != 1 {
		t.Errorf("%d full snapshots, want the one at the beginning", n)
	}
}

// alive is a member that runs.
func (r *rig) alive() int {
	for i, m := range r.etcd.Members {
		select {
		case <-m.Proc.Done():
		default:
			return i
		}
	}
	return 0
}

// TestChangesStoreAway: while the store is away, what is recorded waits on disk, through a kill and a start of the daemon; when it is back, all of it is
// stored.
func TestChangesStoreAway(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *", changes: quick})
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	first := r.put(1)
	d.awaitRecorded(30*time.Second, r.put(20))

	r.s3.Kill()
	r.put(50)
	d.awaitMetric(60*time.Second, "steward_changes_spool_bytes", positive)
	d.awaitMetric(60*time.Second, "steward_changes_upload_failures_total", positive)
	d.awaitReady(90*time.Second, http.StatusServiceUnavailable, "main: changes: changes after revision ")
	d.Kill()
	r.put(50)
	d.run()
	last := r.put(50)
	d.awaitMetric(60*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(last) })
	r.s3.Restart()
	d.awaitRecorded(90*time.Second, last)
	d.awaitReady(60*time.Second, http.StatusOK, "ok")
	d.awaitMetric(10*time.Second, "steward_changes_spool_bytes", is(0))
	if n := d.total("steward_changes_gaps_total"); n != 0 {
		t.Errorf("%v gaps", n)
	}
	d.term(20 * time.Second)
	r.mustHold("", first, last)
	r.noSecrets("the log", d.log())
}

// TestChangesCompacted: history that etcd compacts while no daemon runs is a gap, said on every page, and followed by a full snapshot at once; from there
// on everything can be restored again.
func TestChangesCompacted(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *", changes: quick})
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	before := r.put(20)
	d.awaitRecorded(30*time.Second, before)
	d.term(20 * time.Second)

	lost := r.put(30)
	if _, err := r.cli.Compact(t.Context(), lost-5); err != nil {
		t.Fatal(err)
	}
	d.run()
	d.awaitMetric(30*time.Second, "steward_changes_gaps_total", is(1), "reason=compacted")
	d.awaitMetric(30*time.Second, "steward_changes_snapshots_demanded_total", is(1), "reason=gap")
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(2))
	d.awaitMetric(30*time.Second, "steward_changes_last_gap_timestamp_seconds", positive)
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	d.awaitLog(10*time.Second, `level=ERROR msg="revisions `+fmt.Sprint(before+1)+` to .* are not recorded: history was compacted`)
	first := r.put(1)
	last := r.put(20)
	d.awaitRecorded(30*time.Second, last)
	d.term(20 * time.Second)
	r.mustHold("", first, last)
	if w := r.held(""); int64(w.From) <= before+1 {
		t.Errorf("the gap after revision %d is hidden: window %+v", before, w)
	}
}

// TestChangesReload: SIGHUP starts and stops the recording, and changes it; a stop stores what the flush had left for later.
func TestChangesReload(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *"})
	d.awaitMetric(30*time.Second, "steward_repository_backups", is(1))
	if _, ok := d.metric("steward_changes_state", "state=recording"); ok || strings.Contains(d.log(), "recording") {
		t.Error("changes are recorded though the config says otherwise")
	}
	change := func(changes string) {
		t.Helper()
		s := d.settings
		s.changes = changes
		r.config(s)
		d.reload(1)
	}
	change(quick)
	d.awaitMetric(30*time.Second, "steward_changes_state", is(1), "state=recording")
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	first := r.put(1)
	d.awaitRecorded(30*time.Second, first)

	change("flush: 1h")
	d.awaitLog(30*time.Second, `msg="recording changes".*flush=1h`)
	d.awaitMetric(30*time.Second, "steward_changes_state", is(1), "state=recording")
	second := r.put(20)
	d.awaitMetric(30*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(second) })
	change("enabled: false")
	lab.Eventually(t, 30*time.Second, "recording ends", func() error {
		if w := r.held(""); int64(w.To) < second {
			return fmt.Errorf("stored to %d of %d", w.To, second)
		}
		return nil
	})
	if _, ok := d.metric("steward_changes_state", "state=stopped"); ok {
		t.Error("metrics of a change log that is off")
	}
	r.put(20)
	change("flush: 1h")
	d.awaitMetric(30*time.Second, "steward_changes_state", is(1), "state=recording")
	last := r.put(20)
	d.awaitMetric(30*time.Second, "steward_changes_received_revision", func(v float64) bool { return v >= float64(last) })
	d.term(20 * time.Second)
	r.mustHold("", first, last)
}

// TestChangesCut: etcd comes back with an older data directory. The timeline ends, the next one begins with a full snapshot at once, and both can be
// restored.
func TestChangesCut(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	d := r.start(settings{name: "a", schedule: "0 0 1 1 *", changes: quick})
	d.awaitReady(30*time.Second, http.StatusOK, "ok")
	d.awaitRecorded(30*time.Second, r.put(20))
	r.etcd.Stop(0)
	old, dir := filepath.Join(t.TempDir(), "old"), r.etcd.DataDir(0)
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	r.etcd.Restart(t, 0)
	r.etcd.WaitHealthy(t)
	ended := r.put(50)
	d.awaitRecorded(60*time.Second, ended)
	r.etcd.Stop(0)
	if err := errors.Join(os.Rename(dir, dir+".lost"), os.Rename(old, dir)); err != nil {
		t.Fatal(err)
	}
	r.etcd.Restart(t, 0)
	r.etcd.WaitHealthy(t)
	d.awaitMetric(60*time.Second, "steward_changes_snapshots_demanded_total", is(1), "reason=ended")
	d.awaitMetric(60*time.Second, "steward_repository_backups", is(2))
	d.awaitReady(60*time.Second, http.StatusOK, "ok")
	last := r.put(5)
	if last >= ended {
		t.Fatalf("the history was cut at %d, and is at %d: the test shows nothing", ended, last)
	}
	lab.Eventually(t, 30*time.Second, "the new timeline is recorded", func() error {
		if w := r.held(""); w.Timeline.Cut != 2 || int64(w.To) < last {
			return fmt.Errorf("%+v", w)
		}
		return nil
	})
	d.term(20 * time.Second)
	w := r.held("")
	at, err := backup.Locate(t.Context(), r.repo(""), backup.Point{Revision: repo.Revision(last), Timeline: w.Timeline}, backup.LocateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	if _, err := at.Materialise(t.Context(), r.repo(""), backup.MaterialiseOptions{Path: path, Identities: []age.Identity{r.identity}}); err != nil {
		t.Fatal(err)
	}
	at, err = backup.Locate(t.Context(), r.repo(""), backup.Point{Revision: repo.Revision(ended)}, backup.LocateOptions{})
	if err != nil || at.Timeline.Cut != 1 {
		t.Errorf("the end of the old timeline: %+v, %v", at, err)
	}
}
