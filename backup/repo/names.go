package repo

import (
	"fmt"
	"strings"

	"etcd-steward/backup/revision"
)

// Names of the objects of a repository, relative to <store prefix>/<cluster name>/. See docs/FORMAT.md.
//
// Snapshots lie in a folder per month and segments in one per day, of the time in their IDs: a store lists page after page within a
// folder, but folders side by side, and some servers read a whole folder for each page.
const (
	identityKey        = "repository.json"
	successorsPrefix   = "successors/"
	plansPrefix        = "plans/"
	coordinationPrefix = "coordination/"
	verifiedPrefix     = coordinationPrefix + "verified/"
	prunedPrefix       = coordinationPrefix + "pruned/"
	snapshotsFolder    = "snapshots"
	monthLayout        = "2006-01"
	dayLayout          = "2006-01-02"
)

// DataKey is the name of a snapshot's data object.
func DataKey(t Timeline, r Revision, id SnapshotID, encrypted bool) string {
	key := snapshotStem(t, r, id) + ".db.zst"
	if encrypted {
		key += ".age"
	}
	return key
}

// ManifestKey is the name of a snapshot's manifest.
func ManifestKey(t Timeline, r Revision, id SnapshotID) string {
	return snapshotStem(t, r, id) + ".json"
}

func snapshotStem(t Timeline, r Revision, id SnapshotID) string {
	return fmt.Sprintf("%s/%s/%s/%s-%s", t, snapshotsFolder, id.Time().Format(monthLayout), r.Hex(), id)
}

// name is what the key of a snapshot's object says.
type name struct {
	timeline  Timeline
	revision  Revision
	id        SnapshotID
	manifest  bool
	encrypted bool
}

// parseSnapshotKey reads a key below a timeline's snapshots folder; anything that DataKey or ManifestKey would not have made is an error.
func parseSnapshotKey(key string) (name, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[1] != snapshotsFolder {
		return name{}, fmt.Errorf("object %q: not a snapshot's", key)
	}
	var n name
	var err error
	if n.timeline, err = ParseTimeline(parts[0]); err != nil {
		return name{}, err
	}
	stem, ext, _ := strings.Cut(parts[3], ".")
	rev, id, _ := strings.Cut(stem, "-")
	if n.revision, err = revision.ParseHex(rev); err != nil {
		return name{}, fmt.Errorf("object %q: %w", key, err)
	}
	if n.id, err = ParseSnapshotID(id); err != nil {
		return name{}, fmt.Errorf("object %q: %w", key, err)
	}
	if month := n.id.Time().Format(monthLayout); parts[2] != month {
		return name{}, fmt.Errorf("object %q: its ID belongs into %s", key, month)
	}
	switch ext {
	case "json":
		n.manifest = true
	case "db.zst":
	case "db.zst.age":
		n.encrypted = true
	default:
		return name{}, fmt.Errorf("object %q: unknown ending", key)
	}
	return n, nil
}
