package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/internal/fail"
)

func TestAdmit(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	if id, ok := r.Identity(); ok {
		t.Fatalf("an empty store has the identity %+v", id)
	}
	if err := r.Admit(t.Context(), clusterA, day); err != nil {
		t.Fatal(err)
	}
	want := Identity{Cluster: "main", ClusterID: clusterA, Created: day}
	for _, r := range []*Repo{r, openRepo(t, st)} {
		if got, ok := r.Identity(); !ok || got != want {
			t.Fatalf("identity %+v, %t, want %+v", got, ok, want)
		}
		if err := r.Admit(t.Context(), clusterA, day.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	refusedAdmit(t, r, clusterB)

	// Another cluster's data without a manifest proves nothing; a backup does.
	m, data := newManifest(Timeline{Cluster: clusterB, Cut: 1}, 7, day)
	if err := r.PutData(t.Context(), m, source(data)); err != nil {
		t.Fatal(err)
	}
	refusedAdmit(t, r, clusterB)
	if err := r.PutManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), clusterB, day); err != nil {
		t.Fatalf("a cluster with backups here: %v", err)
	}
	if err := r.Admit(t.Context(), 0, day); err == nil {
		t.Error("cluster ID 0 is admitted")
	}
}

func refusedAdmit(t *testing.T, r *Repo, id ClusterID) {
	t.Helper()
	err := r.Admit(t.Context(), id, day)
	if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), clusterA.String()) || !strings.Contains(err.Error(), id.String()) {
		t.Fatalf("Admit: %v (code %d), want it refused with both cluster IDs", err, fail.ExitCode(err))
	}
	if hint := fail.HintOf(err); !strings.Contains(hint, "--cluster") || !strings.Contains(hint, "--adopt") {
		t.Fatalf("hint %q names no way out", hint)
	}
}

func TestSuccessors(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	if err := r.Admit(t.Context(), clusterA, day); err != nil {
		t.Fatal(err)
	}
	s := Successor{
		ClusterID: clusterB, From: NewSnapshotID(day), Timeline: Timeline{Cluster: clusterA, Cut: 1}, Revision: 99, Restored: day.Add(time.Hour), Host: "m1",
	}
	if err := r.AddSuccessor(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	other := s
	other.Host = "m2" // the next host of the same restore
	if err := r.AddSuccessor(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(t.Context(), 77, "m3", day); err != nil {
		t.Fatal(err)
	}
	got, err := r.Successors(t.Context())
	want := []Successor{{ClusterID: 77, Restored: day, Host: "m3"}, s}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	for _, id := range []ClusterID{clusterA, clusterB, 77} {
		if err := r.Admit(t.Context(), id, day); err != nil {
			t.Errorf("cluster %s: %v", id, err)
		}
	}
	refusedAdmit(t, r, 78)
	if err := r.AddSuccessor(t.Context(), Successor{}); err == nil {
		t.Error("a successor without a cluster ID is recorded")
	}

	// A damaged record admits nobody, and does not count as recorded.
	putRaw(t, r.Store(), successorKey(clusterB), []byte("{}"))
	if err := r.Admit(t.Context(), clusterB, day); !errors.Is(err, ErrDamaged) {
		t.Errorf("Admit by a damaged record: %v, want %v", err, ErrDamaged)
	}
	if err := r.AddSuccessor(t.Context(), s); !errors.Is(err, ErrDamaged) {
		t.Errorf("AddSuccessor over a damaged record: %v, want %v", err, ErrDamaged)
	}
	// Nor does a record that lies under another cluster's name.
	putRaw(t, r.Store(), successorKey(78), getRaw(t, r.Store(), successorKey(77)))
	if err := r.Admit(t.Context(), 78, day); !errors.Is(err, ErrDamaged) {
		t.Errorf("Admit by another's record: %v, want %v", err, ErrDamaged)
	}
}

func TestAdoptFirst(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	for range 2 {
		if err := r.Adopt(t.Context(), clusterA, "m1", day); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := keysOf(t, st), []string{"main/repository.json"}; !cmp.Equal(got, want) {
		t.Fatalf("objects %q, want %q", got, want)
	}
}

// Of several clusters that write first at the same moment exactly one gets the repository, and all of them agree which.
func TestAdmitRace(t *testing.T) {
	for round := range 20 {
		st, _ := fileStore(t)
		const writers = 12
		errs := make([]error, writers)
		owners := make([]ClusterID, writers)
		var wg sync.WaitGroup
		for i := range writers {
			r := openRepo(t, st)
			wg.Go(func() {
				errs[i] = r.Admit(context.Background(), ClusterID(100+i), day)
				id, _ := r.Identity()
				owners[i] = id.ClusterID
			})
		}
		wg.Wait()
		winner := openRepo(t, st)
		id, ok := winner.Identity()
		if !ok {
			t.Fatal("nobody won")
		}
		for i, err := range errs {
			if won := ClusterID(100+i) == id.ClusterID; won != (err == nil) || !won && fail.ExitCode(err) != fail.Unsafe || owners[i] != id.ClusterID {
				t.Fatalf("round %d: cluster %d: %v; it believes the owner is %s, the store says %s", round, 100+i, err, owners[i], id.ClusterID)
			}
		}
	}
}

// What cannot be trusted is refused, with a hint, and not touched.
func TestOpenRefuses(t *testing.T) {
	good, err := Seal("repository", 1, Identity{Cluster: "main", ClusterID: clusterA, Created: day})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := Seal("repository", 2, struct {
		What string `json:"what"`
	}{"a field of the future"})
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := Seal("repository", 1, Identity{Cluster: "other", ClusterID: clusterA, Created: day})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		doc  []byte
		is   error
		text string
	}{
		"newer":     {newer, ErrNewerFormat, "etcd-steward/repository/2"},
		"damaged":   {append([]byte("x"), good[1:]...), ErrDamaged, "repository.json"},
		"empty":     {nil, ErrDamaged, "repository.json"},
		"truncated": {good[:len(good)/2], ErrDamaged, "repository.json"},
		"renamed":   {renamed, nil, `"other"`},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := fileStore(t)
			putRaw(t, st, "main/repository.json", c.doc)
			_, err := Open(t.Context(), st, "main")
			if fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" || !strings.Contains(err.Error(), c.text) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("Open: %v (code %d, hint %q)", err, fail.ExitCode(err), fail.HintOf(err))
			}
			salvage, err := OpenReadOnly(st, "main")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := salvage.Catalog(t.Context()); err != nil {
				t.Errorf("reading it anyway: %v", err)
			}
			if err := salvage.Admit(t.Context(), clusterA, day); fail.ExitCode(err) != fail.Unsafe {
				t.Errorf("Admit to a repository opened for reading: %v, want it refused", err)
			}
			if got := getRaw(t, st, "main/repository.json"); string(got) != string(c.doc) {
				t.Errorf("the document was changed to %s", got)
			}
		})
	}
	st, _ := fileStore(t)
	if _, err := Open(t.Context(), st, "../x"); fail.ExitCode(err) != fail.Usage {
		t.Errorf("a name that is no name: %v", err)
	}
	if _, err := Open(t.Context(), faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error { return faults.Dead(op, key) }}), "main"); !errors.Is(err, store.Unreachable) || fail.ExitCode(err) != fail.Failed {
		t.Errorf("a store that is down: %v, want it failed, not refused", err)
	}
}

