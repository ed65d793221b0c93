package restore

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	if slices.Contains(m.Database.Alarms, "CORRUPT") {
		p.Notes = append(p.Notes, "the backup carries a CORRUPT alarm: its cluster's members differed")
	}
}

// noteNewer says what lies behind the chosen restore point on its own timeline.
func (p *Plan) noteNewer(c *repo.Catalog, e repo.Entry) {
	top := e
	for _, x := range c.Backups() {
		if x.Timeline == e.Timeline && x.Revision > top.Revision {
			top = x
		}
	}
	if top.ID != e.ID {
		p.Notes = append(p.Notes, fmt.Sprintf("newer backups of this timeline exist, up to revision %d (%s): %d revisions are left out", top.Revision, top.ID, top.Revision-e.Revision))
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
