package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"time"

	"etcd-steward/backup/store"
)

var day = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const (
	clusterA ClusterID = 0xcdf818194e3a8c32
	clusterB ClusterID = 0x1234
)

func fileStore(t testing.TB) (store.Store, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(context.Background(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return st, dir
}

func openRepo(t testing.TB, st store.Store) *Repo {
	t.Helper()
	r, err := Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newManifest describes a backup of 544 bytes of content in one block; data is what its object holds.
func newManifest(tl Timeline, rev Revision, at time.Time) (m *Manifest, data []byte) {
	data = make([]byte, 400)
	_, _ = rand.Read(data)
	id := NewSnapshotID(at)
	m = &Manifest{
		ID: id, Cluster: "main", Timeline: tl,
		Database: Database{Revision: rev, Keys: 7, HashKV: 99, Size: 512, SHA256: sha256.Sum256([]byte("db"))},
		Source:   Source{EtcdVersion: "3.6.16", MemberID: "8e9e05c52164694d", Quorum: true, RaftTerm: 5, RaftIndex: 1000, Host: "m1", Steward: "test"},
		Object: Object{
			Key: DataKey(tl, rev, id, true), Size: 400, SHA256: sha256.Sum256(data), Recipients: []string{"age1test"},
			BlockSize: 1 << 20, Blocks: []Block{{Size: 200, SHA256: sha256.Sum256(data[:200])}},
		},
	}
	return m, data
}

func source(data []byte) store.Source {
	return store.Source{Reader: bytes.NewReader(data), Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// takeBackup writes a whole backup.
func takeBackup(t testing.TB, r *Repo, tl Timeline, rev Revision, at time.Time) *Manifest {
	t.Helper()
	m, data := newManifest(tl, rev, at)
	if err := r.PutData(t.Context(), m, source(data)); err != nil {
		t.Fatal(err)
	}
	if err := r.PutManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func catalog(t testing.TB, r *Repo) *Catalog {
	t.Helper()
	c, err := r.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func putRaw(t testing.TB, st store.Store, key string, data []byte) {
	t.Helper()
	if _, err := st.Put(t.Context(), key, source(data), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func getRaw(t testing.TB, st store.Store, key string) []byte {
	t.Helper()
	body, err := st.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func exists(t testing.TB, st store.Store, key string) bool {
	t.Helper()
	_, err := st.Head(t.Context(), key)
	if err != nil && !errors.Is(err, store.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// keysOf lists a store.
func keysOf(t testing.TB, st store.Store) []string {
	t.Helper()
	var keys []string
	for info, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func sumHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
