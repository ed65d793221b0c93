package daemon

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
)

// putBackup writes a whole backup of 400 bytes.
func putBackup(t *testing.T, r *repo.Repo, rev repo.Revision, at time.Time, from *repo.MadeFrom) {
	t.Helper()
	data := bytes.Repeat([]byte{byte(rev)}, 400)
	id := repo.NewSnapshotID(at)
	m := &repo.Manifest{
		ID: id, Cluster: "main", Timeline: line, MadeFrom: from,
		Database: repo.Database{Revision: rev, Keys: 7, HashKV: 99, Size: 512, SHA256: sha256.Sum256([]byte("db"))},
		Source:   repo.Source{EtcdVersion: "3.6.16", MemberID: "8e9e05c52164694d", Quorum: true, RaftTerm: 5, RaftIndex: 1000, Host: "m1", Steward: "test"},
		Object: repo.Object{
			Key: repo.DataKey(line, rev, id, true), Size: 400, SHA256: sha256.Sum256(data), Recipients: []string{"age1test"},
			BlockSize: 1 << 20, Blocks: []repo.Block{{Size: 200, SHA256: sha256.Sum256(data[:200])}},
		},
	}
	if err := r.PutData(t.Context(), m, store.Source{Reader: bytes.NewReader(data), Size: 400, SHA256: sha256.Sum256(data)}); err != nil {
		t.Fatal(err)
	}
	if err := r.PutManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// TestCompactedTakesNoTick: a tick of the snapshot schedule is done by a backup that was streamed from etcd, and never by one that was made offline and
// happens to be dated behind it.
func TestCompactedTakesNoTick(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{name: "main", repo: r, cfg: &config.Cluster{}, log: slog.New(slog.DiscardHandler), state: newState().cluster("main")}
	c.cfg.Snapshot.Schedule, c.cfg.Snapshot.Compact, c.cfg.Prune.Schedule, c.cfg.Verify.Schedule, c.cfg.Verify.Deep = "@hourly", "never", "never", "never", "never"
	tick := time.Now().Add(-time.Minute)
	id := repo.NewSnapshotID(tick.Add(-time.Hour))
	putBackup(t, r, 10, tick.Add(-time.Hour), nil)
	putBackup(t, r, 20, tick.Add(30*time.Second), &repo.MadeFrom{Snapshot: id, Revision: 10, First: 11, Last: 20, Segments: 1, Made: time.Now().UTC(), Host: "m1", Steward: "test"})
	done := c.jobs()[0].done
	check := func(want bool, when string) {
		t.Helper()
		if got, err := done(t.Context(), tick); err != nil || got != want {
			t.Fatalf("the tick is done: %v (%v), want %v %s", got, err, want, when)
		}
	}
	check(false, "when only a compacted backup is dated behind it")
	putBackup(t, r, 15, tick.Add(time.Second), nil)
	check(true, "when one was streamed")
}
