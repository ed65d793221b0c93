package datadir

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// serve starts etcd on directories that were built, as one cluster.
func serve(t *testing.T, minor string, dirs []string, all []Bootstrap) *lab.Cluster {
	t.Helper()
	var members []*lab.EtcdMember
	for i, b := range all {
		members = append(members, &lab.EtcdMember{Name: b.Name, DataDir: dirs[i], PeerURL: b.PeerURLs[0]})
	}
	return lab.StartEtcdMembers(t, lab.EtcdOptions{Version: minor, UnsafeNoFsync: true, Token: all[0].Token}, members)
}

// bootstraps are the flags of n members m1, m2, ... on loopback.
func bootstraps(t *testing.T, token string, n int) []Bootstrap {
	t.Helper()
	var all []Bootstrap
	var initial []string
	for i := range n {
		b := Bootstrap{Name: fmt.Sprintf("m%d", i+1), PeerURLs: []string{"http://" + lab.FreeAddr(t)}, Token: token}
		initial = append(initial, b.Name+"="+b.PeerURLs[0])
		all = append(all, b)
	}
	for i := range all {
		all[i].InitialCluster = strings.Join(initial, ",")
	}
	return all
}

// source is a snapshot and what its cluster said about itself.
type source struct {
	path      string // with etcd's trailer
	bootstrap Bootstrap
	revision  revision.Revision
	compact   revision.Revision
	hash      uint32
}

// takeSnapshot runs etcd, lets work write to it, and streams a snapshot into a file.
func takeSnapshot(t *testing.T, minor string, work func(t *testing.T, cli *clientv3.Client)) source {
	t.Helper()
	return takeSnapshotAs(t, minor, work, "", "")
}

// takeSnapshotAs is takeSnapshot as a user, when work has enabled authentication.
func takeSnapshotAs(t *testing.T, minor string, work func(t *testing.T, cli *clientv3.Client), user, password string) source {
	t.Helper()
	all := bootstraps(t, "the-old-token", 1)
	c := serve(t, minor, []string{filepath.Join(t.TempDir(), "old")}, all)
	cli := c.Client(t)
	work(t, cli)
	if user != "" {
		cli = c.ClientAs(t, user, password)
	}
	h, err := cli.HashKV(t.Context(), c.Endpoint(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := source{
		path: filepath.Join(t.TempDir(), "snapshot.db"), bootstrap: all[0],
		revision: revision.Revision(h.Header.Revision), compact: revision.Revision(h.CompactRevision), hash: h.Hash,
	}
	save(t, cli, s.path)
	c.Stop(0)
	return s
}

func save(t *testing.T, cli *clientv3.Client, path string) {
	t.Helper()
	rc, err := cli.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%512 != 32 {
		t.Fatalf("a snapshot of %d bytes has no trailer", len(b))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// place puts a snapshot's content where Build expects it, and returns the data directory.
func place(t *testing.T, s source) string {
	t.Helper()
	b, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Dir(DBPath(dir)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(DBPath(dir), b[:len(b)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// variety writes what a snapshot can hold: versions, deletions, ranges, several changes in one revision, leases, users, a compaction, and enough
// values that the tree has branches, free pages and overflow pages.
func variety(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, value string, opts ...clientv3.OpOption) {
		t.Helper()
		_, err := cli.Put(ctx, key, value, opts...)
		must(err)
	}
	for i := range 600 {
		put(fmt.Sprintf("/registry/pods/%04d", i%200), string(bytes.Repeat([]byte{byte('a' + i%26)}, 100+i*7)))
	}
	put("/registry/large", string(bytes.Repeat([]byte("x"), 200_000)))
	lease, err := cli.Grant(ctx, 3600)
	must(err)
	put("/leased/1", "v", clientv3.WithLease(lease.ID))
	put("/leased/2", "v", clientv3.WithLease(lease.ID))
	_, err = cli.Txn(ctx).Then(clientv3.OpPut("/txn/a", "1"), clientv3.OpPut("/txn/b", "2"), clientv3.OpDelete("/registry/pods/0007")).Commit()
	must(err)
	_, err = cli.Delete(ctx, "/registry/pods/001", clientv3.WithPrefix())
	must(err)
	r, err := cli.Get(ctx, "x")
	must(err)
	_, err = cli.Compact(ctx, r.Header.Revision-20, clientv3.WithCompactPhysical())
	must(err)
	_, err = cli.RoleAdd(ctx, "reader")
	must(err)
	_, err = cli.UserAdd(ctx, "root", "secret")
	must(err)
	for i := range 30 {
		put(fmt.Sprintf("/late/%d", i), "v")
	}
}

// raise activates an alarm as the server itself would.
func raise(t *testing.T, cli *clientv3.Client, alarm etcdserverpb.AlarmType) {
	t.Helper()
	members, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = etcdserverpb.NewMaintenanceClient(cli.ActiveConnection()).Alarm(t.Context(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: members.Members[0].ID, Alarm: alarm,
	})
	if err != nil {
		t.Fatal(err)
	}
}
