package repo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/store"
)

// Entry is one full snapshot as a listing shows it. Keys are relative to the repository.
type Entry struct {
	Timeline  Timeline
	Revision  Revision
	ID        SnapshotID
	Data      store.Info // zero Key: there is a manifest without data
	Manifest  store.Info // zero Key: there is data without a manifest: an upload that did not finish, not a backup
	Encrypted bool
}

// Complete says whether both the data and the manifest were listed.
func (e Entry) Complete() bool { return e.Data.Key != "" && e.Manifest.Key != "" }

// Catalog is what one listing of a repository shows. Some stores list what was written a moment ago only later, so it is for
// discovery: whoever acts on one entry asks Manifest, which reads.
type Catalog struct {
	Entries []Entry // by time (ID), oldest first, complete and incomplete ones
	// Strange are keys that nothing of this format has made: the first strangeMax of StrangeCount.
	Strange      []string
	StrangeCount int
	// Verified are the IDs that have a verified mark.
	Verified map[SnapshotID]store.Info
	// Successors are the clusters with a successor record, Plans the IDs of the stored prune plans, oldest first.
	Successors []ClusterID
	Plans      []string
	// Segments of the change log, in the order of SortSegments.
	Segments []Segment
	// Recorded are the timelines that have a recorder's mark.
	Recorded []Timeline
	// VerifiedChanges are the timelines whose change log was verified; Repo.VerifiedRanges says which revisions.
	VerifiedChanges []Timeline
	Objects         int   // all objects seen, of every kind
	Bytes           int64 // their size
}

// strangeMax bounds what a folder full of foreign objects costs.
const strangeMax = 100

// Catalog lists the repository once. Its memory is some 700 bytes per backup.
func (r *Repo) Catalog(ctx context.Context) (*Catalog, error) {
	c := &Catalog{Verified: map[SnapshotID]store.Info{}}
	for info, err := range r.store.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list repository %q: %w", r.cluster, err)
		}
		c.Objects++
		c.Bytes += info.Size
		c.add(info)
	}
	slices.SortStableFunc(c.Entries, func(a, b Entry) int { return cmp.Compare(a.ID, b.ID) })
	SortSegments(c.Segments)
	return c, nil
}

func (c *Catalog) add(info store.Info) {
	key := info.Key
	switch {
	case key == identityKey:
	case strings.HasPrefix(key, successorsPrefix):
		id, err := parseSuccessorKey(key)
		if err != nil {
			c.strange(key)
			return
		}
		c.Successors = append(c.Successors, id)
	case strings.HasPrefix(key, plansPrefix):
		id, err := parsePlanKey(key)
		if err != nil {
			c.strange(key)
			return
		}
		c.Plans = append(c.Plans, id)
	case strings.HasPrefix(key, verifiedChangesPrefix):
		c.addVerifiedRanges(key)
	case strings.HasPrefix(key, verifiedPrefix):
		id, err := ParseSnapshotID(strings.TrimSuffix(strings.TrimPrefix(key, verifiedPrefix), ".json"))
		if err != nil || verifiedKey(id) != key {
			c.strange(key)
			return
		}
		c.Verified[id] = info
	case strings.HasPrefix(key, recordedPrefix):
		c.addRecorded(key)
	case strings.HasPrefix(key, coordinationPrefix):
	case IsSegmentKey(key):
		c.addSegment(info)
	default:
		c.addSnapshot(info)
	}
}

// addSnapshot relies on the listing's order: the objects of one snapshot have one stem of fixed length, so they follow each other.
func (c *Catalog) addSnapshot(info store.Info) {
	n, err := parseSnapshotKey(info.Key)
	if err != nil {
		c.strange(info.Key)
		return
	}
	last := len(c.Entries) - 1
	if last < 0 || c.Entries[last].Timeline != n.timeline || c.Entries[last].Revision != n.revision || c.Entries[last].ID != n.id {
		c.Entries = append(c.Entries, Entry{Timeline: n.timeline, Revision: n.revision, ID: n.id})
		last++
	}
	e := &c.Entries[last]
	if n.manifest {
		e.Manifest = info
		return
	}
	if e.Data.Key != "" { // both .db.zst and .db.zst.age: never ours; the manifest, if any, names the right one
		c.strange(e.Data.Key)
	}
	e.Data, e.Encrypted = info, n.encrypted
}

