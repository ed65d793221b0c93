package rebuild_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/backup/store"
)

// shelf is a repository in a folder, with encrypted segments.
type shelf struct {
	dir  string
	repo *repo.Repo
	id   *age.X25519Identity
}

func newShelf(t *testing.T) shelf {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err == nil {
		err = r.Admit(t.Context(), timeline.Cluster, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return shelf{dir, r, id}
}

// put stores a segment and gives the object's path.
func (s shelf) put(t *testing.T, first, last int64, content []byte) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := changes.NewSealWriter(&buf, []age.Recipient{s.id.Recipient()})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	seg := repo.Segment{Timeline: timeline, First: revision.Revision(first), Last: revision.Revision(last), ID: repo.NewSnapshotID(time.Now()), Encrypted: true}
	seg.Key = repo.SegmentKey(seg.Timeline, seg.First, seg.Last, seg.ID, true)
	if err := s.repo.PutSegment(t.Context(), seg, store.Source{Reader: bytes.NewReader(buf.Bytes()), Size: int64(buf.Len()), SHA256: sha256.Sum256(buf.Bytes())}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.dir, "main", filepath.FromSlash(seg.Key))
}

// TestFromRepo: from a listing of a repository to a rebuilt file, and never from an object with a flipped bit.
func TestFromRepo(t *testing.T) {
	rng := newRand(t)
	h := newHistory()
	h.random(rng, 200)
	s := newShelf(t)
	for _, r := range [][2]int64{{21, 80}, {71, 120}, {121, 140}, {121, 200}} {
		s.put(t, r[0], r[1], content(t, h.changes, r[0], r[1]))
	}
	cat, err := s.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snap := cover.Snapshot{Entry: repo.Entry{Timeline: timeline, Revision: 30}, Compact: 10}
	plan, err := cover.Cover([]cover.Snapshot{snap}, cat.Segments, timeline, 150)
	if err != nil || len(plan.Segments) != 3 {
		t.Fatalf("%+v, %v", plan, err)
	}
	segs := rebuild.FromRepo(s.repo, plan.Segments, []age.Identity{s.id})
	path := h.file(t, 30, 10)
	if _, err := rebuild.To(t.Context(), rebuild.Options{Path: path, Target: 150, Segments: segs, Timeline: timeline}); err != nil {
		t.Fatal(err)
	}
	check(t, h, path, 150, 10)
	other, _ := age.GenerateX25519Identity()
	for name, id := range map[string][]age.Identity{"none": nil, "another": {other}} {
		if _, err := rebuild.To(t.Context(), rebuild.Options{Path: h.file(t, 30, 10), Target: 150, Segments: rebuild.FromRepo(s.repo, plan.Segments, id)}); err == nil {
			t.Errorf("read with %s identity", name)
		}
	}
	object := filepath.Join(s.dir, "main", filepath.FromSlash(plan.Segments[1].Key))
	good, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	base := h.file(t, 30, 10)
	for range 100 {
		bad := bytes.Clone(good)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(object, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := rebuild.To(t.Context(), rebuild.Options{Path: clone(t, base), Target: 150, Segments: segs, Timeline: timeline})
		var seg *rebuild.SegmentError
		if !errors.As(err, &seg) || seg.Segment != plan.Segments[1].Key {
			t.Fatalf("a flipped bit of %s: %v", object, err)
		}
	}
}
