package restore

import (
	"fmt"

	"etcd-steward/backup/revision"
	"etcd-steward/restore/datadir"
)

const (
	// bumpUnit is what etcd's own documentation proposes for a week of writes; a multiple of it is the same on hosts whose knowledge differs a little.
	bumpUnit = 1_000_000_000
	// bumpMargin is for the writes that no backup has seen: more than three days at 1,500 a second.
	bumpMargin = bumpUnit / 2
)

// quantisedBump is the smallest multiple of bumpUnit, at least one, that puts a snapshot's revision bumpMargin beyond the highest revision known.
func quantisedBump(snapshot, highest revision.Revision) (int64, error) {
	if highest > datadir.MaxRevision {
		return 0, fmt.Errorf("revision %d has been seen, beyond %d: no bump can lead past it", highest, datadir.MaxRevision)
	}
	need := int64(highest) - int64(snapshot) + bumpMargin
	units := max(1, (need+bumpUnit-1)/bumpUnit)
	bump := units * bumpUnit
	return bump, checkBump(snapshot, bump)
}

// checkBump refuses what would use up etcd's revisions.
func checkBump(snapshot revision.Revision, bump int64) error {
	if bump < 0 || bump > int64(datadir.MaxRevision-snapshot) {
		return fmt.Errorf("a bump of %d on top of revision %d leads beyond %d", bump, snapshot, datadir.MaxRevision)
	}
	return nil
}
