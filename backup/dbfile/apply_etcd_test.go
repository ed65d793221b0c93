package dbfile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// TestCompactAsEtcd: a compacted copy holds, record by record, what a member's own compaction at the same revision leaves; also at the
// revision of a deletion, and after other compactions.
func TestCompactAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
			cli := c.Client(t)
			var rev int64
			do := func(op clientv3.Op) {
				t.Helper()
				r, err := cli.Do(t.Context(), op)
				if err != nil {
					t.Fatal(err)
				}
				if d := r.Del(); d != nil {
					rev = d.Header.Revision
				} else {
					rev = r.Put().Header.Revision
				}
			}
			var deleted []int64
			for i := range 600 {
				do(clientv3.OpPut(fmt.Sprint("k", i*7%40), fmt.Sprint(i)))
				if i%5 == 0 {
					do(clientv3.OpDelete(fmt.Sprint("k", i*3%40)))
					deleted = append(deleted, rev)
				}
			}
			do(clientv3.OpDelete("k", clientv3.WithPrefix()))
			for _, at := range []int64{deleted[10], deleted[30] + 1, deleted[60], rev - 1, rev} {
				before := saveSnapshot(t, cli)
				if _, err := cli.Compact(t.Context(), at, clientv3.WithCompactPhysical()); err != nil {
					t.Fatal(err)
				}
				want := readAll(t, saveSnapshot(t, cli))
				f, err := dbfile.Open(before)
				if err != nil {
					t.Fatal(err)
				}
				dst := filepath.Join(t.TempDir(), "copy")
				err = f.CopyCompacted(t.Context(), dst, revision.Revision(at))
				f.Close()
				if err != nil {
					t.Fatal(err)
				}
				got := readAll(t, dst)
				for _, k := range []string{"finishedCompactRev", "scheduledCompactRev"} {
					if got["meta"][k] != want["meta"][k] {
						t.Errorf("%s: got %x, want %x", k, got["meta"][k], want["meta"][k])
					}
				}
				if d := cmp.Diff(want["key"], got["key"]); d != "" || len(want["key"]) == 0 && at < rev {
					t.Fatalf("compacted at %d (-etcd +copy):\n%s", at, d)
				}
			}
		})
	}
}

// saveSnapshot saves what a member streams, trailer and all.
func saveSnapshot(t *testing.T, cli *clientv3.Client) string {
	t.Helper()
	r, err := cli.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}
