package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
)

// testCluster is the cluster ID of the rig's backups.
const testCluster = repo.ClusterID(0xc1)

// rig is a repository in a folder, with backups made of real db files: the verbs under test do not care who streamed them.
type rig struct {
	dir  string // the store's folder
	st   store.Store
	repo *repo.Repo
	id   *age.X25519Identity
	term uint64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), term: 2}
	var err error
	if r.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if r.st, err = store.Open(t.Context(), store.Config{URL: "file://" + r.dir}); err != nil {
		t.Fatal(err)
	}
	r.repo = r.open(t)
	if err := r.repo.Admit(t.Context(), testCluster, time.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) open(t testing.TB) *repo.Repo {
	t.Helper()
	opened, err := repo.Open(t.Context(), r.st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// snapshotFile makes a real etcd database with some keys and the trailer that a snapshot stream ends with.
func snapshotFile(t testing.TB, keys int) (content []byte, info dbfile.Info) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	be := backend.NewDefaultBackend(zap.NewNop(), path)
	kv := mvcc.NewStore(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	for i := range keys {
		kv.Put(fmt.Appendf(nil, "/registry/pods/default/pod-%04d", i), fmt.Appendf(nil, "plain-value-%04d", i), lease.NoLease)
	}
	kv.Commit()
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	path = compacted(t, path)
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err = f.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return append(content, sum[:]...), info
}

// compacted is the file without the 16 MiB by which etcd lets it grow: what is checked ten thousand times should be small.
func compacted(t testing.TB, path string) string {
	t.Helper()
	src, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	dst, err := bbolt.Open(path+".small", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bbolt.Compact(dst, src, 0), src.Close(), dst.Close()); err != nil {
		t.Fatal(err)
	}
	return path + ".small"
}

// add stores a backup of content, taken at a time, encrypted or not.
func (r *rig) add(t testing.TB, content []byte, info dbfile.Info, at time.Time, encrypted bool) *repo.Manifest {
	t.Helper()
	m, object := r.sealed(t, content, info, at, encrypted)
	r.put(t, m, object)
	return m
}

func (r *rig) put(t testing.TB, m *repo.Manifest, object []byte) {
	t.Helper()
	if err := r.repo.PutData(t.Context(), m, store.Source{Reader: bytes.NewReader(object), Size: int64(len(object)), SHA256: m.Object.SHA256}); err != nil {
		t.Fatal(err)
	}
	if err := r.repo.PutManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) sealed(t testing.TB, content []byte, info dbfile.Info, at time.Time, encrypted bool) (*repo.Manifest, []byte) {
	t.Helper()
	var object bytes.Buffer
	var o envelope.Options
	if encrypted {
		o.Recipients = []age.Recipient{r.id.Recipient()}
	}
	w, err := envelope.NewWriter(&object, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var sum repo.SHA256
	copy(sum[:], content[len(content)-trailerSize:])
	m := &repo.Manifest{
		ID: repo.NewSnapshotID(at), Cluster: "main", Timeline: repo.Timeline{Cluster: testCluster, Cut: 1}, Database: database(info, sum),
		Source: repo.Source{EtcdVersion: "3.7.3", MemberID: "00000000000000aa", MemberName: "m1", Quorum: true, RaftTerm: r.term, RaftIndex: 9, Host: "h", Steward: "test", Seconds: 0.1},
	}
	m.Object = sealed.Object(repo.DataKey(m.Timeline, info.Revision, m.ID, encrypted))
	return m, object.Bytes()
}

// file is where an object of the repository lies.
func (r *rig) file(key string) string { return filepath.Join(r.dir, "main", key) }

// objects are the keys of all objects of the repository.
func (r *rig) objects(t testing.TB) []string {
	t.Helper()
	var keys []string
	for info, err := range r.repo.Store().List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// readOnly is a store as a role that may not write sees it.
type readOnly struct{ store.Store }

func (readOnly) Put(_ context.Context, key string, _ store.Source, _ store.PutOptions) (store.Info, error) {
	return store.Info{}, &store.Error{Op: "put", Key: key, Kind: store.Denied}
}

func (readOnly) Delete(_ context.Context, key string) error {
	return &store.Error{Op: "delete", Key: key, Kind: store.Denied}
}
