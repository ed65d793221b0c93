package repo

import (
	"testing"
	"time"
)

// All small cases: up to two backups of this cluster and one of another, on two cuts, complete or not, at three revisions and terms, beside every
// new snapshot. Each is compared with the rule as it was asked for.
func TestNextTimelineExhaustive(t *testing.T) {
	type state struct {
		cut              uint32 // 0: no such backup
		rev              Revision
		data, isManifest bool
	}
	states := []state{{}}
	for cut := uint32(1); cut <= 2; cut++ {
		for rev := Revision(1); rev <= 3; rev++ {
			for kind := 1; kind <= 3; kind++ {
				states = append(states, state{cut, rev, kind&1 != 0, kind&2 != 0})
			}
		}
	}
	cases := 0
	for _, a := range states {
		for _, b := range states {
			var entries []Entry
			for i, s := range []state{a, b} {
				if s.cut > 0 {
					entries = append(entries, entry(Timeline{clusterA, s.cut}, s.rev, day.Add(time.Duration(i)*time.Hour), s.data, s.isManifest))
				}
			}
			c := newCatalog(append(entries, entry(Timeline{clusterB, 7}, 9, day, true, true))...)
			for lastTerm := uint64(0); lastTerm <= 3; lastTerm++ { // 0: the manifest could not be read
				for rev := Revision(1); rev <= 3; rev++ {
					for term := uint64(1); term <= 3; term++ {
						for _, quorum := range []bool{false, true} {
							cases++
							checkNext(t, c, lastTerm, rev, term, quorum)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

func checkNext(t *testing.T, c *Catalog, lastTerm uint64, rev Revision, term uint64, quorum bool) {
	t.Helper()
	var last *Manifest
	if e, ok := c.NewestOf(clusterA); ok && lastTerm > 0 {
		last = &Manifest{Timeline: e.Timeline, Database: Database{Revision: e.Revision}, Source: Source{RaftTerm: lastTerm}}
	}
	got := NextTimeline(c, last, clusterA, rev, term, quorum)

	// The rule, from the other side: the newest cut with a manifest, and the highest revision on it.
	var cut uint32
	var highest Revision
	complete := false
	for _, e := range c.Entries {
		if e.Timeline.Cluster == clusterA && e.Manifest.Key != "" && (e.Timeline.Cut > cut || e.Timeline.Cut == cut && e.Revision > highest) {
			cut, highest = e.Timeline.Cut, e.Revision
		}
	}
	for _, e := range c.Entries {
		complete = complete || e.Timeline == Timeline{clusterA, cut} && e.Complete()
	}
	want := cut
	switch {
	case cut == 0:
		want = 1
	case quorum && rev < highest:
		want++
	case quorum && complete && lastTerm > 0 && term < lastTerm:
		want++
	}
	if (got != Timeline{clusterA, want}) {
		t.Fatalf("%+v\nlast term %d, new snapshot at revision %d, term %d, quorum %t: %s, want cut %d", c.Entries, lastTerm, rev, term, quorum, got, want)
	}
}

// The stories behind the rule.
func TestNextTimelineStories(t *testing.T) {
	a1 := Timeline{clusterA, 1}
	manifest := func(tl Timeline, rev Revision, term uint64) *Manifest {
		return &Manifest{Timeline: tl, Database: Database{Revision: rev}, Source: Source{RaftTerm: term}}
	}
	at := func(h int) time.Time { return day.Add(time.Duration(h) * time.Hour) }
	full := newCatalog(entry(a1, 1000, at(0), true, true))
	lagging := newCatalog(entry(a1, 1000, at(0), true, true), entry(a1, 900, at(1), true, true))
	for name, c := range map[string]struct {
		got, want Timeline
	}{
		"first backup":                            {NextTimeline(&Catalog{}, nil, clusterA, 5, 2, true), a1},
		"first backup of a survivor":              {NextTimeline(&Catalog{}, nil, clusterA, 5, 2, false), a1},
		"nothing was written since":               {NextTimeline(full, manifest(a1, 1000, 4), clusterA, 1000, 4, true), a1},
		"a survivor that lags":                    {NextTimeline(full, manifest(a1, 1000, 4), clusterA, 900, 4, false), a1},
		"that survivor, forced back":              {NextTimeline(lagging, manifest(a1, 1000, 4), clusterA, 950, 5, true), Timeline{clusterA, 2}},
		"restored under its old token":            {NextTimeline(full, manifest(a1, 1000, 4), clusterA, 800, 2, true), Timeline{clusterA, 2}},
		"restored, and far ahead since":           {NextTimeline(full, manifest(a1, 1000, 4), clusterA, 5000, 2, true), Timeline{clusterA, 2}},
		"a cluster restored under a new token":    {NextTimeline(full, nil, clusterB, 1_000_001_000, 2, true), Timeline{clusterB, 1}},
		"a manifest that is about something else": {NextTimeline(full, manifest(Timeline{clusterB, 1}, 9999, 99), clusterA, 1001, 4, true), a1},
		"an upload of the next cut, not ended":    {NextTimeline(newCatalog(entry(a1, 10, at(0), true, true), entry(Timeline{clusterA, 2}, 5, at(1), true, false)), nil, clusterA, 11, 4, true), a1},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}
