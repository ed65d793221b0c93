package record

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// snapshot saves a snapshot stream and says what it holds.
func (r *rig) snapshot(t repo.Timeline) (string, cover.Snapshot) {
	r.t.Helper()
	body, err := r.cli.Snapshot(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	path := filepath.Join(r.t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(f, body); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
	db, err := dbfile.Open(path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rev, compact, err := db.Revisions()
	if err != nil {
		r.t.Fatal(err)
	}
	// The recorder compares what a manifest says with what a member says.
	info, err := db.Info(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if auth, err := r.cli.AuthStatus(r.t.Context()); err != nil || auth.AuthRevision != info.AuthRevision {
		r.t.Fatalf("the file has auth revision %d, the member says %v (%v)", info.AuthRevision, auth, err)
	}
	return path, cover.Snapshot{Entry: repo.Entry{Timeline: t, Revision: rev}, Compact: compact}
}

// TestExact: what the recorder wrote, rebuilt on a snapshot at revisions of any choice, has the hash that the live member had there, on every version of etcd.
func TestExact(t *testing.T) {
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{Version: version})
			o := r.options()
			o.SegmentSize = 100 << 10
			run := r.start(o)
			run.has(SignalFirst)
			s := lab.Seed(t)
			rng := rand.New(rand.NewPCG(s, 1))
			w := &changestest.Workload{Client: r.cli, Seed: s, Leases: true, TTL: 1, Wide: 150, Compact: 80, CompactKeep: 300}
			if _, err := w.Run(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
			path, base := r.snapshot(run.timeline())
			noted := map[repo.Revision]*clientv3.HashKVResponse{}
			for range 6 {
				rev, err := w.Run(t.Context(), 20+rng.IntN(60))
				if err != nil {
					t.Fatal(err)
				}
				noted[repo.Revision(rev)] = r.c.HashKV(t, 0, rev)
				run.Prove()
			}
			last := r.put(1)
			run.waitStored(last)
			_ = run.stop()
			c, err := r.repo.Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for rev, live := range noted {
				r.rebuilt(c, path, base, rev, live)
			}
		})
	}
}

// rebuilt rebuilds one revision and compares its hash with the live one's.
func (r *rig) rebuilt(c *repo.Catalog, path string, base cover.Snapshot, rev repo.Revision, live *clientv3.HashKVResponse) {
	r.t.Helper()
	plan, err := cover.Cover([]cover.Snapshot{base}, c.Segments, base.Timeline, rev)
	if err != nil {
		r.t.Fatal(err)
	}
	dst := filepath.Join(r.t.TempDir(), "db")
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(dst, b, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if _, err := rebuild.To(r.t.Context(), rebuild.Options{
		Path: dst, Target: rev, Timeline: base.Timeline, Segments: rebuild.FromRepo(r.repo, plan.Segments, r.ids),
	}); err != nil {
		r.t.Fatalf("rebuild revision %d: %v", rev, err)
	}
	db, err := dbfile.Open(dst)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	hash, err := db.HashKV(r.t.Context(), rev, repo.Revision(max(0, live.CompactRevision)))
	if err != nil {
		r.t.Fatal(err)
	}
	if hash != live.Hash {
		r.t.Errorf("revision %d rebuilt has hash %d, the member said %d (compacted at %d)", rev, hash, live.Hash, live.CompactRevision)
	}
}