func (c *Catalog) strange(key string) {
	c.StrangeCount++
	if len(c.Strange) < strangeMax {
		c.Strange = append(c.Strange, key)
	}
}

func (c *Catalog) filter(keep func(Entry) bool) []Entry {
	var out []Entry
	for _, e := range c.Entries {
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}

// Backups are the complete ones, oldest first.
func (c *Catalog) Backups() []Entry { return c.filter(Entry.Complete) }

// MissingData are manifests whose data is not there: backups that were lost.
func (c *Catalog) MissingData() []Entry {
	return c.filter(func(e Entry) bool { return e.Data.Key == "" })
}

// Unfinished are data objects without a manifest: uploads that are going on, or that never ended. None is a backup.
func (c *Catalog) Unfinished() []Entry {
	return c.filter(func(e Entry) bool { return e.Manifest.Key == "" })
}

// abandonedAfter is longer than any upload may take.
const abandonedAfter = 24 * time.Hour

// Abandoned are the unfinished uploads that certainly nobody will finish: they began and their data was stored more than 24 hours
// before now. A younger one may be another daemon's upload whose manifest is about to be written. When the store has
// already seen a time after now, this clock is wrong and nothing is certain.
func (c *Catalog) Abandoned(now time.Time) []Entry {
	for _, e := range c.Entries {
		if e.Data.Modified.After(now.Add(clockSkewMax)) || e.Manifest.Modified.After(now.Add(clockSkewMax)) {
			return nil
		}
	}
	old := now.Add(-abandonedAfter)
	return c.filter(func(e Entry) bool {
		return e.Manifest.Key == "" && e.Data.Modified.Before(old) && e.ID.Time().Before(old)
	})
}

// clockSkewMax is what S3 tolerates between a client's clock and its own (RequestTimeTooSkewed).
const clockSkewMax = 15 * time.Minute

// Find looks a backup up by its ID; a complete one before an incomplete one.
func (c *Catalog) Find(id SnapshotID) (Entry, bool) {
	at, ok := slices.BinarySearchFunc(c.Entries, id, func(e Entry, id SnapshotID) int { return cmp.Compare(e.ID, id) })
	if !ok {
		return Entry{}, false
	}
	found := c.Entries[at]
	for _, e := range c.Entries[at:] {
		if e.ID != id {
			break
		}
		if e.Complete() {
			return e, true
		}
	}
	return found, true
}

// Newest is the backup that holds the most of what the cluster was last: of the timeline that was backed up last (by ID; its highest
// cut, whatever the clocks said), the one with the highest revision, and of those the youngest. So neither a
// clock that is some minutes ahead nor the snapshot of a survivor that lagged hides a better one.
func (c *Catalog) Newest() (Entry, bool) {
	for i := len(c.Entries) - 1; i >= 0; i-- {
		if c.Entries[i].Complete() {
			return c.NewestOf(c.Entries[i].Timeline.Cluster)
		}
	}
	return Entry{}, false
}

// NewestOf is the newest backup of the newest cut of one cluster ID, in the sense of Newest.
func (c *Catalog) NewestOf(id ClusterID) (Entry, bool) { return c.newest(id, Entry.Complete) }

func (c *Catalog) newest(id ClusterID, counts func(Entry) bool) (Entry, bool) {
	var best Entry
	for _, e := range c.Entries {
		if e.Timeline.Cluster != id || !counts(e) {
			continue
		}
		if cmp.Or(cmp.Compare(e.Timeline.Cut, best.Timeline.Cut), cmp.Compare(e.Revision, best.Revision), cmp.Compare(e.ID, best.ID)) > 0 {
			best = e
		}
	}
	return best, best.ID != ""
}
