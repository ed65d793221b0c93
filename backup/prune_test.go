package backup

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/repo/retention"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// hours is a repository with one backup for each hour before now, the newest last.
func (r *rig) hours(t *testing.T, n int, now time.Time) []*repo.Manifest {
	t.Helper()
	content, info := snapshotFile(t, 3)
	var all []*repo.Manifest
	for i := n; i > 0; i-- {
		all = append(all, r.add(t, content, info, now.Add(-time.Duration(i)*time.Hour), false))
	}
	return all
}

func ids(l *Listing) (out []repo.SnapshotID) {
	for _, b := range l.Backups {
		out = append(out, b.ID)
	}
	return out
}

func (r *rig) listed(t *testing.T) *Listing {
	t.Helper()
	l, err := List(t.Context(), ListOptions{Repo: r.repo})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPruneResumes: a prune that dies between a manifest and its data, at any deletion, is ended by the next one, and no step of it ever
// leaves a manifest without data.
func TestPruneResumes(t *testing.T) {
	const deletions = 8 // four backups, each a manifest and its data
	for dies := range deletions + 1 {
		r := newRig(t)
		now := time.Now()
		all := r.hours(t, 6, now)
		dying, err := repo.Open(t.Context(), &mortal{Store: r.st, left: dies}, "main")
		if err != nil {
			t.Fatal(err)
		}
		o := PruneOptions{Repo: dying, Policy: retention.Policy{Last: 2}, Host: "h"}
		_, err = Prune(t.Context(), o)
		if (err == nil) != (dies == deletions) {
			t.Fatalf("dies at %d: %v", dies, err)
		}
		l := r.listed(t)
		if len(l.Missing) != 0 || len(l.Unfinished) > 1 || len(l.Backups) < 2 {
			t.Fatalf("died at %d: %+v", dies, l)
		}
		o.Repo = r.open(t)
		o.Now = func() time.Time { return time.Now().Add(pruneTTL + time.Second) } // what it held is over
		if _, err := Prune(t.Context(), o); err != nil {
			t.Fatalf("after dying at %d: %v", dies, err)
		}
		l = r.listed(t)
		want := []repo.SnapshotID{all[5].ID, all[4].ID}
		if !slices.Equal(ids(l), want) || len(l.Unfinished) != 0 || len(l.Missing) != 0 {
			t.Errorf("died at %d: now there is %+v, want %v", dies, l, want)
		}
	}
}

// mortal is a store whose deletions fail after some.
type mortal struct {
	store.Store
	mu   sync.Mutex
	left int
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	if strings.Contains(key, "coordination/") {
		return m.Store.Delete(ctx, key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return &store.Error{Op: "delete", Key: key, Kind: store.Unavailable, Err: errors.New("died")}
	}
	m.left--
	return m.Store.Delete(ctx, key)
}

// TestPruneDecides: what is asked first, what a dry run changes, what stays whatever the policy says.
func TestPruneDecides(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	all := r.hours(t, 5, now)
	before := r.objects(t)
	o := PruneOptions{Repo: r.repo, Policy: retention.Policy{Last: 3}, DryRun: true, Host: "h"}
	res, err := Prune(t.Context(), o)
	if err != nil || len(res.Remove) != 2 || len(res.Keep) != 3 || res.Remove[0].ID != all[0].ID || len(res.Plans) != 0 {
		t.Errorf("dry run: %+v, %v", res, err)
	}
	if !slices.Equal(before, r.objects(t)) {
		t.Errorf("a dry run changed the repository")
	}
	o.DryRun = false
	no := errors.New("no")
	o.Confirm = func(p *PruneResult) error { return no }
	if _, err := Prune(t.Context(), o); !errors.Is(err, no) {
		t.Errorf("not confirmed: %v", err)
	}
	if l := r.listed(t); len(l.Backups) != 5 {
		t.Errorf("not confirmed, and yet %d backups are left", len(l.Backups))
	}
	o.Confirm = nil
	if res, err = Prune(t.Context(), o); err != nil || res.Removed != 2 || len(res.Plans) != 1 {
		t.Errorf("prune: %+v, %v", res, err)
	}
	o.Policy = retention.Policy{}
	if _, err := Prune(t.Context(), o); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("a policy that keeps nothing: %v", err)
	}
}

// TestPruneLeavesAlone: a running upload, a locked backup, another's prune.
func TestPruneLeavesAlone(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 3)
	now := time.Now()
	locked, object := r.sealed(t, content, info, now.Add(-90*time.Hour), false)
	locked.RetainUntil = now.Add(time.Hour).UTC().Truncate(time.Second)
	until := locked.RetainUntil
	putLocked(t, r, locked, object, until)
	all := r.hours(t, 4, now)
	// An upload of a minute ago, and one that nobody has finished for two days.
	young := r.unfinished(t, now.Add(-time.Minute), now)
	old := r.unfinished(t, now.Add(-49*time.Hour), now.Add(-48*time.Hour))

	o := PruneOptions{Repo: r.repo, Policy: retention.Policy{Last: 2}, Host: "h"}
	res, err := Prune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := r.listed(t)
	want := []repo.SnapshotID{all[3].ID, all[2].ID, locked.ID}
	if !slices.Equal(ids(l), want) {
		t.Errorf("there is %v, want %v (locked: %s)", ids(l), want, locked.ID)
	}
	if len(l.Unfinished) != 1 || l.Unfinished[0].ID != young {
		t.Errorf("unfinished: %+v, want %s and not %s", l.Unfinished, young, old)
	}
	if !slices.ContainsFunc(res.Remove, func(f Fate) bool { return f.ID == locked.ID && f.LockedUntil.Equal(until) }) {
		t.Errorf("the lock is not reported: %+v", res.Remove)
	}

	l2, outcome, err := lease.Take(t.Context(), r.repo.Store(), pruneLease, lease.Claim{Holder: "other", Tick: time.Now(), TTL: time.Minute})
	if err != nil || outcome != lease.Mine {
		t.Fatal(outcome, err)
	}
	if _, err := Prune(t.Context(), o); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "other") {
		t.Errorf("beside another prune: %v", err)
	}
	if err := l2.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// putLocked stores a backup as a store with Object Lock would have: its manifest says until when.
