package rebuild_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

var versions = []string{"3.5", "3.6", "3.7"}

// boot restores a db file with stock etcdutl and starts a member on it.
func boot(t *testing.T, version, path string, args ...string) (*lab.Cluster, *clientv3.Client) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	lab.Etcdutl(t, "snapshot", "restore", path, "--skip-hash-check", "--data-dir", dir)
	c := lab.StartEtcdOn(t, version, dir, args...)
	return c, c.Client(t)
}

func grant(t *testing.T, cli *clientv3.Client, ttl int64) clientv3.LeaseID {
	t.Helper()
	l, err := cli.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l.ID
}

func putKey(t *testing.T, cli *clientv3.Client, key, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	r, err := cli.Put(t.Context(), key, value, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// everything is all that a cluster says of its keys at a revision: values, create and mod revisions, versions, leases.
func everything(t *testing.T, cli *clientv3.Client, rev int64) map[string]string {
	t.Helper()
	resp, err := cli.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range resp.Kvs {
		out[string(kv.Key)] = fmt.Sprintf("%q created %d modified %d version %d lease %x", kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
	}
	return out
}

// TestBoot: a real member starts on a rebuilt file, serves exactly what the cluster had, and goes on from there; leased keys are leased:
// a lease that is kept alive lives, one that is not expires with its keys (as one that ran out during the restore would), one that is
// revoked takes its keys with it.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			testBoot(t, v)
		})
	}
}

func testBoot(t *testing.T, version string) {
	c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
	cli := c.Client(t)
	rec := record(t, cli, 2, 50)
	old := grant(t, cli, 600)
	putKey(t, cli, "old", "1", clientv3.WithLease(old))
	snap := snapshot(t, cli)
	lab.Fill(t, cli, lab.FillOptions{Keys: 5000, ValueSize: 100})
	short, long, kept, gone := grant(t, cli, 3), grant(t, cli, 3600), grant(t, cli, 3), grant(t, cli, 600)
	for i := range 5 {
		putKey(t, cli, fmt.Sprint("short/", i), "1", clientv3.WithLease(short))
		putKey(t, cli, fmt.Sprint("long/", i), "1", clientv3.WithLease(long))
		putKey(t, cli, fmt.Sprint("kept/", i), "1", clientv3.WithLease(kept))
		putKey(t, cli, fmt.Sprint("gone/", i), "1", clientv3.WithLease(gone))
	}
	if _, err := cli.Revoke(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	rec.look(t)
	unseen := grant(t, cli, 600)
	target := putKey(t, cli, "unseen", "1", clientv3.WithLease(unseen))
	want := everything(t, cli, target)
	putKey(t, cli, "old", "2")
	path, res := equalAt(t, c, snap, rec.until(t, target+1), target)
	if d := cmp.Diff([]int64{int64(unseen)}, res.Assumed); d != "" || res.Leases != 5 {
		t.Fatalf("%d leases, assumed (-want +got):\n%s", res.Leases, d)
	}

	c2, cli2 := boot(t, version, path)
	if d := cmp.Diff(want, everything(t, cli2, target)); d != "" {
		t.Fatalf("keys (-want +got):\n%s", d)
	}
	for id, keys := range map[clientv3.LeaseID]int{old: 1, long: 5, unseen: 1} {
		ttl, err := cli2.TimeToLive(t.Context(), id, clientv3.WithAttachedKeys())
		if err != nil || len(ttl.Keys) != keys || ttl.TTL <= 0 {
			t.Errorf("lease %x: %+v, %v; want %d keys", id, ttl, err, keys)
		}
	}
	keepAlive(t, cli2, kept, 8*time.Second)
	count := func(prefix string) int64 {
		r, err := cli2.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	if n := count("short/"); n != 0 {
		t.Errorf("%d keys of an expired lease are still there", n)
	}
	if n := count("kept/"); n != 5 {
		t.Errorf("%d keys of a lease that was kept alive", n)
	}
	if _, err := cli2.Revoke(t.Context(), long); err != nil || count("long/") != 0 || count("old") != 1 {
		t.Errorf("revoke: %v; %d keys left, %d of another lease", err, count("long/"), count("old"))
	}
	// The expiry and the revocation each took one revision.
	if next := putKey(t, cli2, "next", "1"); next != target+3 {
		t.Errorf("the next write got revision %d, want %d", next, target+3)
	}
	if n := c2.HashKV(t, 0, target); n.Hash != hashKV(t, path, target, max(n.CompactRevision, 0)) {
		t.Errorf("HashKV(%d) changed by the start", target)
	}
}

// keepAlive keeps a lease alive for a while; it returns how it ended when it did not live so long.
func keepAlive(t *testing.T, cli *clientv3.Client, id clientv3.LeaseID, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	ch, err := cli.KeepAlive(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	for range ch {
	}
	if ctx.Err() == nil {
		t.Errorf("lease %x expired although it was kept alive", id)
	}
}

// TestRemainingTTL shows why a rebuild leaves a lease's remaining time out: a server without lease checkpoints, which is the default, takes it
// for the time to which a keepalive extends the lease, and so the lease expires between two keepalives.
func TestRemainingTTL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: v, UnsafeNoFsync: true})
			cli := c.Client(t)
			id := grant(t, cli, 60)
			at := putKey(t, cli, "k", "1", clientv3.WithLease(id))
			path := snapshot(t, cli)
			if _, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: revision.Revision(at)}); err != nil {
				t.Fatal(err)
			}
			setRemaining(t, path, int64(id), 60, 2)
			_, cli = boot(t, v, path)
			if _, err := cli.KeepAliveOnce(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, 30*time.Second, "the lease of 60 s expires at once, as it does not when this test needs to go", func() error {
				r, err := cli.Get(t.Context(), "k")
				if err == nil && len(r.Kvs) > 0 {
					err = fmt.Errorf("the key is there")
				}
				return err
			})
		})
	}
}

func setRemaining(t *testing.T, path string, id, ttl, remaining int64) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, err := proto.Marshal(&leasepb.Lease{ID: id, TTL: ttl, RemainingTTL: remaining})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("lease")).Put(binary.BigEndian.AppendUint64(nil, uint64(id)), v)
	}); err != nil {
		t.Fatal(err)
	}
}
