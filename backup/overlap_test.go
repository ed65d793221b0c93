package backup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

var overlapLine = repo.Timeline{Cluster: testCluster, Cut: 1}

// flip damages an object in its middle.
func (r *rig) flip(t *testing.T, key string) {
	t.Helper()
	path := r.file(key)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// everyWay reads revision rev in each way that there is, and gives their errors and notes by name.
func (r *rig) everyWay(t *testing.T, rev repo.Revision) map[string]struct {
	notes string
	err   error
} {
	t.Helper()
	ids := []age.Identity{r.id}
	out := map[string]struct {
		notes string
		err   error
	}{}
	say := func(name string, notes []string, err error) {
		out[name] = struct {
			notes string
			err   error
		}{strings.Join(notes, "\n"), err}
	}
	locate := func() *Located {
		l, err := Locate(t.Context(), r.repo, Point{Revision: rev}, LocateOptions{Identities: ids})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := locate()
	_, err := l.Materialise(t.Context(), r.repo, MaterialiseOptions{Path: filepath.Join(t.TempDir(), "db"), Identities: ids})
	say("materialise", l.Notes, err)
	exported, err := Export(t.Context(), ExportOptions{Repo: r.repo, Point: Point{Revision: rev}, Identities: ids, To: filepath.Join(t.TempDir(), "to")})
	var notes []string
	if exported != nil {
		notes = exported.Point.Notes
	}
	say("export", notes, err)
	notes = nil
	o := ViewOptions{Repo: r.repo, Identities: ids, Scratch: t.TempDir(), Note: func(n string) { notes = append(notes, n) }}
	l = locate()
	v, err := OpenView(t.Context(), l.Snapshot, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range v.Get(t.Context(), l, keys.Prefix("")) {
		err = errors.Join(err, e)
	}
	say("get", notes, errors.Join(err, v.Close()))
	notes = nil
	s, err := LocateSpan(t.Context(), r.repo, Point{}, Point{Revision: rev}, LocateOptions{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range History(t.Context(), s, keys.Prefix(""), o) {
		err = errors.Join(err, e)
	}
	say("history", notes, err)
	return out
}

// TestDamagedDuplicate: of two segments that hold the same revisions, a damaged one does not block what the other gives, whichever would have been chosen; and it is said.
func TestDamagedDuplicate(t *testing.T) {
	content, info := snapshotFile(t, 20)
	base := info.Revision
	for name, last := range map[string]repo.Revision{"the same range": base + 5, "the chosen one": base + 7} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.add(t, content, info, time.Now().Add(-time.Minute), true)
			bad := r.segment(t, overlapLine, overlapLine, base+1, last, "v", last)
			r.segment(t, overlapLine, overlapLine, base+1, base+3, "v", base+3)
			at := time.Now()
			time.Sleep(5 * time.Millisecond)
			r.segment(t, overlapLine, overlapLine, base+3, base+5, "v", base+5)
			r.flip(t, bad.Key)
			for way, got := range r.everyWay(t, base+5) {
				if got.err != nil || !strings.Contains(got.notes, bad.Key) {
					t.Errorf("%s: %v, notes %q; want it to work, and to name %s", way, got.err, got.notes, bad.Key)
				}
			}
			if last > base+5 {
				return
			}
			l, err := Locate(t.Context(), r.repo, Point{Time: at}, LocateOptions{Identities: []age.Identity{r.id}})
			if err != nil || l.Revision != base+5 || len(l.Notes) == 0 {
				t.Errorf("a time: %+v, %v; want what the segments' names say was seen by then, with a note", l, err)
			}
		})
	}
}

// TestNoDuplicateLeft: when all that holds a revision is damaged, that is the error, with the way round by another snapshot if there is one.
func TestNoDuplicateLeft(t *testing.T) {
	content, info := snapshotFile(t, 20)
	base := info.Revision
	r := newRig(t)
	r.add(t, content, info, time.Now().Add(-time.Minute), true)
	for range 2 {
		r.flip(t, r.segment(t, overlapLine, overlapLine, base+1, base+5, "v", base+5).Key)
	}
	wantAll := func(hint string) {
		t.Helper()
		for way, got := range r.everyWay(t, base+5) {
			if !errors.Is(got.err, changes.ErrDamaged) || fail.ExitCode(got.err) != fail.Wanting || hint != "" && way == "materialise" && !strings.Contains(fail.HintOf(got.err), hint) {
				t.Errorf("%s: exit code %d, %v, hint %q", way, fail.ExitCode(got.err), got.err, fail.HintOf(got.err))
			}
		}
	}
	wantAll("--id")
	later := info
	later.Revision += 9 // by its manifest, which is all that is asked for the way
	later.CompactRevision = base
	m := r.add(t, content, later, time.Now(), true)
	wantAll("--id " + string(m.ID) + " --to-revision ")
}

// TestContradictingSegment: a segment that says something else than the one that would be applied is corruption, also where it is not needed, and both are named.
func TestContradictingSegment(t *testing.T) {
	content, info := snapshotFile(t, 20)
	base := info.Revision
	for name, c := range map[string][2]repo.Revision{"the same range": {base + 1, base + 5}, "inside": {base + 2, base + 4}, "over the end": {base + 4, base + 9}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.add(t, content, info, time.Now().Add(-time.Minute), true)
			a := r.segment(t, overlapLine, overlapLine, base+1, base+5, "v", base+5)
			b := r.segment(t, overlapLine, overlapLine, c[0], c[1], "w", c[1])
			for way, got := range r.everyWay(t, base+5) {
				if !errors.Is(got.err, rebuild.ErrContradiction) || fail.ExitCode(got.err) != fail.Wanting || !strings.Contains(got.err.Error(), a.Key) || !strings.Contains(got.err.Error(), b.Key) {
					t.Errorf("%s: exit code %d, %v; want a contradiction of %s and %s", way, fail.ExitCode(got.err), got.err, a.Key, b.Key)
				}
			}
			for way, got := range r.everyWay(t, c[0]) {
				if !errors.Is(got.err, rebuild.ErrContradiction) {
					t.Errorf("%s to revision %d: %v", way, c[0], got.err)
				}
			}
			if c[0] == base+1 {
				return
			}
			for way, got := range r.everyWay(t, c[0]-1) { // below it, nothing is in doubt
				if got.err != nil {
					t.Errorf("%s to revision %d: %v", way, c[0]-1, got.err)
				}
			}
		})
	}
}

