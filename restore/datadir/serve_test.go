package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// TestServed: real etcds of every supported minor start on what Build made, and serve exactly what the backed-up cluster served.
func TestServed(t *testing.T) {
	for _, from := range []string{"3.5", "3.6", "3.7"} {
		t.Run("from "+from, func(t *testing.T) {
			t.Parallel()
			s := takeSnapshot(t, from, variety)
			for _, on := range []string{"3.5", "3.6", "3.7"} {
				t.Run("on "+on, func(t *testing.T) {
					dir := place(t, s)
					all := bootstraps(t, "a-new-token", 1)
					cfg := Config{Dir: dir, Bootstrap: all[0]}
					if on < from {
						cfg.ServerVersion = on
					}
					if _, err := Build(cfg); err != nil {
						t.Fatal(err)
					}
					c := serve(t, on, []string{dir}, all)
					wantHash(t, s, c)
					put, err := c.Client(t).Put(t.Context(), "/after", "v")
					if err != nil || put.Header.Revision != int64(s.revision)+1 {
						t.Errorf("the first write: %v, %v; want revision %d", put, err, s.revision+1)
					}
					c.Stop(0)
				})
			}
		})
	}
}

func wantHash(t *testing.T, s source, c *lab.Cluster) {
	t.Helper()
	for i := range c.Members {
		h := c.HashKV(t, i, int64(s.revision))
		if h.Hash != s.hash || h.CompactRevision != int64(s.compact) || h.Header.Revision != int64(s.revision) {
			t.Errorf("member %d: HashKV %08x at %d compacted at %d, want %08x at %d compacted at %d", i, h.Hash, h.Header.Revision, h.CompactRevision, s.hash, s.revision, s.compact)
		}
	}
}

// TestThreeMembers: three directories built apart form one cluster with the predicted IDs; leases are attached.
func TestThreeMembers(t *testing.T) {
	for _, minor := range []string{"3.5", "3.6", "3.7"} {
		t.Run(minor, func(t *testing.T) {
			t.Parallel()
			s := takeSnapshot(t, minor, variety)
			all := bootstraps(t, "a-new-token", 3)
			var dirs []string
			var cluster *Cluster
			for _, b := range all {
				dir := place(t, s)
				r, err := Build(Config{Dir: dir, Bootstrap: b})
				if err != nil {
					t.Fatal(err)
				}
				cluster = r.Cluster
				dirs = append(dirs, dir)
			}
			c := serve(t, minor, dirs, all)
			wantHash(t, s, c)
			cli := c.Client(t)
			list, err := cli.MemberList(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if list.Header.ClusterId != cluster.ID || len(list.Members) != 3 {
				t.Errorf("cluster %x of %d members, want %x of 3", list.Header.ClusterId, len(list.Members), cluster.ID)
			}
			for _, want := range cluster.Members {
				found := false
				for _, m := range list.Members {
					found = found || m.ID == uint64(want.ID) && m.PeerURLs[0] == want.PeerURLs[0] && !m.IsLearner
				}
				if !found {
					t.Errorf("no voter %s (%s) among %v", want.ID, want.Name, list.Members)
				}
			}
			kv, err := cli.Get(t.Context(), "/leased/1")
			if err != nil || len(kv.Kvs) != 1 {
				t.Fatalf("get /leased/1: %v, %v", kv, err)
			}
			ttl, err := cli.TimeToLive(t.Context(), clientv3.LeaseID(kv.Kvs[0].Lease), clientv3.WithAttachedKeys())
			if err != nil || len(ttl.Keys) != 2 || ttl.TTL < 1 {
				t.Errorf("the lease of /leased/1: %v, %v; want 2 keys", ttl, err)
			}
		})
	}
}

// TestBump: after a bump every value is as it was, the revision is beyond the old history, and who watches from an old revision is told so.
func TestBump(t *testing.T) {
	const by = 1_000_000_000
	s := takeSnapshot(t, "3.6", variety)
	dir := place(t, s)
	all := bootstraps(t, "a-new-token", 1)
	r, err := Build(Config{Dir: dir, Bootstrap: all[0], Bump: by})
	if err != nil {
		t.Fatal(err)
	}
	cli := serve(t, "3.6", []string{dir}, all).Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := cli.Get(ctx, "/late/3")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" || got.Kvs[0].ModRevision > int64(s.revision) {
		t.Errorf("get: %v, %v", got, err)
	}
	if got.Header.Revision != int64(s.revision)+by || got.Header.Revision != int64(r.NewRevision) {
		t.Errorf("revision %d, want %d and the report's %d", got.Header.Revision, int64(s.revision)+by, r.NewRevision)
	}
	w := <-cli.Watch(ctx, "/late", clientv3.WithPrefix(), clientv3.WithRev(int64(s.revision)-1))
	if w.CompactRevision != int64(r.NewRevision) {
		t.Errorf("a watch from an old revision: %v, want it compacted at %d", w, r.NewRevision)
	}
	// A limit below the history that etcd can count.
	dir = place(t, s)
	if _, err := Build(Config{Dir: dir, Bootstrap: all[0], Bump: int64(MaxRevision)}); !errors.Is(err, ErrRevision) {
		t.Errorf("a bump beyond the limit: %v, want %v", err, ErrRevision)
	}
}

