package restore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/testing/protocmp"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
	"etcd-steward/restore/datadir"
)

// TestExactHistory: three members restored from S3 over TLS with a bump of 0 are one cluster that serves, bit for bit, what the backed-up one did, whatever its
// version; nobody talked to anybody, and the daemons will accept it.
func TestExactHistory(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			s := snapshotOf(t, version)
			cfg := s3.StoreConfig()
			cfg.URL += "/" + version
			r := openRepo(t, cfg)
			m := publish(t, r, s, []age.Recipient{identity.Recipient()}, nil)
			var results []Result
			for _, o := range memberOptions(t, t.TempDir(), 3) {
				o.Repo, o.Identities, o.BumpRevision = r, []age.Identity{identity}, zero()
				res, err := DataDir(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if res.HashKV != s.hash || res.Revision != s.revision || res.NewRevision != s.revision || !res.Recorded || res.Source.ID != m.ID {
					t.Errorf("%s: %+v, want revision %d with hash %08x, recorded", o.Name, res, s.revision, s.hash)
				}
				results = append(results, res)
			}
			c := start(t, version, results...)
			for i := range c.Members {
				h := c.HashKV(t, i, int64(s.revision))
				if h.Hash != s.hash || h.CompactRevision != int64(s.compact) || h.Header.Revision != int64(s.revision) {
					t.Errorf("member %d: HashKV %08x at %d compacted at %d, want %08x at %d compacted at %d", i, h.Hash, h.Header.Revision, h.CompactRevision, s.hash, s.revision, s.compact)
				}
			}
			wantSample(t, s, c.Client(t))
			if got := repo.ClusterID(c.HashKV(t, 0, 0).Header.ClusterId); got != results[0].ClusterID || uint64(got) == s.clusterID {
				t.Errorf("cluster %s, want the predicted %s, not the old %x", got, results[0].ClusterID, s.clusterID)
			}
			if err := r.Admit(t.Context(), results[0].ClusterID, m.ID.Time()); err != nil {
				t.Errorf("the repository does not accept the restored cluster: %v", err)
			}
		})
	}
}

// wantSample compares keys in full: value, create and mod revision, version, lease.
func wantSample(t *testing.T, s *taken, cli *clientv3.Client) {
	t.Helper()
	for prefix, want := range s.sample {
		got, err := cli.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Kvs, got.Kvs, protocmp.Transform()); diff != "" || len(got.Kvs) == 0 {
			t.Errorf("%s (-backed up +restored):\n%s", prefix, diff)
		}
	}
	all, err := cli.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil || all.Count != s.keys {
		t.Errorf("%d keys, %v; want %d", all.Count, err, s.keys)
	}
}

// TestDefaults: a single member restored without a word about token and bump is a cluster that has never been, beyond every revision that has.
func TestDefaults(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	m := publish(t, r, s, nil, nil)
	dir := t.TempDir()
	o := memberOptions(t, dir, 1)[0]
	o.Repo = r
	p, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if before := tree(t, dir); len(before) != 1 {
		t.Errorf("a plan made %q", before)
	}
	var said bytes.Buffer
	if err := p.Write(&said); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{string(m.ID), o.DataDir, p.Token + " (random; every run makes a new one, and so another cluster ID, unless --initial-cluster-token gives one)", p.ClusterID.String() + " (was " + m.Timeline.Cluster.String() + ")", fmt.Sprint(p.NewRevision), "bumped by 1000000000"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the plan does not say %q:\n%s", want, said.String())
		}
	}
	res, err := p.Execute(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Bump != bumpUnit || int64(res.NewRevision) != int64(s.revision)+bumpUnit || res.ClusterID != p.ClusterID || !strings.HasPrefix(res.Token, tokenPrefix) {
		t.Errorf("%+v; the plan was %+v", res, p)
	}
	if names := tree(t, dir); slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, scratchInfix) }) {
		t.Errorf("the working folder is still there: %q", names)
	}
	for path, want := range map[string]os.FileMode{o.DataDir: 0o700, filepath.Join(o.DataDir, "member"): 0o700, datadir.DBPath(o.DataDir): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %v", path, st.Mode(), err, want)
		}
	}
	c := start(t, "3.6", res)
	wantSample(t, s, c.Client(t))
	if h := c.HashKV(t, 0, 0); h.Header.Revision != int64(res.NewRevision) || h.Header.ClusterId != uint64(res.ClusterID) {
		t.Errorf("revision %d of cluster %x, want %d of %s", h.Header.Revision, h.Header.ClusterId, res.NewRevision, res.ClusterID)
	}
	c.Stop(0)

	// The same again, a little later: neither the token nor the revisions come a second time.
	o.DataDir += "-again"
	again, err := DataDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if again.Token == res.Token || again.ClusterID == res.ClusterID || again.NewRevision < res.NewRevision+bumpMargin {
		t.Errorf("again: %+v; before: %+v", again, res)
	}
}

// TestSameOnEveryHost: hosts that restore a cluster of several members without a token agree, and the commands for the others say it all.
func TestSameOnEveryHost(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	m := publish(t, r, s, nil, nil)
	all := memberOptions(t, t.TempDir(), 3)
	all[2].InitialCluster = strings.Join([]string{"m2=" + all[2].InitialAdvertisePeerURLs[0], "m0=" + all[0].InitialAdvertisePeerURLs[0], "m1=" + all[1].InitialAdvertisePeerURLs[0]}, ",")
	var results []Result
	for _, o := range all {
		o.Repo, o.CommonArgs = r, []string{"--store", "file:///with space"}
		res, err := DataDir(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, res)
	}
	first := results[0]
	for _, r := range results[1:] {
		if r.Token != first.Token || r.ClusterID != first.ClusterID || r.Bump != first.Bump || r.NewRevision != first.NewRevision {
			t.Errorf("%s: %+v, but %s: %+v", r.Name, r, first.Name, first)
		}
	}
	if len(first.Others) != 2 {
		t.Fatalf("%d commands for 2 others: %v", len(first.Others), first.Others)
	}
	for _, want := range []string{"--store 'file:///with space'", "--id " + string(m.ID), "--name m1 ", "--initial-cluster-token " + first.Token, "--bump-revision 1000000000", all[1].InitialAdvertisePeerURLs[0]} {
		if got := first.Others[0].String() + " "; !strings.Contains(got, want) {
			t.Errorf("the command for m1 is %s; it lacks %q", got, want)
		}
	}
	var out bytes.Buffer
	if err := first.Write(&out); err != nil || !strings.Contains(out.String(), first.Others[1].String()) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// TestWALDir: a write-ahead log with a place of its own ends there, and etcd starts on both.
func TestWALDir(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	dir := t.TempDir()
	o := memberOptions(t, dir, 1)[0]
	o.Repo, o.WALDir, o.BumpRevision = r, filepath.Join(dir, "wal"), zero()
	res, err := DataDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(datadir.WALPath(o.DataDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory has a log too: %v", err)
	}
	members := []*lab.EtcdMember{{Name: o.Name, DataDir: o.DataDir, PeerURL: o.InitialAdvertisePeerURLs[0]}}
	c := lab.StartEtcdMembers(t, lab.EtcdOptions{Version: "3.6", UnsafeNoFsync: true, Token: res.Token, ExtraArgs: []string{"--wal-dir", o.WALDir}}, members)
	wantSample(t, s, c.Client(t))
}
