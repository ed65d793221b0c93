package restore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
)

// noteManifest puts into the plan what the manifest says that a person should know.
func (p *Plan) noteManifest(m *repo.Manifest) {
	if !m.Source.Quorum {
		p.Notes = append(p.Notes, "the backup was taken from a member without a quorum: it may lack the last writes, or hold some that were never acknowledged")
	}
	if m.Database.AuthEnabled {
		p.Notes = append(p.Notes, "authentication is on in this backup, with the users and passwords of that time")
	}
	if f := m.MadeFrom; f != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("the backup was made from backup %s and the change log: users, roles and alarms are those of that one", f.Snapshot))
	}
	if slices.Contains(m.Database.Alarms, "CORRUPT") {
		p.Notes = append(p.Notes, "the backup carries a CORRUPT alarm: its cluster's members differed")
	}
}

// notePoint says what lies behind the chosen restore point on its own timeline, and what is not certain about it.
func (p *Plan) notePoint(l *backup.Located) {
	if l.Current != (repo.Timeline{}) {
		p.Notes = append(p.Notes, fmt.Sprintf("the restore point is of timeline %s, not of the current %s: an older history than the one that goes on now", l.Timeline, l.Current))
	}
	if left := l.Top - l.Revision; left > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("this timeline can be restored up to revision %d: %d revisions are left out", l.Top, left))
	}
	rec := p.history.recorded[l.Timeline]
	if lost := rec.Highest - l.Top; lost > 0 && l.Revision == l.Top {
		p.Notes = append(p.Notes, fmt.Sprintf("revision %d had been seen, and the last %d revisions are in no backup: they are lost", rec.Highest, lost))
	}
	if doubt := l.Resolved().Doubt(); doubt != "" {
		p.Notes = append(p.Notes, doubt)
	}
	if (l.Rebuilt() || l.Snapshot.MadeFrom != nil) && rec.AuthRevision > l.Snapshot.Database.AuthRevision {
		p.Notes = append(p.Notes, fmt.Sprintf("users, roles or rights were changed after snapshot %s: the change log does not carry them, so the older ones come back", l.Snapshot.ID))
	}
	if d := l.Snapshot.Database; d.AuthEnabled && d.Revision > l.Revision {
		p.Notes = append(p.Notes, fmt.Sprintf("snapshot %s is %d revisions newer than the restore point, and so are its users, roles and rights; --id ID --to-revision %d begins with an older snapshot",
			l.Snapshot.ID, d.Revision-l.Revision, l.Revision))
	}
	p.Notes = append(p.Notes, l.Notes...)
	for id, err := range l.Unreadable {
		p.Notes = append(p.Notes, fmt.Sprintf("the manifest of backup %s cannot be read, so it was not considered: %v", id, err))
	}
}

// noteVerification says when the backup was verified last, and how it went. Not knowing is no error.
func (p *Plan) noteVerification(ctx context.Context, id repo.SnapshotID) {
	v, ok, err := p.options.Repo.Verification(ctx, id)
	switch {
	case err != nil || !ok:
	case !v.OK:
		p.Notes = append(p.Notes, fmt.Sprintf("its last verification, on %s, FAILED: %s", v.At.Format(time.RFC3339), v.Problem))
	default:
		p.Notes = append(p.Notes, fmt.Sprintf("verified (%s) on %s", v.Level, v.At.Format(time.RFC3339)))
	}
}
