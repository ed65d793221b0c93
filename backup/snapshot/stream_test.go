package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// TestStream: for every version, with and without TLS and encryption, a snapshot that is taken while the cluster is written to is restored
// by the stock etcdutl, and the member that starts on it gives the hash and the number of keys that were read from the spool.
func TestStream(t *testing.T) {
	slow(t)
	for _, tc := range []struct {
		version        string
		tls, encrypted bool
	}{{"3.5", true, true}, {"3.6", false, true}, {"3.7", true, false}} {
		t.Run(tc.version, func(t *testing.T) {
			t.Parallel()
			c := filled(t, lab.EtcdOptions{Version: tc.version, TLS: tc.tls}, 20000)
			cli := c.Client(t)
			o := SpoolOptions{Dir: filepath.Join(t.TempDir(), "a", "spool")}
			var id age.Identity
			if tc.encrypted {
				x, err := age.GenerateX25519Identity()
				if err != nil {
					t.Fatal(err)
				}
				id, o.Recipients = x, []age.Recipient{x.Recipient()}
			}
			var done, total int64
			o.Progress = func(d, n int64) { done, total = d, n }
			m := choose(t, cluster(t, c))
			before, stop := write(t, cli)
			s, err := Stream(t.Context(), cluster(t, c), m, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			after := stop()
			if int64(s.Revision) < before || int64(s.Revision) >= after {
				t.Errorf("revision %d, want one between %d, before the stream, and %d, after it", s.Revision, before, after)
			}
			if done != s.Size || total != s.Size || s.Seconds <= 0 || s.EtcdVersion != m.Version {
				t.Errorf("got progress %d of %d, %v s, etcd %s; want %d bytes and etcd %s", done, total, s.Seconds, s.EtcdVersion, s.Size, m.Version)
			}
			private(t, s, o.Dir)
			info, err := s.Prove(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.Revision != s.Revision || info.CompactRevision != s.CompactRevision || info.Size != s.Size {
				t.Errorf("the walk gives %+v, the stream %d, %d and %d bytes", info, s.Revision, s.CompactRevision, s.Size)
			}
			whole := content(t, s)
			checkSealed(t, s, id, whole)
			restored(t, tc.version, whole, info.HashKV, info.Keys, s.Revision)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			noFiles(t, o.Dir)
		})
	}
}

// write changes the cluster until stop, which returns the last revision.
func write(t *testing.T, cli *clientv3.Client) (rev int64, stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	put := func(i int) int64 {
		r, err := cli.Put(t.Context(), fmt.Sprintf("busy-%d", i%50), fmt.Sprint(i))
		if err != nil {
			t.Error(err)
			return 0
		}
		return r.Header.Revision
	}
	rev = put(0)
	joined.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			put(i)
		}
	})
	return rev, func() int64 {
		cancel()
		joined.Wait()
		return put(0)
	}
}

// private checks that the spool is for this user alone.
func private(t *testing.T, s *Spool, dir string) {
	t.Helper()
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the spool folder has mode %v, want 0700 (%v)", st.Mode().Perm(), err)
	}
	for _, f := range []*os.File{s.raw, s.object} {
		if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("a spool file has mode %v, want 0600 (%v)", st.Mode().Perm(), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the spool's files have names: %v (%v)", left, err)
	}
}

// restored compares what a member says that starts on a snapshot.
func restored(t *testing.T, version string, whole []byte, hash uint32, keys int64, rev repo.Revision) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	lab.Etcdutl(t, "snapshot", "restore", file, "--data-dir", dir)
	r := lab.StartEtcdOn(t, version, dir)
	if got := r.HashKV(t, 0, int64(rev)); got.Hash != hash || got.Header.Revision != int64(rev) {
		t.Errorf("the restored member says hash %d at revision %d, want %d at %d", got.Hash, got.Header.Revision, hash, rev)
	}
	count, err := r.Client(t).Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil || count.Count != keys {
		t.Errorf("the restored member has %v keys, want %d (%v)", count, keys, err)
	}
}

// TestMemberDies: a member that is killed in mid-stream ends it at once, with its name.
func TestMemberDies(t *testing.T) {
	slow(t)
	c := filled(t, lab.EtcdOptions{}, 30000)
	p := startProxy(t, c.Endpoint(0), 8<<20, func() { c.Kill(0) })
	dir := t.TempDir()
	begun := time.Now()
	_, err := Stream(t.Context(), through(t, c, p), choose(t, through(t, c, p)), SpoolOptions{Dir: dir})
	wantError(t, err, p.url+": the member broke off after", "look at its log")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	nothingLeft(t, dir)
}

// TestMemberHangs: a member that stops sending is given up when the watchdog says so, and not earlier.
func TestMemberHangs(t *testing.T) {
	slow(t)
	c := filled(t, lab.EtcdOptions{Version: "3.7", TLS: true}, 30000)
	var hung time.Time
	p := startProxy(t, c.Endpoint(0), 8<<20, func() {
		c.Pause(t, 0)
		hung = time.Now()
	})
	dir := t.TempDir()
	m := choose(t, through(t, c, p))
	const timeout = 1500 * time.Millisecond
	_, err := Stream(t.Context(), through(t, c, p), m, SpoolOptions{Dir: dir, StallTimeout: timeout})
	took := time.Since(hung)
	wantError(t, err, "has sent nothing for 1.5s", "another member")
	if took < timeout || took > timeout+10*time.Second {
		t.Errorf("given up %v after it hung, want soon after %v", took, timeout)
	}
	nothingLeft(t, dir)
}

// TestCancel: a cancelled stream ends, and says that it was cancelled.
func TestCancel(t *testing.T) {
	slow(t)
	c := filled(t, lab.EtcdOptions{}, 30000)
	ctx, cancel := context.WithCancel(t.Context())
	p := startProxy(t, c.Endpoint(0), 8<<20, cancel)
	dir := t.TempDir()
	_, err := Stream(ctx, through(t, c, p), choose(t, through(t, c, p)), SpoolOptions{Dir: dir})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
	nothingLeft(t, dir)
}

// TestAnotherMember: an endpoint that is suddenly another member's is not streamed from.
func TestAnotherMember(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	m := choose(t, cluster(t, c))
	m.ID++
	dir := t.TempDir()
	_, err := Stream(t.Context(), cluster(t, c), m, SpoolOptions{Dir: dir})
	wantError(t, err, "it is member", "load balancer")
	nothingLeft(t, dir)
}