func TestClusters(t *testing.T) {
	st, _ := fileStore(t)
	if got, err := Clusters(t.Context(), st); err != nil || got != nil {
		t.Fatalf("an empty store has clusters %q, %v", got, err)
	}
	want := []string{"a", "events", "main", "main-2", "main0", "z"}
	for _, name := range want {
		r, err := Open(t.Context(), st, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Admit(t.Context(), clusterA, day); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			putRaw(t, st, fmt.Sprintf("%s/other/%d", name, i), []byte("x"))
		}
	}
	putRaw(t, st, "lost+found/x", []byte("x"))
	putRaw(t, st, "main1/nothing", []byte("x"))
	putRaw(t, st, "top-level", []byte("x"))
	lists := 0
	counted := faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, _ string) error {
		if op == "list" {
			lists++
		}
		return nil
	}})
	got, err := Clusters(t.Context(), counted)
	if err != nil {
		t.Fatal(err)
	}
	wantSorted := []string{"a", "events", "main", "main-2", "main0", "z"}
	if diff := cmp.Diff(map[string]bool{"a": true, "events": true, "main": true, "main-2": true, "main0": true, "z": true}, setOf(got)); diff != "" || len(got) != len(wantSorted) {
		t.Fatalf("clusters %q, want %q", got, wantSorted)
	}
	if lists > len(want)+4 {
		t.Errorf("%d listings for %d folders", lists, len(want)+2)
	}
}

func setOf(names []string) map[string]bool {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set
}

// TestOpenLater: a repository that was opened while its store was away reads whose it is before anything is admitted, and refuses as Open would.
func TestOpenLater(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	away := true
	wrapped := faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
		if away {
			return faults.Dead(op, key)
		}
		return nil
	}})
	r, err := OpenLater(wrapped, "main")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), 1, time.Now()); err == nil {
		t.Fatal("admitted by a store that is away")
	}
	away = false
	other, err := Open(t.Context(), st, "main")
	if err == nil {
		err = other.Admit(t.Context(), 2, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Admit(t.Context(), 1, time.Now()); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("another cluster: %v, want a refusal", err)
	}
	if err := r.Admit(t.Context(), 2, time.Now()); err != nil {
		t.Errorf("the repository's own cluster: %v", err)
	}
	if id, ok := r.Identity(); !ok || id.ClusterID != 2 {
		t.Errorf("identity %+v, %t", id, ok)
	}
}
