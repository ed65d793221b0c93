package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// TestView: what lies on disk while a snapshot is looked at is its owner's alone, has no name once it is whole, and is gone after whatever happens.
func TestView(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 5)
	m := r.add(t, content, info, time.Now(), true)
	o := ViewOptions{Repo: r.repo, Identities: []age.Identity{r.id}, Scratch: filepath.Join(t.TempDir(), "scratch")}
	looked := 0
	o.Progress = func(string, int64, int64) {
		looked++
		if err := filepath.WalkDir(o.Scratch, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err == nil && st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, st.Mode())
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	empty := func(when string) {
		t.Helper()
		if left, err := os.ReadDir(o.Scratch); err != nil || len(left) != 0 {
			t.Errorf("%s the scratch folder holds %v (%v)", when, left, err)
		}
	}
	v, err := OpenView(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	empty("while it is open")
	l := &Located{Timeline: m.Timeline, Revision: m.Database.Revision, Snapshot: m}
	n := 0
	for kv, err := range v.Get(t.Context(), l, keys.Prefix("/registry/pods/")) {
		if err != nil || !strings.HasPrefix(string(kv.Value), "plain-value-") {
			t.Errorf("%s: %q, %v", kv.Key, kv.Value, err)
		}
		n++
	}
	if n != 5 || looked == 0 {
		t.Errorf("%d keys, %d looks at the folder", n, looked)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}

	progress := o.Progress
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(string, int64, int64) { cancel() }
	if _, err := OpenView(ctx, m, o); fail.ExitCode(err) != fail.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
	empty("cancelled,")
	o.Progress = progress
	object, err := os.ReadFile(r.file(m.Object.Key))
	if err != nil {
		t.Fatal(err)
	}
	object[len(object)/2] ^= 1
	if err := os.WriteFile(r.file(m.Object.Key), object, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenView(t.Context(), m, o); fail.ExitCode(err) != fail.Wanting {
		t.Errorf("a damaged one: %v", err)
	}
	empty("after a damaged one")
}

// named puts a backup that says that it is of a revision: LocateSpan looks at names and manifests alone.
func (r *rig) named(t *testing.T, content []byte, rev, compact repo.Revision) *repo.Manifest {
	t.Helper()
	info := dbfile.Info{Revision: rev, CompactRevision: compact, Size: int64(len(content) - trailerSize)}
	m, object := r.sealed(t, content, info, time.Now(), false)
	r.put(t, m, object)
	return m
}

// nameOnly puts a segment of which only the name is good.
func (r *rig) nameOnly(t *testing.T, first, last repo.Revision) {
	t.Helper()
	s := repo.Segment{Timeline: repo.Timeline{Cluster: testCluster, Cut: 1}, First: first, Last: last, ID: repo.NewSnapshotID(time.Now())}
	s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, false)
	b := []byte("x")
	if err := r.repo.PutSegment(t.Context(), s, store.Source{Reader: bytes.NewReader(b), Size: 1, SHA256: sha256.Sum256(b)}); err != nil {
		t.Fatal(err)
	}
}

// TestLocateSpan: history is read from as little as holds it, goes back as far as one snapshot leads, and is refused where it is not in one piece.
func TestLocateSpan(t *testing.T) {
	r := newRig(t)
	content, _ := snapshotFile(t, 5)
	// 50..100 by the first, 101..180 by segments, a hole, 201..300 by the second with its own history from 210 on.
	a := r.named(t, content, 100, 50)
	b := r.named(t, content, 300, 210)
	for _, s := range [][2]repo.Revision{{101, 140}, {141, 180}, {301, 350}} {
		r.nameOnly(t, s[0], s[1])
	}
	for _, c := range []struct {
		since, until    repo.Revision
		last            repo.Revision
		snapshot        *repo.Manifest
		segments        int
		first, complete repo.Revision
	}{
		{0, 0, 350, b, 1, 0, 211},
		{0, 180, 180, a, 2, 0, 51},
		{0, 90, 90, a, 0, 0, 51},
		{60, 130, 130, a, 1, 60, 60},
		{101, 130, 130, nil, 1, 101, 101},
		{130, 180, 180, nil, 2, 130, 130},
		{301, 0, 350, nil, 1, 301, 301},
		{250, 320, 320, b, 1, 250, 250},
	} {
		s, err := LocateSpan(t.Context(), r.repo, Point{Revision: c.since}, Point{Revision: c.until}, LocateOptions{})
		if err != nil {
			t.Errorf("%d to %d: %v", c.since, c.until, err)
			continue
		}
		same := s.Snapshot == nil && c.snapshot == nil || s.Snapshot != nil && c.snapshot != nil && s.Snapshot.ID == c.snapshot.ID
		if !same || len(s.Segments) != c.segments || s.First != c.first || s.Complete != c.complete || s.Last != c.last {
			t.Errorf("%d to %d: got %+v", c.since, c.until, s)
		}
	}
	for _, c := range []struct {
		since, until Point
		code         fail.Code
		hint         string
	}{
		{Point{Revision: 120}, Point{}, fail.Unsafe, "--from-revision 211, or an earlier end with --to-revision"},
		{Point{Revision: 190}, Point{}, fail.Unsafe, "the nearest restore points: --to-revision 180, or --to-revision 210"},
		{Point{}, Point{Revision: 195}, fail.Unsafe, "the nearest restore points: --to-revision 180, or --to-revision 210"},
		{Point{Revision: 130}, Point{Revision: 120}, fail.Usage, ""},
		{Point{Time: time.Now().Add(time.Hour)}, Point{}, fail.Usage, ""},
	} {
		s, err := LocateSpan(t.Context(), r.repo, c.since, c.until, LocateOptions{})
		if fail.ExitCode(err) != c.code || c.hint != "" && fail.HintOf(err) != c.hint {
			t.Errorf("%+v to %+v: got %+v, %v (exit %d, hint %q)", c.since, c.until, s, err, fail.ExitCode(err), fail.HintOf(err))
		}
	}
}