// TestTraps: a snapshot taken under NOSPACE and during a downgrade comes back writable and at its own version.
func TestTraps(t *testing.T) {
	s := takeSnapshot(t, "3.6", func(t *testing.T, cli *clientv3.Client) {
		variety(t, cli)
		lab.Eventually(t, 30*time.Second, "downgrade enabled", func() error {
			_, err := cli.Downgrade(t.Context(), clientv3.DowngradeEnable, "3.5.0")
			if errors.Is(err, rpctypes.ErrDowngradeInProcess) {
				return nil
			}
			return err
		})
		raise(t, cli, etcdserverpb.AlarmType_NOSPACE)
	})
	dir := place(t, s)
	all := bootstraps(t, "a-new-token", 1)
	r, err := Build(Config{Dir: dir, Bootstrap: all[0]})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cleared) != 2 || len(r.Kept) != 0 {
		t.Errorf("cleared %q, kept %q; want the alarm and the downgrade cleared", r.Cleared, r.Kept)
	}
	c := serve(t, "3.6", []string{dir}, all)
	wantHash(t, s, c)
	cli := c.Client(t)
	if _, err := cli.Put(t.Context(), "/after", "v"); err != nil {
		t.Errorf("put: %v", err)
	}
	lab.Eventually(t, 20*time.Second, "cluster version", func() error {
		st, err := cli.Status(t.Context(), c.Endpoint(0))
		if err == nil && (st.StorageVersion != "3.6.0" || st.DowngradeInfo.GetEnabled()) {
			err = fmt.Errorf("storage version %q, downgrade %v", st.StorageVersion, st.DowngradeInfo)
		}
		return err
	})
}

// TestCorruptAlarmStays: what needs a person's judgement is reported, not cleared.
func TestCorruptAlarmStays(t *testing.T) {
	s := takeSnapshot(t, "3.7", func(t *testing.T, cli *clientv3.Client) {
		variety(t, cli)
		raise(t, cli, etcdserverpb.AlarmType_CORRUPT)
	})
	dir := place(t, s)
	r, err := Build(Config{Dir: dir, Bootstrap: bootstraps(t, "a-new-token", 1)[0]})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cleared) != 0 || len(r.Kept) != 1 || len(buckets(t, dir)["alarm"]) != 1 {
		t.Errorf("cleared %q, kept %q, in the file %q; want the alarm kept", r.Cleared, r.Kept, buckets(t, dir)["alarm"])
	}
}

// TestKnownMember: a token and URLs that lead to the old cluster's member are refused, unless asked for.
func TestKnownMember(t *testing.T) {
	s := takeSnapshot(t, "3.6", variety)
	dir := place(t, s)
	if _, err := Build(Config{Dir: dir, Bootstrap: s.bootstrap}); !errors.Is(err, ErrKnownMember) {
		t.Errorf("the old token and URLs: %v, want %v", err, ErrKnownMember)
	}
	if _, err := os.Stat(WALPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused build wrote a log: %v", err)
	}
	if _, err := Build(Config{Dir: dir, Bootstrap: s.bootstrap, AllowKnownMembers: true}); err != nil {
		t.Errorf("the old token and URLs, allowed: %v", err)
	}
}
