package dbfile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"etcd-steward/backup/revision"
)

// answer is what etcd's own store said.
type answer struct {
	at, compact, hash, keys int64
	cached                  bool // it was computed at a compaction, for the compaction before
}

// etcdStore is etcd's own multi-version store, in this process.
type etcdStore struct {
	t  *testing.T
	be backend.Backend
	kv mvcc.KV
}

func newStore(t *testing.T) *etcdStore {
	t.Helper()
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.UnsafeNoFsync = filepath.Join(t.TempDir(), "db"), true
	be := backend.New(cfg)
	tx := be.BatchTx()
	tx.LockOutsideApply()
	schema.UnsafeCreateLeaseBucket(tx)
	schema.UnsafeCreateMetaBucket(tx)
	tx.Unlock()
	s := &etcdStore{t: t, be: be, kv: mvcc.NewStore(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})}
	t.Cleanup(func() {
		_ = s.kv.Close()
		_ = be.Close()
	})
	return s
}

// snapshot writes the database as etcd's Snapshot does.
func (s *etcdStore) snapshot() string {
	s.t.Helper()
	s.kv.Commit()
	path := filepath.Join(s.t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	snap := s.be.Snapshot()
	defer snap.Close()
	if _, err := snap.WriteTo(f); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// ask is etcd's answer at a revision, 0 for the newest; false when it has none. Keys are counted at the newest only.
func (s *etcdStore) ask(at int64) (answer, bool) {
	s.t.Helper()
	h, _, err := s.kv.HashStorage().HashByRev(at)
	if err != nil {
		return answer{}, false
	}
	a := answer{cached: h.CompactRevision != s.kv.FirstRev(), at: h.Revision, compact: h.CompactRevision, hash: int64(h.Hash), keys: -1}
	if at == 0 {
		r, err := s.kv.Range(context.Background(), []byte{0}, []byte{}, mvcc.RangeOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		a.keys = int64(len(r.KVs))
	}
	return a, true
}

// step is one random change: puts and deletes of few keys, so that they collide; now and then everything goes.
func (s *etcdStore) step(rng *rand.Rand, keys int) {
	tx := s.kv.Write(traceutil.TODO())
	defer tx.End()
	first := rng.IntN(keys)
	for i := range 1 + rng.IntN(4) { // different keys: etcd refuses the same key twice in one transaction
		key := fmt.Appendf(nil, "key-%04d", (first+i)%keys)
		if rng.IntN(3) == 0 {
			tx.DeleteRange(key, nil)
		} else {
			tx.Put(key, make([]byte, rng.IntN(40)*rng.IntN(3)), lease.NoLease)
		}
	}
}

// TestHashOfRandomHistories compares with etcd's own code at many revisions of many histories, the file having more history than the
// store that was asked.
func TestHashOfRandomHistories(t *testing.T) {
	compared := 0
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newStore(t)
			keys := 1 + rng.IntN(60)
			var answers []answer
			var snapshots []string
			for range 8 {
				for range 10 + rng.IntN(60) {
					s.step(rng, keys)
				}
				if rng.IntN(4) == 0 {
					s.kv.DeleteRange([]byte{0}, []byte{})
				}
				snapshots = append(snapshots, s.snapshot())
				rev := s.kv.Rev()
				if rng.IntN(2) == 0 {
					// Often at the newest revision, where a tombstone may be.
					done, err := s.kv.Compact(traceutil.TODO(), rev-int64(rng.IntN(2)*rng.IntN(30)))
					if err == nil {
						<-done
					}
				}
				for range 12 {
					if a, ok := s.ask(1 + rng.Int64N(rev)); ok {
						answers = append(answers, a)
					}
				}
				if a, ok := s.ask(0); ok {
					answers = append(answers, a)
				}
			}
			for _, path := range append(snapshots, s.snapshot()) {
				compared += compare(t, path, answers)
			}
		})
	}
	if compared < 2000 {
		t.Errorf("only %d hashes could be compared", compared)
	}
}

// compare holds a file's hashes against etcd's where the file has the history for it, and says how many there were.
func compare(t *testing.T, path string, answers []answer) int {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Check(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := f.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range answers {
		at, compact := revision.Revision(a.at), revision.Revision(a.compact)
		if at > info.Revision || compact < info.CompactRevision {
			continue
		}
		if a.cached && noKeys(t, f, a.at) {
			continue // see the comment of HashKV
		}
		n++
		got, err := f.HashKV(t.Context(), at, compact)
		if err != nil || int64(got) != a.hash {
			t.Errorf("%s (revision %d, compacted at %d): hash at %d with compaction at %d is %d, want %d (%v)",
				filepath.Base(path), info.Revision, info.CompactRevision, at, compact, got, a.hash, err)
		}
		if at == info.Revision && a.keys >= 0 && info.Keys != a.keys {
			t.Errorf("%s: %d keys at %d, want %d", filepath.Base(path), info.Keys, at, a.keys)
		}
	}
	return n
}

// noKeys says whether no key exists at a revision.
func noKeys(t *testing.T, f *File, at int64) bool {
	t.Helper()
	h, err := f.history(t.Context(), at, 0)
	if err != nil {
		t.Fatal(err)
	}
	return h.keys == 0
}
