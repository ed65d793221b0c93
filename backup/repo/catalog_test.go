package repo

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"etcd-steward/backup/store"
)

func TestCatalog(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	if err := r.Admit(t.Context(), clusterA, day); err != nil {
		t.Fatal(err)
	}
	tl := Timeline{Cluster: clusterA, Cut: 1}
	old := takeBackup(t, r, tl, 10, day)
	newer := takeBackup(t, r, tl, 20, day.Add(time.Hour))
	lost := takeBackup(t, r, tl, 15, day.Add(30*time.Minute))
	if err := r.Store().Delete(t.Context(), lost.Object.Key); err != nil {
		t.Fatal(err)
	}
	open, data := newManifest(Timeline{Cluster: clusterA, Cut: 2}, 12, day.Add(2*time.Hour))
	if err := r.PutData(t.Context(), open, source(data)); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(t.Context(), clusterB, "h", day); err != nil {
		t.Fatal(err)
	}
	if err := r.PutVerification(t.Context(), Verification{ID: newer.ID, Level: LevelBytes, OK: true, At: day, Host: "h"}); err != nil {
		t.Fatal(err)
	}
	strange := []string{"cdf818194e3a8c32-1/snapshots/x.json", "coordination/verified/x.json", "plans/prune-x.json", "readme.txt", "successors/x.json"}
	for _, key := range strange {
		putRaw(t, r.Store(), key, []byte("x"))
	}
	putRaw(t, st, "main2/x", []byte("x")) // another's, not seen

	c := catalog(t, r)
	ids := func(entries []Entry) (out []SnapshotID) {
		for _, e := range entries {
			out = append(out, e.ID)
		}
		return out
	}
	for what, c := range map[string]struct{ got, want []SnapshotID }{
		"Entries":     {ids(c.Entries), []SnapshotID{old.ID, lost.ID, newer.ID, open.ID}},
		"Backups":     {ids(c.Backups()), []SnapshotID{old.ID, newer.ID}},
		"MissingData": {ids(c.MissingData()), []SnapshotID{lost.ID}},
		"Unfinished":  {ids(c.Unfinished()), []SnapshotID{open.ID}},
	} {
		if !cmp.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	if !cmp.Equal(c.Strange, strange) || c.StrangeCount != len(strange) {
		t.Errorf("strange %q (%d), want %q", c.Strange, c.StrangeCount, strange)
	}
	if !cmp.Equal(c.Successors, []ClusterID{clusterB}) || len(c.Verified) != 1 || c.Verified[newer.ID].Key == "" {
		t.Errorf("successors %v, verified %v", c.Successors, c.Verified)
	}
	if want := len(keysOf(t, r.Store())); c.Objects != want {
		t.Errorf("%d objects, want %d", c.Objects, want)
	}
	e, ok := c.Find(newer.ID)
	if !ok || e.Revision != 20 || e.Timeline != tl || !e.Encrypted || e.Data.Key != newer.Object.Key || e.Data.Size != newer.Object.Size {
		t.Errorf("Find: %+v, %t", e, ok)
	}
	if _, ok := c.Find(NewSnapshotID(day)); ok {
		t.Error("Find finds what is not there")
	}
	if e, ok := c.Newest(); !ok || e.ID != newer.ID {
		t.Errorf("newest is %s, want %s", e.ID, newer.ID)
	}
}

// entry is a backup (or what else is there of it) without a store.
func entry(tl Timeline, rev Revision, at time.Time, data, manifest bool) Entry {
	e := Entry{Timeline: tl, Revision: rev, ID: NewSnapshotID(at)}
	if data {
		e.Data = store.Info{Key: DataKey(tl, rev, e.ID, false), Modified: at}
	}
	if manifest {
		e.Manifest = store.Info{Key: ManifestKey(tl, rev, e.ID), Modified: at}
	}
	return e
}

func newCatalog(entries ...Entry) *Catalog {
	c := &Catalog{Entries: entries}
	slices.SortFunc(c.Entries, func(a, b Entry) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return c
}

func TestNewest(t *testing.T) {
	a1, a2, b1 := Timeline{clusterA, 1}, Timeline{clusterA, 2}, Timeline{clusterB, 1}
	at := func(min int) time.Time { return day.Add(time.Duration(min) * time.Minute) }
	for name, c := range map[string]struct {
		entries []Entry
		want    int // index; -1: none
	}{
		"nothing":                  {nil, -1},
		"only an upload":           {[]Entry{entry(a1, 9, at(1), true, false)}, -1},
		"only a manifest":          {[]Entry{entry(a1, 9, at(1), false, true)}, -1},
		"the last":                 {[]Entry{entry(a1, 5, at(1), true, true), entry(a1, 6, at(2), true, true)}, 1},
		"an idle cluster":          {[]Entry{entry(a1, 5, at(1), true, true), entry(a1, 5, at(2), true, true)}, 1},
		"a clock ahead":            {[]Entry{entry(a1, 5, at(9), true, true), entry(a1, 6, at(2), true, true)}, 1},
		"a survivor that lags":     {[]Entry{entry(a1, 9, at(1), true, true), entry(a1, 6, at(2), true, true)}, 0},
		"a cut":                    {[]Entry{entry(a1, 9, at(1), true, true), entry(a2, 6, at(2), true, true)}, 1},
		"a cut, by a clock behind": {[]Entry{entry(a1, 9, at(5), true, true), entry(a2, 6, at(2), true, true)}, 1},
		"another cluster":          {[]Entry{entry(a1, 9, at(1), true, true), entry(b1, 6, at(2), true, true)}, 1},
		"lost data":                {[]Entry{entry(a1, 5, at(1), true, true), entry(a2, 6, at(2), false, true)}, 0},
	} {
		cat := newCatalog(slices.Clone(c.entries)...)
		got, ok := cat.Newest()
		if ok != (c.want >= 0) || ok && got != c.entries[c.want] {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

func TestAbandoned(t *testing.T) {
	tl := Timeline{clusterA, 1}
	now := day
	fresh, old := entry(tl, 1, now.Add(-23*time.Hour), true, false), entry(tl, 2, now.Add(-25*time.Hour), true, false)
	oldID := entry(tl, 3, now.Add(-30*time.Hour), true, false) // began long ago, stored just now
	oldID.Data.Modified = now.Add(-time.Hour)
	skewed := entry(tl, 4, now.Add(-time.Hour), true, false) // an old object under an ID of now
	skewed.Data.Modified = now.Add(-30 * time.Hour)
	backup := entry(tl, 5, now.Add(-100*time.Hour), true, true)
	lost := entry(tl, 6, now.Add(-100*time.Hour), false, true)
	got := newCatalog(fresh, old, oldID, skewed, backup, lost).Abandoned(now)
	if !cmp.Equal(got, []Entry{old}) {
		t.Errorf("abandoned %+v, want %+v", got, old)
	}
	if got := newCatalog(old, entry(tl, 9, now.Add(time.Hour), true, true)).Abandoned(now); got != nil {
		t.Errorf("a store that has seen a later time: abandoned %+v, want none", got)
	}
}

// listing is a store that lists 100,000 objects in order, as S3 would in 100 answers, and can do nothing else.
type listing struct {
	store.Store
	backups, strange int
}

func (l listing) List(_ context.Context, prefix, _ string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i := range l.backups {
			id := SnapshotID(ulid.MustNew(ulid.Timestamp(day.Add(time.Duration(i)*time.Minute)), nil).String())
			tl := Timeline{Cluster: clusterA, Cut: uint32(1 + i/(l.backups-9_000))}
			for _, key := range []string{DataKey(tl, Revision(i+1), id, true), ManifestKey(tl, Revision(i+1), id)} {
				if !yield(store.Info{Key: prefix + key, Size: 1, ETag: fmt.Sprintf("%032x", i), Modified: day}, nil) {
					return
				}
			}
		}
		for i := range l.strange {
			if !yield(store.Info{Key: fmt.Sprintf("%selsewhere/%d.txt", prefix, i)}, nil) {
				return
			}
		}
	}
}

// 100,000 objects take a bounded memory each, and what is strange takes none.
func TestCatalogLarge(t *testing.T) {
	const backups, strange = 49_000, 2_000
	r := &Repo{store: scoped{st: listing{backups: backups, strange: strange}, prefix: "main/"}, cluster: "main"}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	c := catalog(t, r)
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / backups
	t.Logf("%d objects in %v, %d bytes per backup", c.Objects, took, each)
	if each > 1000 {
		t.Errorf("%d bytes per backup", each)
	}
	if n := len(c.Backups()); n != backups || c.StrangeCount != strange || len(c.Strange) != strangeMax || c.Objects != 2*backups+strange {
		t.Errorf("%d backups, %d strange keys of which %d are named, %d objects", n, c.StrangeCount, len(c.Strange), c.Objects)
	}
	if e, ok := c.Newest(); !ok || e.Revision != backups || e.Timeline.Cut != 2 {
		t.Errorf("newest %+v", e)
	}
}
