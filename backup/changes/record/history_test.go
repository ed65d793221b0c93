package record

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// goBack puts a member's data directory back to what a copy of it was.
func (r *rig) goBack(copied string) {
	r.t.Helper()
	r.c.Kill(0)
	if err := os.RemoveAll(r.c.DataDir(0)); err != nil {
		r.t.Fatal(err)
	}
	if err := os.CopyFS(r.c.DataDir(0), os.DirFS(copied)); err != nil {
		r.t.Fatal(err)
	}
	r.c.Restart(r.t, 0)
	r.c.WaitHealthy(r.t)
}

// copyData copies a member's data directory while the member is down.
func (r *rig) copyData() string {
	r.t.Helper()
	r.c.Stop(0)
	copied := r.t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(r.c.DataDir(0))); err != nil {
		r.t.Fatal(err)
	}
	r.c.Restart(r.t, 0)
	r.c.WaitHealthy(r.t)
	return copied
}

// TestHistoryGoesBack: a cluster that comes back with an older history under its old ID begins a new timeline, whether its revision is still below what was
// recorded or has grown past it; the two histories are never mixed.
func TestHistoryGoesBack(t *testing.T) {
	for name, past := range map[string]int{"below": 5, "grown past": 60} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{})
			o := r.options()
			run := r.start(o)
			first := run.has(SignalFirst)
			run.waitStored(r.put(20))
			copied := r.copyData()
			last := r.put(30)
			run.waitStored(last)
			one := run.timeline()
			if past > 30 {
				_ = run.stop()
			}
			before := r.read(one)
			r.mustEqual(before, int64(first.To)+1, last)
			r.goBack(copied)
			now := r.put(past)
			if past > 30 {
				if now <= last {
					t.Fatalf("revision %d has not grown past %d", now, last)
				}
				run = r.start(o)
			}
			ended := run.has(SignalEnded)
			if !ended.NeedFull || ended.Timeline != one {
				t.Fatalf("got %+v", ended)
			}
			lab.Eventually(t, 20*time.Second, "the next timeline", func() error {
				if got := run.timeline(); got.Cut != one.Cut+1 {
					return errors.New(got.String())
				}
				return nil
			})
			run.waitState(Recording)
			last = r.put(10)
			run.waitStored(last)
			_ = run.stop()
			l := r.read(run.timeline())
			if l.from <= first.To+20 || l.from > repo.Revision(last-9) {
				t.Fatalf("the new timeline's log begins at %d", l.from)
			}
			r.mustEqual(l, int64(l.from), last)
			if got := r.read(one); got.to != before.to {
				t.Fatalf("the old timeline grew from %d to %d", before.to, got.to)
			}
			c, err := r.repo.Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := repo.NextTimeline(c, nil, one.Cluster, repo.Revision(last), 99, true); got != run.timeline() {
				t.Fatalf("a snapshot would go on timeline %s, want %s", got, run.timeline())
			}
		})
	}
}

// TestOtherCluster: a cluster that does not belong to the repository is refused; one that was restored from it has a timeline of its own.
func TestOtherCluster(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	run := r.start(r.options())
	run.waitStored(r.put(5))
	_ = run.stop()
	other := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, Token: "another"})
	o := r.options()
	o.Cluster = snapshot.Cluster{Endpoints: other.Endpoints()}
	rec, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := rec.Run(ctx); fail.ExitCode(err) != fail.Unsafe {
		t.Fatalf("Run returned %v, want a refusal", err)
	}
	resp, err := other.Client(t).Put(t.Context(), "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	id := repo.ClusterID(resp.Header.ClusterId)
	if err := r.repo.AddSuccessor(t.Context(), repo.Successor{ClusterID: id, Restored: time.Now(), Host: "test"}); err != nil {
		t.Fatal(err)
	}
	run = r.start(o)
	run.has(SignalFirst)
	if resp, err = other.Client(t).Put(t.Context(), "a", "c"); err != nil {
		t.Fatal(err)
	}
	run.waitStored(resp.Header.Revision)
	if got := run.timeline(); got != (repo.Timeline{Cluster: id, Cut: 1}) {
		t.Fatalf("timeline %s", got)
	}
}

// TestAuth: recording works as a user, and a change of users or rights demands a full snapshot.
func TestAuth(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	ctx := t.Context()
	for _, err := range []error{
		second(r.cli.UserAdd(ctx, "root", "secret")), second(r.cli.RoleAdd(ctx, "root")), second(r.cli.UserGrantRole(ctx, "root", "root")), second(r.cli.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := r.options()
	o.Cluster.Username, o.Cluster.Password = "root", "secret"
	run := r.start(o)
	run.has(SignalFirst)
	root := r.c.ClientAs(t, "root", "secret")
	resp, err := root.Put(ctx, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	run.waitStored(resp.Header.Revision)
	if run.got(SignalAuth) != 0 {
		t.Fatal("a change was seen where there was none")
	}
	if _, err := root.UserAdd(ctx, "eve", "x"); err != nil {
		t.Fatal(err)
	}
	if s := run.has(SignalAuth); !s.NeedFull {
		t.Fatalf("got %+v", s)
	}
	if resp, err = root.Put(ctx, "a", "c"); err != nil {
		t.Fatal(err)
	}
	run.waitStored(resp.Header.Revision)
	_ = run.stop()
	if l := r.read(run.timeline()); len(l.auth) < 2 || l.auth[0].Auth == l.auth[len(l.auth)-1].Auth {
		t.Fatalf("auth revisions %v", l.auth)
	}
}

func second[T any](_ T, err error) error { return err }
