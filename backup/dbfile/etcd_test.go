package dbfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// workload changes a few keys in every way that a client can, from one seed.
type workload struct {
	t      *testing.T
	cli    *clientv3.Client
	rng    *rand.Rand
	leases []clientv3.LeaseID
	rev    int64
}

const workloadKeys = 300

func (w *workload) key() string { return fmt.Sprintf("key-%03d", w.rng.IntN(workloadKeys)) }

func (w *workload) step() {
	w.t.Helper()
	ctx := w.t.Context()
	var err error
	value := string(make([]byte, w.rng.IntN(200)*w.rng.IntN(2)))
	switch n := w.rng.IntN(100); {
	case n < 60:
		var r *clientv3.PutResponse
		if r, err = w.cli.Put(ctx, w.key(), value, w.lease()...); err == nil {
			w.rev = r.Header.Revision
		}
	case n < 75:
		var r *clientv3.DeleteResponse
		if r, err = w.cli.Delete(ctx, w.key()); err == nil {
			w.rev = r.Header.Revision
		}
	case n < 78:
		from := w.rng.IntN(workloadKeys - 20)
		var r *clientv3.DeleteResponse
		if r, err = w.cli.Delete(ctx, fmt.Sprintf("key-%03d", from), clientv3.WithRange(fmt.Sprintf("key-%03d", from+1+w.rng.IntN(20)))); err == nil {
			w.rev = r.Header.Revision
		}
	case n < 97:
		var r *clientv3.TxnResponse
		if r, err = w.cli.Txn(ctx).Then(w.ops(value)...).Commit(); err == nil {
			w.rev = r.Header.Revision
		}
	case n < 99 || len(w.leases) == 0:
		var r *clientv3.LeaseGrantResponse
		if r, err = w.cli.Grant(ctx, 3600); err == nil {
			w.leases = append(w.leases, r.ID)
		}
	default:
		i := w.rng.IntN(len(w.leases))
		_, err = w.cli.Revoke(ctx, w.leases[i])
		w.leases = append(w.leases[:i], w.leases[i+1:]...)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// ops are puts and deletes of different keys.
func (w *workload) ops(value string) (ops []clientv3.Op) {
	for _, k := range w.rng.Perm(workloadKeys)[:1+w.rng.IntN(30)] {
		if key := fmt.Sprintf("key-%03d", k); w.rng.IntN(4) == 0 {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, value, w.lease()...))
		}
	}
	return ops
}

func (w *workload) lease() []clientv3.OpOption {
	if len(w.leases) == 0 || w.rng.IntN(3) > 0 {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithLease(w.leases[w.rng.IntN(len(w.leases))])}
}

// save takes a snapshot with etcd's own client.
func (w *workload) save() string {
	w.t.Helper()
	r, err := w.cli.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(w.t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	return path
}

type liveHash struct {
	at, compact int64
	hash        uint32
}

// TestHashOfLiveMembers: for each version of etcd, snapshots of a busy member give every hash that the member itself gave, also those
// for compactions that came after the snapshot.
func TestHashOfLiveMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for i, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
			seed := uint64(41 + i)
			t.Logf("seed %d", seed)
			w := &workload{t: t, cli: c.Client(t), rng: rand.New(rand.NewPCG(seed, 0))}
			var live []liveHash
			var files []string
			for round := range 4 {
				for range 300 {
					w.step()
				}
				files = append(files, w.save())
				if round > 0 {
					if _, err := w.cli.Compact(t.Context(), w.rev-w.rng.Int64N(200), clientv3.WithCompactPhysical()); err != nil {
						t.Fatal(err)
					}
				}
				for range 60 {
					if h, ok := ask(t, c, w.rev-w.rng.Int64N(260)); ok {
						live = append(live, h)
					}
				}
			}
			n := 0
			for _, path := range append(files, w.save()) {
				n += compareLive(t, path, live)
			}
			t.Logf("%d hashes compared", n)
			if n < 40 {
				t.Errorf("only %d hashes could be compared", n)
			}
			checkCounts(t, w, c)
			bumped(t, w, c)
		})
	}
}

// ask is member 0's answer; false when the revision is compacted.
func ask(t *testing.T, c *lab.Cluster, at int64) (liveHash, bool) {
	t.Helper()
	cli := c.ClientOf(t, 0)
	defer cli.Close()
	r, err := cli.HashKV(t.Context(), c.Endpoint(0), at)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return liveHash{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	if at == 0 {
		at = r.Header.Revision
	}
	return liveHash{at, r.CompactRevision, r.Hash}, true
}

func compareLive(t *testing.T, path string, live []liveHash) (n int) {
	t.Helper()
	f := open(t, path)
	rev, compact, err := f.Revisions()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, h := range live {
		if revision.Revision(h.at) > rev || revision.Revision(h.compact) < compact {
			continue
		}
		n++
		got, err := f.HashKV(t.Context(), revision.Revision(h.at), revision.Revision(h.compact))
		if err != nil || got != h.hash {
			t.Errorf("hash at %d, compacted at %d, of a file of revision %d, compacted at %d: got %d, want %d (%v)", h.at, h.compact, rev, compact, got, h.hash, err)
		}
	}
	return n
}

func open(t *testing.T, path string) *dbfile.File {
	t.Helper()
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func info(t *testing.T, path string) dbfile.Info {
	t.Helper()
	f := open(t, path)
	defer f.Close() // an etcd that starts on the file would wait for it
	i, err := f.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// checkCounts compares everything else that Info says with what the cluster says.
func checkCounts(t *testing.T, w *workload, c *lab.Cluster) {
	t.Helper()
	ctx := t.Context()
	got := info(t, w.save())
	keys, err := w.cli.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	leases, err := w.cli.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := ask(t, c, 0)
	if got.Keys != keys.Count || got.Leases != len(leases.Leases) || int64(got.Revision) != keys.Header.Revision || got.HashKV != h.hash || int64(got.CompactRevision) != h.compact {
		t.Errorf("got %+v, want %d keys, %d leases, revision %d, hash %+v", got, keys.Count, len(leases.Leases), keys.Header.Revision, h)
	}
}

// bumped: what etcdutl makes of a snapshot with a bumped revision has a compaction that is only scheduled, and a record without a
// key. The member that starts on it agrees.
func bumped(t *testing.T, w *workload, c *lab.Cluster) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	lab.Etcdutl(t, "snapshot", "restore", w.save(), "--data-dir", dir, "--bump-revision", "1000000", "--mark-compacted")
	got := info(t, filepath.Join(dir, "member", "snap", "db"))
	r := lab.StartEtcdOn(t, c.Version, dir)
	h, _ := ask(t, r, 0)
	keys, err := r.Client(t).Get(context.Background(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	want := liveHash{int64(got.Revision), int64(got.CompactRevision), got.HashKV}
	if h != want || got.Keys != keys.Count || got.Revision != got.CompactRevision {
		t.Errorf("after a bump: the file says %+v with %d keys, the member %+v with %d", want, got.Keys, h, keys.Count)
	}
}
