package repo_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// TestSegmentNames: what SegmentKey makes is read back; what it would not make is refused.
func TestSegmentNames(t *testing.T) {
	id := repo.NewSnapshotID(time.Now())
	line := repo.Timeline{Cluster: 0xcdf818194e3a8c32, Cut: 12}
	for _, s := range []repo.Segment{
		{Timeline: line, First: 1, Last: 1, ID: id},
		{Timeline: line, First: 2, Last: 1 << 62, ID: id, Encrypted: true},
	} {
		s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, s.Encrypted)
		got, err := repo.ParseSegmentKey(s.Key)
		if d := cmp.Diff(s, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", s.Key, err, d)
		}
	}
	good := repo.SegmentKey(line, 5, 9, id, true)
	for _, bad := range []string{
		"", "x", strings.Replace(good, "/changes/", "/snapshots/", 1), strings.Replace(good, ".age", ".gpg", 1), strings.Replace(good, ".chg", ".db", 1),
		good + ".age", strings.Replace(good, "-12/", "-0/", 1), strings.Replace(good, "0005-", "0005_", 1), strings.ToUpper(good),
		repo.SegmentKey(line, 9, 5, id, true), repo.SegmentKey(line, 0, 5, id, true), good[1:], good + "/x", "a/" + good,
		strings.Replace(good, id.Time().Format("2006-01-02"), "2006-01-02", 1), strings.Replace(good, id.Time().Format("2006-01-02"), id.Time().Format("2006-01"), 1),
	} {
		if s, err := repo.ParseSegmentKey(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, s)
		}
	}
}

// segmentRepo is a repository in a folder.
func segmentRepo(t *testing.T) (*repo.Repo, store.Store) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return r, st
}

// TestSegmentsInCatalog: one listing shows the segments in order, and what only looks like one as strange.
func TestSegmentsInCatalog(t *testing.T) {
	r, st := segmentRepo(t)
	ctx := t.Context()
	one, two := repo.Timeline{Cluster: 7, Cut: 1}, repo.Timeline{Cluster: 7, Cut: 2}
	var want []repo.Segment
	for _, s := range []repo.Segment{{Timeline: one, First: 5, Last: 9}, {Timeline: one, First: 5, Last: 7}, {Timeline: one, First: 10, Last: 10}, {Timeline: two, First: 1, Last: 4}} {
		s.ID = repo.NewSnapshotID(time.Now())
		s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, s.Encrypted)
		if err := r.PutSegment(ctx, s, store.Source{Reader: strings.NewReader("bytes"), Size: 5}); err != nil {
			t.Fatal(err)
		}
		s.Size = 5
		want = append(want, s)
	}
	for _, key := range []string{"main/" + one.String() + "/changes/readme", "main/coordination/recorded/x.json"} {
		if _, err := st.Put(ctx, key, store.Source{Reader: strings.NewReader("?"), Size: 1}, store.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Catalog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Segments {
		c.Segments[i].Modified = time.Time{}
	}
	if d := cmp.Diff(want, c.Segments); d != "" || c.StrangeCount != 2 {
		t.Errorf("%d strange\n%s", c.StrangeCount, d)
	}
	if got := c.SegmentsOf(two); len(got) != 1 || got[0] != c.Segments[3] {
		t.Errorf("timeline 2 has %+v", got)
	}
	// A recorder has begun cut 2: a snapshot belongs there, although none says so.
	if got := repo.NextTimeline(c, nil, 7, 100, 1, true); got != two {
		t.Errorf("the next snapshot is on %s, want %s", got, two)
	}
	if got := repo.NextTimeline(c, nil, 8, 100, 1, true); got != (repo.Timeline{Cluster: 8, Cut: 1}) {
		t.Errorf("another cluster's is on %s", got)
	}
	body, err := r.SegmentData(ctx, c.Segments[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(body); err != nil || b.String() != "bytes" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

// TestRecorded: what only grows never goes down, however many write, and a damaged mark is as good as none.
func TestRecorded(t *testing.T) {
	r, st := segmentRepo(t)
	ctx, line := t.Context(), repo.Timeline{Cluster: 7, Cut: 1}
	if _, ok, err := r.Recorded(ctx, line); ok || err != nil {
		t.Fatalf("a mark before the first: %v, %v", ok, err)
	}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range 5 {
				n := repo.Revision(i + 4*k)
				err := r.PutRecorded(context.WithoutCancel(ctx), repo.Recorded{
					Timeline: line, Highest: 100 + n, Through: n, Time: noon.Add(time.Duration(n) * time.Second), RaftTerm: uint64(n), Check: n,
					Gaps: []repo.RecordedGap{{From: n, To: n + 1, Reason: "test", Time: noon}}, Host: "test",
				})
				if err != nil && !strings.Contains(err.Error(), "others were faster") {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := r.PutRecorded(ctx, repo.Recorded{Timeline: line, Highest: 1, Through: 1, Time: noon, Host: "last", Ended: "cut"}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := r.Recorded(ctx, line)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got.Host != "last" || got.Ended != "cut" || got.Highest < 103 || got.Through < 3 || got.Highest != 100+got.Through || got.Check != got.Through ||
		!got.Time.Equal(noon.Add(time.Duration(got.Through)*time.Second)) || len(got.Gaps) < 4 {
		t.Errorf("got %+v", got)
	}
	c, err := r.Catalog(ctx)
	if err != nil || len(c.Recorded) != 1 || c.Recorded[0] != line || c.StrangeCount != 0 {
		t.Errorf("the catalog has %v, %v", c.Recorded, err)
	}
	if _, err := st.Put(ctx, "main/coordination/recorded/"+line.String()+".json", store.Source{Reader: strings.NewReader("{}"), Size: 2}, store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.Recorded(ctx, line); ok || err != nil {
		t.Errorf("a damaged mark counts: %v, %v", ok, err)
	}
	if err := r.PutRecorded(ctx, repo.Recorded{Timeline: line, Highest: 5, Host: "again"}); err != nil {
		t.Error(err)
	}
}

// TestLatestRecorded: of several timelines' marks, the one that was written last.
func TestLatestRecorded(t *testing.T) {
	r, _ := segmentRepo(t)
	if _, ok, err := r.LatestRecorded(t.Context()); ok || err != nil {
		t.Fatalf("a mark before the first: %v, %v", ok, err)
	}
	for _, l := range []repo.Timeline{{Cluster: 7, Cut: 1}, {Cluster: 7, Cut: 2}, {Cluster: 3, Cut: 1}, {Cluster: 7, Cut: 2}} {
		if err := r.PutRecorded(t.Context(), repo.Recorded{Timeline: l, Highest: 1, Host: "test"}); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := r.LatestRecorded(t.Context()); err != nil || !ok || got.Timeline != l {
			t.Errorf("got %s (%t, %v), want %s, which was written last", got.Timeline, ok, err, l)
		}
	}
}
