package backup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

// booted stands for a scratch etcd that found nothing wrong: what it finds is tested elsewhere.
func booted(context.Context, string, *repo.Manifest) (float64, error) { return 0.1, nil }

func (r *logged) verify(t *testing.T, o VerifyOptions) (*Report, ChangesVerdict) {
	t.Helper()
	o.Repo, o.Scratch, o.Host = r.repo, t.TempDir(), "h"
	rep, err := Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Changes) != 1 || rep.Changes[0].Timeline != r.timeline {
		t.Fatalf("the change logs: %+v", rep.Changes)
	}
	return rep, rep.Changes[0]
}

func (r *logged) deep(t *testing.T) (*Report, ChangesVerdict) {
	t.Helper()
	return r.verify(t, VerifyOptions{All: true, Identities: []age.Identity{r.id}, Boot: booted})
}

func (r *logged) marks(t *testing.T) []repo.VerifiedRange {
	t.Helper()
	marks, err := r.repo.VerifiedRanges(t.Context(), r.timeline)
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

// at is what the marks say of a revision.
func at(marks []repo.VerifiedRange, rev repo.Revision) repo.VerifiedRange {
	i := slices.IndexFunc(marks, func(m repo.VerifiedRange) bool { return m.First <= rev && rev <= m.Last })
	if i < 0 {
		return repo.VerifiedRange{}
	}
	return marks[i]
}

// TestVerifyChanges: a true log passes with every hash that its member gave and is marked with what was proven of it; a log that is not what
// happened, or not whole, is found, whatever its checksums say.
func TestVerifyChanges(t *testing.T) {
	r := loggedRig(t, "3.6")
	segs := r.segments(t)
	t.Logf("%d segments, backups at %d and %d, the log ends at %d", len(segs), r.first.Database.Revision, r.second.Database.Revision, r.last)

	t.Run("true", func(t *testing.T) { r.copy(t).true(t) })
	t.Run("in small legs", func(t *testing.T) {
		r := r.copy(t)
		rep, v := r.verify(t, VerifyOptions{All: true, Identities: []age.Identity{r.id}, Boot: booted, limits: rollLimits{legBytes: 1, growth: 1}})
		if !rep.OK || v.Proofs != 4 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("without an identity", func(t *testing.T) {
		r := r.copy(t)
		rep, v := r.verify(t, VerifyOptions{All: true})
		if !rep.OK || v.Level != repo.LevelBytes || v.Result != ResultBytes || rep.Backups[0].Result != ResultBytes || v.Segments != len(segs) {
			t.Errorf("%+v", rep)
		}
		if m := at(r.marks(t), r.last); m.Level != repo.LevelBytes {
			t.Errorf("the mark: %+v", m)
		}
	})
	t.Run("a lie", func(t *testing.T) { r.copy(t).lie(t) })
	t.Run("a missing segment", func(t *testing.T) { r.copy(t).missing(t) })
	t.Run("a missing end", func(t *testing.T) {
		r := r.copy(t)
		newest := r.segments(t)[len(segs)-1]
		r.remove(t, newest)
		rep, v := r.deep(t)
		if rep.OK || len(v.Findings) != 1 || v.Findings[0].First != newest.First || v.Findings[0].Last != r.last {
			t.Errorf("without %s: %+v", newest.Key, v)
		}
	})
	t.Run("strangers", func(t *testing.T) { r.copy(t).strangers(t) })
	t.Run("what was not read yet", func(t *testing.T) { r.copy(t).increments(t) })
}

// TestVerifyChangesVersions: the same with the other servers: their hashes are what their logs lead to, and a lie is found.
func TestVerifyChangesVersions(t *testing.T) {
	for _, version := range []string{"3.5", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := loggedRig(t, version)
			r.copy(t).true(t)
			r.copy(t).lie(t)
		})
	}
}

func (r *logged) true(t *testing.T) {
	rep, v := r.deep(t)
	// Three of the member, and the second backup's own, which the first one leads to.
	if !rep.OK || v.Proofs != 4 || v.Level != repo.LevelContent || len(v.Findings) != 0 || v.Last != r.last {
		t.Errorf("%+v", v)
	}
	// No hash says anything of the last revision, and the verdict does not claim it.
	_, proofs := r.proofs(t)
	want := fmt.Sprintf("proven to %d, rebuilt to %d, content to %d", proofs[0].Revision, r.last-1, r.last)
	if got := v.Checked(); got != want {
		t.Errorf("checked: %s, want %s; %+v", got, want, v.Reach)
	}
	marks := r.marks(t)
	compacted := r.second.Database.CompactRevision
	for rev, want := range map[repo.Revision]string{
		r.first.Database.Revision + 1: repo.LevelProven, compacted + 1: repo.LevelProven, r.last - 1: repo.LevelProven, r.last: repo.LevelContent,
	} {
		if m := at(marks, rev); m.Level != want || !m.OK || m.Host != "h" {
			t.Errorf("revision %d: %+v, want %s; all: %+v", rev, m, want, marks)
		}
	}
	// What the member had compacted when it gave its second hash is known by what it led to.
	if m := at(marks, proofs[0].Revision+1); m.Level != repo.LevelRebuilt {
		t.Errorf("revision %d: %+v", proofs[0].Revision+1, m)
	}
	if c, err := r.repo.Catalog(t.Context()); err != nil || !slices.Equal(c.VerifiedChanges, []repo.Timeline{r.timeline}) || len(c.Strange) != 0 {
		t.Errorf("the catalog: %v, %v, %v", c.VerifiedChanges, c.Strange, err)
	}
	// A weaker look later does not take the proof away.
	r.verify(t, VerifyOptions{All: true})
	if m := at(r.marks(t), r.last-1); m.Level != repo.LevelProven {
		t.Errorf("after a look at the bytes: %+v", m)
	}
}

func (r *logged) proofs(t *testing.T) (in []repo.Segment, all []changes.Proof) {
	t.Helper()
	for _, s := range r.segments(t) {
		_, _, proofs := r.events(t, s)
		for range proofs {
			in = append(in, s)
		}
		all = append(all, proofs...)
	}
	return in, all
}

// lie drops one event of a transaction in the third bout and makes all checksums right again: only the member's hash can tell.
func (r *logged) lie(t *testing.T) {
	from := r.second.Database.Revision
	for _, s := range r.segments(t) {
		if s.First <= from || s.Last >= r.last {
			continue
		}
		h, events, proofs := r.events(t, s)
		i := slices.IndexFunc(events, func(e changes.Event) bool { _, sub := e.Revision(); return sub > 0 })
		if i < 0 {
			continue
		}
		for i+1 < len(events) { // the last of its transaction
			if _, sub := events[i+1].Revision(); sub == 0 {
				break
			}
			i++
		}
		main, _ := events[i].Revision()
		r.remove(t, s)
		r.put(t, h, slices.Delete(events, i, i+1), proofs)

		rep, v := r.verify(t, VerifyOptions{All: true, Identities: []age.Identity{r.id}})
		if !rep.OK || v.Level != repo.LevelContent {
			t.Errorf("its checksums should be right: %+v", v)
		}
		rep, v = r.deep(t)
		if rep.OK || len(v.Findings) != 1 || !strings.Contains(v.Findings[0].Problem, "HashKV") || v.Proofs != 3 {
			t.Fatalf("a dropped event of revision %d was not found: %+v", main, v)
		}
		if f := v.Findings[0]; f.First > repo.Revision(main) || f.Last < repo.Revision(main) || f.First <= from {
			t.Errorf("the finding is about %d to %d, the lie is at %d", f.First, f.Last, main)
		}
		if m := at(r.marks(t), repo.Revision(main)); m.OK || m.Problem == "" {
			t.Errorf("its mark: %+v", m)
		}
		if m := at(r.marks(t), from-1); !m.OK {
			t.Errorf("the mark of what comes before: %+v", m)
		}
		return
	}
	t.Fatal("no segment to lie with")
}

// missing takes a segment out of the middle: a hole that no recorder told of.
func (r *logged) missing(t *testing.T) {
	segs := r.segments(t)
	// Below what the second backup still holds the history of: that much of a segment is not missing.
	held := slices.IndexFunc(segs, func(s repo.Segment) bool { return s.Last >= r.second.Database.CompactRevision })
	if held < 2 {
		t.Fatalf("no segment in the middle ends below revision %d", r.second.Database.CompactRevision)
	}
	gone := segs[held-1]
	r.remove(t, gone)
	for _, o := range []VerifyOptions{{All: true}, {All: true, Identities: []age.Identity{r.id}, Boot: booted}, {}} {
		rep, v := r.verify(t, o)
		if rep.OK || len(v.Findings) != 1 || v.Findings[0].First != gone.First || v.Findings[0].Last != gone.Last || v.Findings[0].Key != "" {
			t.Errorf("without %s: %+v", gone.Key, v)
		}
	}
	// Once a recorder has told of it, it is a gap and no more.
	rec, ok, err := r.repo.Recorded(t.Context(), r.timeline)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	rec.Gaps = []repo.RecordedGap{{From: gone.First, To: gone.Last, Reason: "of a test"}}
	if err := r.repo.PutRecorded(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if rep, v := r.deep(t); !rep.OK || !slices.ContainsFunc(v.Notes, func(n string) bool { return strings.Contains(n, "of a test") }) {
		t.Errorf("a gap that was told of: %+v", v)
	}
}

// strangers are segments that are not what their names say: each is reported, by its name.
func (r *logged) strangers(t *testing.T) {
	segs := r.segments(t)
	s := segs[len(segs)/2]
	good, err := os.ReadFile(r.file(s.Key))
	if err != nil {
		t.Fatal(err)
	}
	find := func(what string, key, problem string) {
		t.Helper()
		rep, v := r.verify(t, VerifyOptions{All: true, Identities: []age.Identity{r.id}})
		if rep.OK || len(v.Findings) == 0 || v.Findings[0].Key != key || !strings.Contains(v.Findings[0].Problem, problem) {
			t.Errorf("%s: %+v", what, v)
		}
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for what, bad := range map[string][]byte{"a flipped bit": flipped, "a cut": good[:len(good)-1], "nothing": nil} {
		if err := os.WriteFile(r.file(s.Key), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		find(what, s.Key, "damaged")
	}
	if err := os.WriteFile(r.file(s.Key), good, 0o600); err != nil {
		t.Fatal(err)
	}
	misnamed := repo.SegmentKey(s.Timeline, s.First, s.Last+1, s.ID, true)
	if err := os.Rename(r.file(s.Key), r.file(misnamed)); err != nil {
		t.Fatal(err)
	}
	find("a wrong name", misnamed, "its header says")
	if err := os.Rename(r.file(misnamed), r.file(s.Key)); err != nil {
		t.Fatal(err)
	}
	h, events, proofs := r.events(t, s)
	h.Timeline.Cut++
	foreign := r.put(t, h, events, proofs)
	if err := os.Rename(r.file(foreign.Key), r.file(repo.SegmentKey(s.Timeline, s.First, s.Last, foreign.ID, true))); err != nil {
		t.Fatal(err)
	}
	find("another timeline's", repo.SegmentKey(s.Timeline, s.First, s.Last, foreign.ID, true), "its header says")
	if err := os.Remove(r.file(repo.SegmentKey(s.Timeline, s.First, s.Last, foreign.ID, true))); err != nil {
		t.Fatal(err)
	}
	h.Timeline.Cut--
	last := &events[len(events)-1]
	if last.Tombstone() {
		t.Skip("the segment ends with a deletion")
	}
	at := strings.LastIndexAny(string(last.Value), "abcdefghijklmnopqrstuvwxyz0123456789")
	last.Value[at] ^= 3
	other := r.put(t, h, events, proofs)
	find("another content", other.Key, "disagree")
}

// increments: each run reads what none has read yet; what was named, and no more, is read when backups are named.
func (r *logged) increments(t *testing.T) {
	o := VerifyOptions{Identities: []age.Identity{r.id}}
	_, v := r.verify(t, o)
	if all := len(r.segments(t)); v.Segments != all {
		t.Errorf("the first run read %d of %d segments", v.Segments, all)
	}
	_, again := r.verify(t, o)
	if again.Segments >= v.Segments || again.First <= r.first.Database.Revision {
		t.Errorf("the second run: %+v", again)
	}
	o.IDs = []repo.SnapshotID{r.first.ID}
	_, named := r.verify(t, o)
	if named.First > r.first.Database.Revision+1 || named.Last < r.second.Database.Revision || r.holding(t, named.Last).First > r.second.Database.Revision {
		t.Errorf("what follows the first backup: %+v", named)
	}
}
