package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TestSameAsEtcdutl is the differential test: for the same input, every bucket, the write-ahead log and the raft snapshot are those
// that etcdutl's own restore makes.
func TestSameAsEtcdutl(t *testing.T) {
	for _, minor := range []string{"3.5", "3.6", "3.7"} {
		t.Run(minor, func(t *testing.T) {
			t.Parallel()
			s := takeSnapshot(t, minor, variety)
			for _, members := range []int{1, 3} {
				for _, bump := range []int64{0, 1_000_000_000} {
					all := bootstraps(t, "a-new-token", members)
					for _, b := range []Bootstrap{all[0], all[members-1]} {
						t.Run(fmt.Sprintf("%d members, bump %d, %s", members, bump, b.Name), func(t *testing.T) {
							compareWithEtcdutl(t, s, b, bump)
						})
					}
				}
			}
		})
	}
}

func compareWithEtcdutl(t *testing.T, s source, b Bootstrap, bump int64) {
	want := filepath.Join(t.TempDir(), "etcdutl")
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: s.path, Name: b.Name, OutputDataDir: want, PeerURLs: b.PeerURLs, InitialCluster: b.InitialCluster,
		InitialClusterToken: b.Token, RevisionBump: uint64(bump), MarkCompacted: bump > 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := place(t, s)
	r, err := Build(Config{Dir: got, Bootstrap: b, Bump: bump})
	if err != nil {
		t.Fatal(err)
	}
	if r.Revision != s.revision || r.CompactRevision != s.compact || int64(r.NewRevision) != int64(s.revision)+bump {
		t.Errorf("got revision %d, compacted at %d, new %d; want %d, %d, %d", r.Revision, r.CompactRevision, r.NewRevision, s.revision, s.compact, int64(s.revision)+bump)
	}
	if len(r.Cleared)+len(r.Kept) > 0 {
		t.Errorf("cleared %q and kept %q in a file without traps", r.Cleared, r.Kept)
	}
	if diff := cmp.Diff(files(t, want), files(t, got)); diff != "" {
		t.Errorf("files (-etcdutl +ours):\n%s", diff)
	}
	if diff := cmp.Diff(buckets(t, want), buckets(t, got)); diff != "" {
		t.Errorf("buckets (-etcdutl +ours):\n%s", diff)
	}
	if diff := cmp.Diff(raftLog(t, want), raftLog(t, got)); diff != "" {
		t.Errorf("raft log and snapshot (-etcdutl +ours):\n%s", diff)
	}
}

// files are the names below a data directory, with their modes.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all[strings.TrimPrefix(path, dir)] = info.Mode().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(all, "") // the top folder's mode is the caller's affair
	return all
}

// buckets is the whole content of a db file, after bbolt's own check of it.
func buckets(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	db, err := bbolt.Open(DBPath(dir), 0o600, &bbolt.Options{NoFreelistSync: true, Timeout: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("%s: bbolt check: %v", dir, err)
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			content := map[string]string{}
			all[string(name)] = content
			return b.ForEach(func(k, v []byte) error {
				content[string(k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// raftLog is what etcd would read back from the write-ahead log and the raft snapshot, as text.
func raftLog(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	text := func(m proto.Message) string {
		b, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), " ", "") // protojson adds spaces at random, on purpose
	}
	marks, err := wal.ValidSnapshotEntries(zap.NewNop(), WALPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range marks {
		out[fmt.Sprintf("wal snapshot %d", i)] = text(m)
	}
	w, err := wal.Open(zap.NewNop(), WALPath(dir), &walpb.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	metadata, state, entries, err := w.ReadAll()
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	out["metadata"], out["hard state"] = string(metadata), text(state)
	for i, e := range entries {
		out[fmt.Sprintf("entry %d", i)] = text(e)
	}
	sn, err := snap.New(zap.NewNop(), filepath.Dir(DBPath(dir))).Load()
	if err != nil {
		t.Fatal(err)
	}
	out["snapshot metadata"] = text(sn.Metadata)
	out["snapshot members"] = membershipOf(t, sn.Data)
	return out
}

// membershipOf is the tree of the v2 store in a raft snapshot, without its counters and its history: etcd fills it in the order of a Go map.
func membershipOf(t *testing.T, data []byte) string {
	t.Helper()
	var store struct{ Root any }
	if err := json.Unmarshal(data, &store); err != nil {
		t.Fatal(err)
	}
	var strip func(v any)
	strip = func(v any) {
		if m, ok := v.(map[string]any); ok {
			delete(m, "CreatedIndex")
			delete(m, "ModifiedIndex")
			for _, child := range m {
				strip(child)
			}
		}
	}
	strip(store.Root)
	b, err := json.Marshal(store.Root)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "peerURLs") {
		t.Fatalf("no members in %s", b)
	}
	return string(b)
}

// TestBoundedWork: the edit opens the file without scanning it, leaves no list of free pages behind, and adds little.
func TestBoundedWork(t *testing.T) {
	s := takeSnapshot(t, "3.6", variety)
	dir := place(t, s)
	before, err := os.Stat(DBPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Build(Config{Dir: dir, Bootstrap: bootstraps(t, "new", 3)[0], Bump: 5}); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(DBPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.Size() - before.Size(); grown <= 0 || grown > 64*4096 {
		t.Errorf("the edit grew the file by %d bytes, want a few pages", grown)
	}
	f, err := os.Open(DBPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m, err := newestMeta(f)
	if err != nil {
		t.Fatal(err)
	}
	if m.Freelist != noFreelist {
		t.Errorf("the file names a list of free pages at %d: etcd would believe it and never use the old ones again", m.Freelist)
	}
	if got, want := after.Size(), int64(m.Pgid)*int64(m.PageSize); got < want {
		t.Errorf("the file has %d bytes, its pages take %d", got, want)
	}
}
