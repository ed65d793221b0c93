package rebuild_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// equalAt rebuilds a revision and holds the file against what the cluster says of itself.
func equalAt(t *testing.T, c *lab.Cluster, snap string, segs []rebuild.Segment, rev int64) (path string, res rebuild.Result) {
	t.Helper()
	path = clone(t, snap)
	res, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: revision.Revision(rev), Segments: segs, Timeline: timeline})
	if err != nil {
		t.Fatal(err)
	}
	want := c.HashKV(t, 0, rev)
	if got := hashKV(t, path, rev, max(want.CompactRevision, 0)); got != want.Hash {
		t.Fatalf("HashKV(%d): got %08x, the member gives %08x", rev, got, want.Hash)
	}
	return path, res
}

// TestPrefixDelete: one transaction that deletes more keys than a client may put in one, which defeats a replay through the API.
func TestPrefixDelete(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, keys := range []int{20_000, 150_000} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
			c.Stop(0)
			lab.FillOffline(t, c.DataDir(0), lab.FillOptions{Keys: keys, ValueSize: 100})
			c.Restart(t, 0)
			c.WaitHealthy(t)
			cli := c.Client(t)
			snap := snapshot(t, cli)
			f := open(t, snap)
			have, _, err := f.Revisions()
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			rec := record(t, cli, int64(have)+1, 10_000)
			if _, err := cli.Put(t.Context(), "other", "stays"); err != nil {
				t.Fatal(err)
			}
			// etcd takes seconds for it, and on a busy machine longer than it lets a client wait: it is done all the same.
			if _, err := cli.Delete(t.Context(), "/registry/", clientv3.WithPrefix()); err != nil && !errors.Is(err, rpctypes.ErrTimeout) {
				t.Fatal(err)
			}
			var at int64
			lab.Eventually(t, 5*time.Minute, "all keys are gone", func() error {
				resp, err := cli.Get(t.Context(), "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
				if err == nil && resp.Count > 0 {
					err = fmt.Errorf("%d keys", resp.Count)
				}
				if err == nil {
					at = resp.Header.Revision
				}
				return err
			})
			if _, err := cli.Put(t.Context(), "/registry/again", "1"); err != nil {
				t.Fatal(err)
			}
			segs := rec.until(t, at+1)
			_, before := equalAt(t, c, snap, segs, at-1)
			_, after := equalAt(t, c, snap, segs, at)
			if n := after.Applied - before.Applied; n != int64(keys) {
				t.Errorf("%d tombstones of %d", n, keys)
			}
			equalAt(t, c, snap, segs, at+1)
		})
	}
}

// TestLargeEvent: an event larger than what gRPC clients and many tools take at once.
func TestLargeEvent(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, ExtraArgs: []string{"--max-request-bytes", fmt.Sprint(40 << 20)}})
	cli, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), MaxCallSendMsgSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	rec := record(t, cli, 2, 10)
	snap := snapshot(t, cli)
	for i, size := range []int{2<<20 + 1, 8<<20 - 100, 8 << 20, 12 << 20, 1} {
		if _, err := cli.Put(t.Context(), "large", strings.Repeat(fmt.Sprint(i), size)); err != nil {
			t.Fatal(err)
		}
	}
	segs := rec.until(t, 6)
	for rev := int64(2); rev <= 6; rev++ {
		equalAt(t, c, snap, segs, rev)
	}
}

// TestHandOver: two recorders that took turns and overlapped, each with segments of its own.
func TestHandOver(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	cli := c.Client(t)
	one := record(t, cli, 2, 7)
	snap := snapshot(t, cli)
	lab.Fill(t, cli, lab.FillOptions{Keys: 20_000, ValueSize: 100}) // about 160 revisions
	two := record(t, cli, 50, 11)
	if _, err := cli.Put(t.Context(), "last", "1"); err != nil {
		t.Fatal(err)
	}
	st, err := cli.Get(t.Context(), "last")
	if err != nil {
		t.Fatal(err)
	}
	last := st.Header.Revision
	segs := slices.Concat(one.until(t, last)[:80], two.until(t, last)) // the first one ended early
	slices.SortFunc(segs, func(a, b rebuild.Segment) int { return cmp.Compare(a.First, b.First) })
	for _, rev := range []int64{40, 49, 50, 51, 81, 100, last} {
		equalAt(t, c, snap, segs, rev)
	}
}

// TestSnapshotInside: a snapshot within the log's range: segments from before it, a target after it, and one before it, which is a rewind.
func TestSnapshotInside(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	cli := c.Client(t)
	rec := record(t, cli, 2, 100)
	lab.Fill(t, cli, lab.FillOptions{Keys: 12_800, ValueSize: 100})
	snap := snapshot(t, cli) // at revision 101
	lab.Fill(t, cli, lab.FillOptions{Keys: 12_800, ValueSize: 100, Seed: 2})
	segs := rec.until(t, 201)
	equalAt(t, c, snap, segs, 201)
	equalAt(t, c, snap, segs, 101)
	if _, res := equalAt(t, c, snap, segs, 60); res.Removed == 0 {
		t.Error("nothing was removed for a revision before the snapshot")
	}
	equalAt(t, c, snap, nil, 2)
}