func putLocked(t *testing.T, r *rig, m *repo.Manifest, object []byte, until time.Time) {
	t.Helper()
	r.put(t, m, object)
	m.RetainUntil = until
	doc, err := repo.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file(repo.ManifestKey(m.Timeline, m.Database.Revision, m.ID)), doc, 0o600); err != nil {
		t.Fatal(err)
	}
}

// unfinished leaves data without a manifest, begun and stored at the given times.
func (r *rig) unfinished(t *testing.T, begun, stored time.Time) repo.SnapshotID {
	t.Helper()
	content, info := snapshotFile(t, 3)
	m := r.add(t, content, info, begun, false)
	if err := os.Remove(r.file(repo.ManifestKey(m.Timeline, m.Database.Revision, m.ID))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(r.file(m.Object.Key), stored, stored); err != nil {
		t.Fatal(err)
	}
	return m.ID
}

// TestPruneDenied: a role that may not delete is told so, and its plan waits for one that may.
func TestPruneDenied(t *testing.T) {
	r := newRig(t)
	r.hours(t, 4, time.Now())
	denied, err := repo.Open(t.Context(), noDelete{r.st}, "main")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Prune(t.Context(), PruneOptions{Repo: denied, Policy: retention.Policy{Last: 2}, Host: "h"})
	if !errors.Is(err, store.Denied) {
		t.Errorf("got %v", err)
	}
	if l := r.listed(t); len(l.Backups) != 4 {
		t.Errorf("%d backups are left", len(l.Backups))
	}
	res, err := Prune(t.Context(), PruneOptions{Repo: r.repo, Policy: retention.Policy{Last: 2}, Host: "h"})
	if err != nil || res.Removed != 2 || len(res.Resumed) != 1 {
		t.Errorf("got %+v, %v", res, err)
	}
}

// noDelete is a store as a role sees it that may write and not delete.
type noDelete struct{ store.Store }

func (noDelete) Delete(_ context.Context, key string) error {
	return &store.Error{Op: "delete", Key: key, Kind: store.Denied}
}