// TestProofTellsWhich: of two segments that contradict each other, the one that leads to a hash which a member gave is named as the right one.
func TestProofTellsWhich(t *testing.T) {
	content, info := snapshotFile(t, 20)
	base, r := info.Revision, newRig(t)
	r.add(t, content, info, time.Now().Add(-time.Minute), true)
	ids := []age.Identity{r.id}
	plain := &logged{rig: r, timeline: overlapLine}
	right := r.segment(t, overlapLine, overlapLine, base+1, base+5, "v", base+5)
	l, err := Locate(t.Context(), r.repo, Point{}, LocateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	if _, err := l.Materialise(t.Context(), r.repo, MaterialiseOptions{Path: path, Identities: ids}); err != nil {
		t.Fatal(err)
	}
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := f.HashKV(t.Context(), base+5, info.CompactRevision)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	h, events, _ := plain.events(t, right)
	plain.remove(t, right)
	wrong := r.segment(t, overlapLine, overlapLine, base+1, base+5, "w", base+5)
	proof := changes.Proof{Revision: base + 5, CompactRevision: info.CompactRevision, Hash: hash, MemberID: 0xaa, Time: time.Now()}
	right = plain.put(t, h, events, []changes.Proof{proof})
	_, err = Export(t.Context(), ExportOptions{Repo: r.repo, Point: Point{Revision: base + 5}, Identities: ids, To: filepath.Join(t.TempDir(), "to")})
	if fail.ExitCode(err) != fail.Wanting || !strings.Contains(fail.HintOf(err), right.Key+" leads to the hash") || !strings.Contains(fail.HintOf(err), wrong.Key+" is the wrong one") {
		t.Errorf("exit code %d, %v, hint %q; want %s to be the right one", fail.ExitCode(err), err, fail.HintOf(err), right.Key)
	}
}

// TestSegmentOfAnotherKey: a segment that no identity opens is no part of what is restored from others: a note, not a failure.
func TestSegmentOfAnotherKey(t *testing.T) {
	content, info := snapshotFile(t, 20)
	base, r := info.Revision, newRig(t)
	r.add(t, content, info, time.Now().Add(-time.Minute), true)
	mine := r.id
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r.id = other
	locked := r.segment(t, overlapLine, overlapLine, base+1, base+3, "v", base+3)
	r.id = mine
	r.segment(t, overlapLine, overlapLine, base+1, base+5, "v", base+5)
	for way, got := range r.everyWay(t, base+5) {
		if got.err != nil || !strings.Contains(got.notes, locked.Key) {
			t.Errorf("%s: %v, notes %q; want a note of %s", way, got.err, got.notes, locked.Key)
		}
	}
}
