package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// TestShare: three daemons with one schedule take one backup per tick between them.
func TestShare(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	const every = 3 * time.Second
	var all []*stewardd
	for i := range 3 {
		all = append(all, r.start(settings{name: fmt.Sprint("master", i), schedule: "@every 3s"}))
	}
	lab.Eventually(t, 60*time.Second, "eight backups", func() error {
		if n := len(r.catalog("").Backups()); n < 8 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	for _, d := range all {
		d.term(15 * time.Second)
	}
	ticks := map[int64][]repo.SnapshotID{}
	var first, last int64
	for _, e := range r.catalog("").Backups() {
		tick := e.ID.Time().Truncate(every).Unix()
		ticks[tick] = append(ticks[tick], e.ID)
		if last = tick; first == 0 {
			first = tick
		}
	}
	total, missed := 0, 0
	for tick := first; tick <= last; tick += int64(every / time.Second) {
		total++
		switch n := len(ticks[tick]); {
		case n == 0:
			missed++
		case n > 1:
			t.Errorf("tick %s has %d backups, want 1", time.Unix(tick, 0).UTC().Format(time.TimeOnly), n)
		}
	}
	// On a machine that is busy with other tests, a backup may take longer than the time between two ticks.
	if missed > total/4 {
		t.Errorf("%d of %d ticks have no backup", missed, total)
	}
	// Each daemon shows the same, whoever took the backups.
	busy := 0
	for _, d := range all {
		if regexp.MustCompile(`backup done`).MatchString(d.log()) {
			busy++
		}
		if regexp.MustCompile(`level=(WARN|ERROR)`).MatchString(d.log()) {
			t.Errorf("%s complains:\n%s", d.settings.name, d.Tail(4<<10))
		}
	}
	t.Logf("%d of 3 daemons took the %d backups", busy, len(ticks))
}

// stage is where SIGKILL hits: after the log line `at`, and before the line `end`.
type stage struct{ name, at, end string }

// stages are before the work, in each part of it, between the parts, and after it.
var stages = []stage{
	{"start", `msg=starting`, `msg=store `},
	{"store", `msg=store `, `msg="taking a backup"`},
	{"claimed", `msg="taking a backup"`, `stage=snapshot`},
	{"member", `msg=streaming`, `msg="stage ends".*stage=snapshot`},
	{"stream", `msg="stage begins".*stage=snapshot`, `msg="stage ends".*stage=snapshot`},
	{"spooled", `msg="stage ends".*stage=snapshot`, `msg="stage ends".*stage=upload`},
	{"upload", `msg="stage begins".*stage=upload`, `msg="backup done"`},
	{"uploaded", `msg="stage ends".*stage=upload`, `msg="backup done"`},
	{"done", `msg="backup done"`, `(?s)msg="backup done".*msg="taking a backup"`},
}

// killAt kills the daemon in a stage. It reads the log so often that it is hardly ever late; when it is, it says so.
func (d *stewardd) killAt(s stage) bool {
	d.t.Helper()
	at, end := regexp.MustCompile(s.at), regexp.MustCompile(s.end)
	for deadline := time.Now().Add(60 * time.Second); !at.MatchString(d.log()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("stage %s was never reached:\n%s", s.name, d.Tail(4<<10))
		}
	}
	d.Kill()
	return !end.MatchString(d.log())
}

// TestKill: SIGKILL at any stage leaves nothing that the next run does not get over: it takes its backup, only complete backups are listed, and
// every byte of the newest one is right.
func TestKill(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	// So much, and so dense, that every stage takes a while.
	lab.Fill(t, r.etcd.Client(t), lab.FillOptions{Keys: 1000, ValueSize: 8 << 10, Prefix: "/large/"})
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			sub := *r
			sub.t = t
			sub.killAndGoOn(s)
		})
	}
}

func (r *rig) killAndGoOn(s stage) {
	d := r.prepare(settings{name: "kill-" + s.name, prefix: s.name, schedule: "@every 5s", prune: "@every 5s"})
	d.spawn()
	hit, tries := d.killAt(s), 1
	for ; !hit && tries < 5; tries++ {
		d.spawn()
		hit = d.killAt(s)
	}
	if !hit {
		r.t.Fatalf("stage %s was missed %d times", s.name, tries)
	}
	d.checkSpool()
	before := len(r.catalog(s.name).Backups())
	d.run()
	lab.Eventually(r.t, 2*time.Minute, "the next run takes a backup", func() error {
		if n := len(r.catalog(s.name).Backups()); n <= before {
			return fmt.Errorf("%d backups, %d before", n, before)
		}
		return nil
	})
	d.term(20 * time.Second)
	rep, err := backup.Verify(r.t.Context(), backup.VerifyOptions{
		Repo: r.repo(s.name), All: true, Identities: []age.Identity{r.identity}, Scratch: r.t.TempDir(), Host: "test",
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if !rep.OK || len(rep.Backups) <= before || len(rep.Strange) != 0 {
		r.t.Errorf("after the kill: %+v", rep)
	}
	if len(rep.Unfinished) > tries {
		r.t.Errorf("%d unfinished uploads of %d kills", len(rep.Unfinished), tries)
	}
	if up := r.uploads(s.name); len(up) != 0 {
		r.t.Errorf("multipart uploads were left: %v", up)
	}
}

// uploads are the begun multipart uploads below a prefix.
func (r *rig) uploads(prefix string) []string {
	var all []string
	for _, u := range r.s3.Uploads() {
		if len(u) > len(prefix) && u[:len(prefix)+1] == prefix+"/" {
			all = append(all, u)
		}
	}
	return all
}

// TestTakeover: when the daemon that works dies, another does the same tick after the lease has run out.
func TestTakeover(t *testing.T) {
	r := newRig(t, lab.S3Options{})
	resume := r.etcd.Pause(t, 0) // the first daemon's stream hangs
	a := r.start(settings{name: "a", schedule: "@every 40s"})
	a.awaitLog(30*time.Second, `msg="taking a backup"`)
	b := r.start(settings{name: "b", schedule: "@every 40s"})
	b.awaitLog(30*time.Second, `another daemon does this tick`)
	a.Kill()
	resume()
	if n := len(r.catalog("").Backups()); n != 0 {
		t.Fatalf("%d backups before the takeover", n)
	}
	lab.Eventually(t, 120*time.Second, "the other daemon takes the tick over", func() error {
		if n := len(r.catalog("").Backups()); n != 1 {
			return fmt.Errorf("%d backups", n)
		}
		return nil
	})
	b.awaitMetric(10*time.Second, "steward_repository_backups", is(1))
	if code, body, err := b.get("/readyz"); err != nil || code != http.StatusOK {
		t.Errorf("/readyz: %d %s %v", code, body, errors.Join(err))
	}
	b.term(15 * time.Second)
}
