package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/snapshot"
	"etcd-steward/integration/lab"
)

var policyBlock = regexp.MustCompile("(?ms)^ *```json policy=([a-z]+)\n(.*?)^ *```$")

// giveRoles gives accounts that are called like roles exactly the rights that docs/SECURITY.md says, and no others. All at once are more than versitygw
// keeps in one policy.
func (r *rig) giveRoles(roles ...string) {
	r.t.Helper()
	documented := map[string]string{}
	for _, m := range policyBlock.FindAllStringSubmatch(readFile(r.t, filepath.Join(lab.Root(), "docs", "SECURITY.md")), -1) {
		documented[m[1]] = strings.NewReplacer("BUCKET", r.s3.Bucket, "PREFIX", "lab", "CLUSTER", "main").Replace(m[2])
	}
	var all []any
	for _, role := range roles {
		var doc struct{ Statement []map[string]any }
		if err := json.Unmarshal([]byte(documented[role]), &doc); err != nil || len(doc.Statement) == 0 {
			r.t.Fatalf("policy %s: %v", role, err)
		}
		r.s3.CreateUser(role, role+role)
		for i, s := range doc.Statement {
			s["Principal"], s["Sid"] = map[string]any{"AWS": []string{role}}, fmt.Sprint(role, i)
			all = append(all, s)
		}
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	if err != nil {
		r.t.Fatal(err)
	}
	r.s3.PutBucketPolicy(string(text))
}

// as writes a role's keys and starts a daemon with them.
func (r *rig) as(role string, s settings) *stewardd {
	r.t.Helper()
	sub := *r
	sub.dir = r.t.TempDir()
	sub.write("access", role, 0o600)
	sub.write("secret", role+role, 0o600)
	sub.write("identity", r.identity.String(), 0o600)
	s.name = role
	return sub.start(s)
}

// TestRoles: with the documented least privilege, a master backs up and says once what it may not do; a janitor's daemon prunes what the master must
// not, and a verifier's reads what it cannot.
func TestRoles(t *testing.T) {
	r := newRig(t, lab.S3Options{Accounts: true})
	r.giveRoles("backup", "janitor", "restore")
	// Old enough for retention to let go of some.
	for i := range 6 {
		r.takeOld(time.Duration(6-i) * 24 * time.Hour)
	}
	keepOne := "  retention: {last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0}"
	master := r.as("backup", settings{schedule: "@every 2s", prune: "@every 2s", verify: "@every 2s", more: keepOne})
	master.awaitMetric(60*time.Second, "steward_repository_backups", func(v float64) bool { return v >= 4 })
	master.awaitMetric(60*time.Second, "steward_job_not_allowed", is(1), "task=verify-bytes")
	master.awaitMetric(60*time.Second, "steward_job_not_allowed", is(1), "task=prune")
	if n := r.oldOnes(); n != 6 {
		t.Errorf("%d of 6 old backups are left by a master that may not delete", n)
	}

	verifier := r.as("restore", settings{schedule: "never", verify: "@every 2s", identity: true})
	verifier.awaitMetric(60*time.Second, "steward_verified_timestamp_seconds", positive, "level=database")
	janitor := r.as("janitor", settings{schedule: "never", prune: "@every 2s", more: keepOne})
	lab.Eventually(t, 60*time.Second, "the janitor prunes", func() error {
		if n := r.oldOnes(); n > 0 {
			return fmt.Errorf("%d old backups", n)
		}
		return nil
	})

	for _, d := range []*stewardd{master, verifier, janitor} {
		for _, m := range d.families()["steward_job_failures_total"].GetMetric() {
			t.Errorf("%s failed: %v", d.settings.name, m)
		}
		d.term(15 * time.Second)
	}
	if n := strings.Count(master.log(), "do not allow this"); n != 2 {
		t.Errorf("the master says %d times what it may not do, want once for each of two jobs", n)
	}
	if n := strings.Count(verifier.log(), "this one works alone"); n != 1 {
		t.Errorf("the verifier says %d times that it works alone, want once", n)
	}
	for _, d := range []*stewardd{verifier, janitor} {
		if strings.Contains(d.log(), "do not allow this") {
			t.Errorf("%s may not do what it is there for:\n%s", d.settings.name, d.Tail(4<<10))
		}
	}
}

// takeOld takes a backup as it would have been taken some time ago.
func (r *rig) takeOld(ago time.Duration) {
	r.t.Helper()
	_, err := backup.Create(r.t.Context(), backup.CreateOptions{
		Repo: r.repo(""), Cluster: snapshot.Cluster{Endpoints: r.etcd.Endpoints(), TLS: r.etcd.TLSConfig(r.t)}, Host: "test",
		Spool: snapshot.SpoolOptions{Dir: r.t.TempDir(), Recipients: []age.Recipient{r.identity.Recipient()}},
		Now:   func() time.Time { return time.Now().Add(-ago) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// oldOnes counts the backups that takeOld took.
func (r *rig) oldOnes() int {
	n := 0
	for _, e := range r.catalog("").Backups() {
		if time.Since(e.ID.Time()) > 12*time.Hour {
			n++
		}
	}
	return n
}

// TestCompactOnSchedule: with the documented least privilege, a daemon beside the masters makes full snapshots from the change log, without etcd, when
// something has changed; what is restored from one is what the cluster had.
func TestCompactOnSchedule(t *testing.T) {
	r := newRig(t, lab.S3Options{Accounts: true})
	r.giveRoles("backup", "compact")
	master := r.as("backup", settings{schedule: "0 0 1 1 *", changes: quick})
	master.awaitReady(30*time.Second, http.StatusOK, "ok")
	first := r.put(50)
	master.awaitRecorded(30*time.Second, first)
	compactor := r.as("compact", settings{schedule: "never", compact: "@every 2s", identity: true})
	compactor.awaitMetric(60*time.Second, "steward_repository_backups", is(2))
	second := r.put(50)
	master.awaitRecorded(30*time.Second, second)
	compactor.awaitMetric(60*time.Second, "steward_repository_backups", is(3))
	compactor.awaitLog(30*time.Second, "nothing to compact")
	for _, d := range []*stewardd{master, compactor} {
		for _, m := range d.families()["steward_job_failures_total"].GetMetric() {
			t.Errorf("%s failed: %v", d.settings.name, m)
		}
		d.term(20 * time.Second)
	}
	backups := r.catalog("").Backups()
	if len(backups) != 3 {
		t.Fatalf("%d backups, want one from etcd and two from the change log", len(backups))
	}
	for _, e := range backups[1:] {
		m, err := r.repo("").Manifest(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if m.MadeFrom == nil || int64(e.Revision) < first {
			t.Errorf("backup %s of revision %d is not from the change log: %+v", e.ID, e.Revision, m.MadeFrom)
		}
		r.mustEqual(0, "", int64(e.Revision))
	}
	if rev := int64(backups[2].Revision); rev < second {
		t.Errorf("the last compaction is of revision %d, recorded was %d", rev, second)
	}
	if n := strings.Count(compactor.log(), "this one works alone"); n != 1 {
		t.Errorf("the compactor says %d times that it works alone, want once", n)
	}
}
