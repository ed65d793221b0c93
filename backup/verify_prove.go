package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
)

// target is a hash that what is rebuilt must have: one that a member gave while the log was recorded, or that of a later snapshot which etcd streamed.
type target struct {
	changes.Proof
	from string // who gave it
	own  bool   // a manifest has it, so nothing needs to lead there
}

// targets are the hashes of the revisions that are verified, oldest first. The hash of a snapshot that was made offline was computed from the log itself, and
// says nothing about it: of such a one it is the member's that counts, which its manifest may have.
func (l *logCheck) targets() []target {
	var out []target
	for _, p := range l.proofs {
		out = append(out, target{Proof: p, from: fmt.Sprintf("member %016x gave at %s", p.MemberID, p.Time.UTC().Format("2006-01-02T15:04:05Z"))})
	}
	for _, s := range l.snaps {
		m := l.manifests[s.ID]
		if m.MadeFrom != nil {
			if p := m.MadeFrom.Proof; p != nil {
				out = append(out, target{
					Proof: changes.Proof{Revision: p.Revision, CompactRevision: p.CompactRevision, Hash: p.HashKV},
					from:  fmt.Sprintf("member %s gave at %s", p.MemberID, p.Time.UTC().Format("2006-01-02T15:04:05Z")), own: true,
				})
			}
			continue
		}
		db := m.Database
		p := changes.Proof{Revision: db.Revision, CompactRevision: db.CompactRevision, Hash: db.HashKV}
		out = append(out, target{Proof: p, from: "backup " + string(s.ID) + " has", own: true})
	}
	out = slices.DeleteFunc(out, func(t target) bool { return !l.wanted(t.Revision, t.Revision) })
	slices.SortStableFunc(out, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.CompactRevision, b.CompactRevision))
	})
	return slices.CompactFunc(out, func(a, b target) bool {
		return a.Revision == b.Revision && a.CompactRevision == b.CompactRevision && a.Hash == b.Hash
	})
}

// prove compares what the log leads to with the hashes that are known of it. One snapshot is taken as far as its segments lead, past later
// snapshots, so that one pass over the log serves all hashes; another is begun with where there is a gap, and behind what was found bad.
func (l *logCheck) prove(ctx context.Context) error {
	todo := l.targets()
	left := 0                 // hashes of members that nothing could be compared with
	floor := repo.Revision(0) // a snapshot below it leads over what was found bad
	for len(todo) > 0 {
		base, reach, ok := l.base(todo[0].Revision, floor)
		if !ok || reach < todo[0].Revision {
			if !todo[0].own {
				left++
			}
			todo = todo[1:]
			continue
		}
		n := 0
		for n < len(todo) && todo[n].Revision <= reach {
			n++
		}
		r := roll{check: l, base: base, at: base.Revision, good: l.trusted(base), targets: todo[:n]}
		err := r.run(ctx)
		todo = todo[r.done:]
		left += r.skipped
		floor = max(floor, r.failedAt)
		if err = l.blame(ctx, base, err); err != nil {
			return err
		}
	}
	switch {
	case left > 0:
		l.note("%s not be compared: no good backup leads there", counted(left, "recorded hash could", "recorded hashes could"))
	case l.verdict.Proofs == 0 && floor == 0:
		l.note("no hash is known of these revisions yet, to compare with what they lead to")
	}
	return nil
}

// base is the newest good snapshot below a revision, and how far the good segments take it.
func (l *logCheck) base(below, floor repo.Revision) (best cover.Snapshot, reach repo.Revision, ok bool) {
	for _, s := range l.snaps {
		if s.Revision < below && s.Revision >= floor && !l.bad[string(s.ID)] {
			best, ok = s, true
		}
	}
	if !ok {
		return best, 0, false
	}
	for _, w := range cover.Windows([]cover.Snapshot{best}, l.good()) {
		reach = w.To
	}
	return best, reach, true
}

// trusted is the newest revision of a snapshot at which its content is etcd's word. What was made offline from segments may have their lie in it.
func (l *logCheck) trusted(s cover.Snapshot) repo.Revision {
	at, m := s.Revision, l.manifests[s.ID]
	for m != nil && m.MadeFrom != nil && m.MadeFrom.Segments > 0 {
		at = m.MadeFrom.Revision
		if p := m.MadeFrom.Proof; p != nil {
			return max(at, p.Revision)
		}
		m = l.manifests[m.MadeFrom.Snapshot]
	}
	return at
}

// blame turns a roll's error into a finding where it is one. What was blamed is not used again, so that the next attempt takes another way.
func (l *logCheck) blame(ctx context.Context, base cover.Snapshot, err error) error {
	if err == nil {
		return nil
	}
	problem, about := aboutObject(ctx, err)
	if !about {
		return err
	}
	var at *rebuild.SegmentError
	if errors.As(err, &at) {
		for _, s := range l.all {
			if s.Key == at.Segment {
				l.find(ChangesFinding{Key: s.Key, First: max(s.First, at.Revision), Last: s.Last, Problem: problem, level: repo.LevelRebuilt})
				return nil
			}
		}
	}
	l.bad[string(base.ID)] = true
	l.note("backup %s cannot be built upon: %s", base.ID, problem)
	return nil
}
