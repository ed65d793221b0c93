package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/revision"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// shared holds what several tests read: snapshots of real clusters, and what those clusters said about themselves.
var shared struct {
	sync.Mutex
	dir       string
	snapshots map[string]*taken
	sealed    map[string]envelope.Sealed // unencrypted objects, by their paths
}

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crashChild()
	}
	code := m.Run()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// taken is a snapshot of a real cluster.
type taken struct {
	path      string // with etcd's trailer
	version   string
	clusterID uint64
	name, url string // its first member
	revision  revision.Revision
	compact   revision.Revision
	hash      uint32
	keys      int64
	sample    map[string]*clientv3.GetResponse
}

const labToken = "lab" // of every cluster that the lab starts

// snapshotOf is a snapshot of a cluster of one member with 12 MB of data, leases, deletions and a compaction; made once per version.
func snapshotOf(t *testing.T, version string) *taken {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s := shared.snapshots[version]; s != nil {
		return s
	}
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", "steward-restore-test-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir, shared.snapshots, shared.sealed = dir, map[string]*taken{}, map[string]envelope.Sealed{}
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
	s := &taken{path: filepath.Join(shared.dir, version+".db"), version: version, name: c.Members[0].Name, url: c.PeerURL(0)}
	write(t, c.Client(t))
	s.observe(t, c)
	saveSnapshot(t, c.Client(t), s.path)
	c.Stop(0)
	shared.snapshots[version] = s
	return s
}

func write(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	lab.Fill(t, cli, lab.FillOptions{Keys: 7000, Seed: 1})
	lease, err := cli.Grant(ctx, 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		key := fmt.Sprintf("/leased/%02d", i)
		if _, err := cli.Put(ctx, key, "v", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	lab.Fill(t, cli, lab.FillOptions{Keys: 1500, Seed: 2})
	if _, err := cli.Delete(ctx, "/registry/events/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	r, err := cli.Put(ctx, "/marker", "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(ctx, r.Header.Revision-10, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := cli.Put(ctx, "/marker", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// observe notes what member 0 says of itself, and a few keys in full.
func (s *taken) observe(t *testing.T, c *lab.Cluster) {
	t.Helper()
	h := c.HashKV(t, 0, 0)
	s.clusterID, s.hash = h.Header.ClusterId, h.Hash
	s.revision, s.compact = revision.Revision(h.Header.Revision), revision.Revision(max(0, h.CompactRevision))
	cli := c.Client(t)
	all, err := cli.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	s.keys, s.sample = all.Count, map[string]*clientv3.GetResponse{}
	for _, prefix := range []string{"/leased/", "/marker", "/registry/pods/namespace-00"} {
		if s.sample[prefix], err = cli.Get(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
	}
}

func saveSnapshot(t *testing.T, cli *clientv3.Client, path string) {
	t.Helper()
	rc, err := cli.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, rc)
	if err := errors.Join(err, rc.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// folderRepo is an empty repository in a folder.
func folderRepo(t *testing.T) (*repo.Repo, string) {
	t.Helper()
	dir := t.TempDir()
	return openRepo(t, store.Config{URL: "file://" + dir}), dir
}

func openRepo(t *testing.T, cfg store.Config) *repo.Repo {
	t.Helper()
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// publish puts a snapshot into a repository as a backup of its cluster, taken now; edit may change the manifest before it is written.
func publish(t *testing.T, r *repo.Repo, s *taken, to []age.Recipient, edit func(*repo.Manifest)) *repo.Manifest {
	t.Helper()
	ctx := t.Context()
	db, err := dbfile.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := db.Info(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	object, sealed := seal(t, s, content, to)
	defer func() { _ = object.Close() }()
	now := time.Now()
	m := &repo.Manifest{
		ID: repo.NewSnapshotID(now), Cluster: "main", Timeline: repo.Timeline{Cluster: repo.ClusterID(s.clusterID), Cut: 1},
		Database: repo.Database{
			Revision: info.Revision, CompactRevision: info.CompactRevision, Keys: info.Keys, HashKV: info.HashKV, Leases: info.Leases,
			AuthRevision: info.AuthRevision, AuthEnabled: info.AuthEnabled, Alarms: info.Alarms, StorageVersion: info.StorageVersion,
			Size: info.Size, SHA256: repo.SHA256(content[info.Size:]),
		},
		Source: repo.Source{EtcdVersion: s.version + ".0", Quorum: true},
	}
	m.Object = sealed.Object(repo.DataKey(m.Timeline, info.Revision, m.ID, len(to) > 0))
	if edit != nil {
		edit(m)
	}
	if err := r.Admit(ctx, m.Timeline.Cluster, now); err != nil {
		t.Fatal(err)
	}
	if err := r.PutData(ctx, m, store.Source{Reader: object, Size: sealed.Size, SHA256: sealed.SHA256}); err != nil {
		t.Fatal(err)
	}
	if err := r.PutManifest(ctx, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// seal gives a snapshot's object. The unencrypted one is made once.
func seal(t *testing.T, s *taken, content []byte, to []age.Recipient) (*os.File, envelope.Sealed) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "object")
	if len(to) == 0 {
		shared.Lock()
		defer shared.Unlock()
		path = s.path + ".zst"
		if sealed, ok := shared.sealed[path]; ok {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return f, sealed
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := envelope.NewWriter(f, envelope.Options{Recipients: to})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(content)
	sealed, err2 := w.Close()
	_, err3 := f.Seek(0, io.SeekStart)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	if len(to) == 0 {
		shared.sealed[path] = sealed
	}
	return f, sealed
}

// memberOptions are the options of n members m0, m1, ... that restore to folders below dir.
func memberOptions(t *testing.T, dir string, n int) []Options {
	t.Helper()
	var all []Options
	var initial []string
	for i := range n {
		name, url := fmt.Sprintf("m%d", i), "http://"+lab.FreeAddr(t)
		initial = append(initial, name+"="+url)
		all = append(all, Options{Name: name, InitialAdvertisePeerURLs: []string{url}, DataDir: filepath.Join(dir, name)})
	}
	for i := range all {
		all[i].InitialCluster = strings.Join(initial, ",")
	}
	return all
}

// start starts etcd on restored directories, as one cluster.
func start(t *testing.T, version string, results ...Result) *lab.Cluster {
	t.Helper()
	var members []*lab.EtcdMember
	for _, r := range results {
		for _, m := range r.Members {
			if m.ID == r.MemberID {
				members = append(members, &lab.EtcdMember{Name: r.Name, DataDir: r.DataDir, PeerURL: m.PeerURLs[0]})
			}
		}
	}
	return lab.StartEtcdMembers(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true, Token: results[0].Token}, members)
}

// zero is a bump that leaves the exact history.
func zero() *int64 { return new(int64) }

// tree lists what lies below a folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// wantNothing fails when a restore left anything beside what was there.
func wantNothing(t *testing.T, dir string, before []string) {
	t.Helper()
	if after := tree(t, dir); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("left behind:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}
