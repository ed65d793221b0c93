package backup

import (
	"os"
	"slices"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

// TestVerifyOffline: a snapshot that was made from the change log is no witness of it.
func TestVerifyOffline(t *testing.T) {
	r := loggedRig(t, "3.6")
	t.Run("is no witness", func(t *testing.T) { r.copy(t).noWitness(t) })
	t.Run("its member's hash is one", func(t *testing.T) { r.copy(t).membersWord(t) })
	t.Run("a lie in it", func(t *testing.T) { r.copy(t).lieWithin(t) })
}

// compacted makes a snapshot offline, and takes the streamed one away that would bear witness.
func (r *logged) compacted(t *testing.T, p Point) *repo.Manifest {
	t.Helper()
	c, err := r.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		if e.ID == r.second.ID {
			for _, key := range []string{e.Manifest.Key, e.Data.Key} {
				if err := os.Remove(r.file(key)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	out, err := Compact(t.Context(), CompactOptions{
		Repo: r.repo, Point: p, Identities: []age.Identity{r.id}, Recipients: []age.Recipient{r.id.Recipient()}, Scratch: t.TempDir(), Host: "h", Program: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Backup
}

// rewrite drops an event of a revision after `from`, but leaves the revision there, and drops of each segment the proofs that `keep` does not want.
func (r *logged) rewrite(t *testing.T, from repo.Revision, keep func(changes.Proof) bool) (lie repo.Revision) {
	t.Helper()
	for _, s := range r.segments(t) {
		h, events, proofs := r.events(t, s)
		proofs = slices.DeleteFunc(proofs, func(p changes.Proof) bool { return !keep(p) })
		for i := range events {
			main, sub := events[i].Revision()
			if last := i+1 == len(events); lie == 0 && from > 0 && repo.Revision(main) > from && sub > 0 {
				if !last {
					if _, next := events[i+1].Revision(); next > 0 {
						continue
					}
				}
				lie = repo.Revision(main)
				events = slices.Delete(events, i, i+1)
				break
			}
		}
		r.remove(t, s)
		r.put(t, h, events, proofs)
	}
	if from > 0 && lie == 0 {
		t.Fatal("no event to lie with")
	}
	return lie
}

func none(changes.Proof) bool { return false }

func (r *logged) noWitness(t *testing.T) {
	lie := r.rewrite(t, r.first.Database.Revision, none)
	m := r.compacted(t, Point{})
	rep, v := r.deep(t)
	if !rep.OK || v.Proofs != 0 || v.Level != repo.LevelContent || m.MadeFrom == nil || m.MadeFrom.Proof != nil {
		t.Errorf("%+v", v)
	}
	if mark := at(r.marks(t), lie); mark.Level != repo.LevelContent {
		t.Errorf("revision %d, which is a lie, is marked %+v", lie, mark)
	}
	if v.Checked() != "content" {
		t.Errorf("in words: %s", v.Checked())
	}
}

func (r *logged) membersWord(t *testing.T) {
	m := r.compacted(t, Point{})
	r.rewrite(t, 0, none)
	p := m.MadeFrom.Proof
	if p == nil || p.Revision >= r.last {
		t.Fatalf("made from %+v", m.MadeFrom)
	}
	rep, v := r.deep(t)
	if !rep.OK || v.Proofs != 1 || at(r.marks(t), p.Revision).Level != repo.LevelProven || at(r.marks(t), r.last).Level != repo.LevelContent {
		t.Errorf("%+v", v)
	}
}

// lieWithin: the finding is about the segments that the snapshot was made from, not about those behind it.
func (r *logged) lieWithin(t *testing.T) {
	_, proofs := r.proofs(t)
	newest := proofs[len(proofs)-1]
	lie := r.rewrite(t, r.second.Database.Revision, func(p changes.Proof) bool { return p.Revision == newest.Revision })
	r.compacted(t, Point{Revision: (lie + newest.Revision) / 2})
	rep, v := r.deep(t)
	if rep.OK || len(v.Findings) != 1 || v.Findings[0].First > lie || v.Findings[0].Last < lie {
		t.Errorf("the lie at %d: %+v", lie, v)
	}
	if mark := at(r.marks(t), lie); mark.OK {
		t.Errorf("its mark: %+v", mark)
	}
}
