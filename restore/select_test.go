package restore

import (
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// TestSelect: only a complete backup is ever chosen, and what is wrong with another is said.
func TestSelect(t *testing.T) {
	now := time.Date(2026, 7, 1, 3, 0, 0, 0, time.UTC)
	entry := func(age time.Duration, rev repo.Revision, data, manifest bool) repo.Entry {
		e := repo.Entry{Timeline: repo.Timeline{Cluster: 1, Cut: 1}, Revision: rev, ID: repo.NewSnapshotID(now.Add(-age))}
		if data {
			e.Data = store.Info{Key: "data"}
		}
		if manifest {
			e.Manifest = store.Info{Key: "manifest"}
		}
		return e
	}
	old, good := entry(3*time.Hour, 10, true, true), entry(2*time.Hour, 20, true, true)
	lost, unfinished := entry(time.Hour, 30, false, true), entry(time.Minute, 40, true, false)
	c := &repo.Catalog{Entries: []repo.Entry{old, good, lost, unfinished}}
	for _, ok := range []struct {
		p    Point
		want repo.Entry
	}{{Point{}, good}, {Point{ID: old.ID}, old}} {
		if got, err := Select(c, ok.p); err != nil || got != ok.want {
			t.Errorf("%+v: %+v, %v; want %+v", ok.p, got, err, ok.want)
		}
	}
	for says, p := range map[string]Point{
		"data object is missing": {ID: lost.ID}, "did not finish": {ID: unfinished.ID}, "not in this repository": {ID: repo.NewSnapshotID(now)},
	} {
		if _, err := Select(c, p); err == nil || !strings.Contains(err.Error(), says) || fail.HintOf(err) == "" {
			t.Errorf("%+v: %v; want %q and a hint", p, err, says)
		}
	}
	if _, err := Select(&repo.Catalog{Entries: []repo.Entry{lost, unfinished}}, Point{}); err == nil || !strings.Contains(err.Error(), "no complete backup") {
		t.Errorf("nothing complete: %v", err)
	}
}
