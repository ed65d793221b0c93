package rebuild

import (
	"context"
	"maps"
	"slices"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/revision"
)

// AssumedTTL is the TTL, in seconds, of a lease of which nothing is known but that keys were attached to it at the restore point: it was
// granted and revoked between two looks at the leases. Without a lease its keys would never expire; with a short one they might be
// gone before anyone has looked.
const AssumedTTL = 3600

// leases decides which leases a restore point has. A watch does not carry them, so there are three sources, the later the better:
// the snapshot's own; what the recorder saw up to the restore point; and keys that are attached to a lease, which prove that it
// existed, as etcd revokes a lease and deletes its keys in one.
type leases struct {
	snapshot, target revision.Revision

	known  map[int64]int64 // at the target, as far as was read: TTL by ID
	gone   map[int64]int64 // what the snapshot had and a later look did not show
	later  map[int64]int64 // seen only after the target
	used   map[int64]bool  // attached to a key by a record that was applied
	undone *dbfile.KeySet  // the keys with changes that a rewind removed; nil without one
}

func newLeases(have []dbfile.Lease, snapshot, target revision.Revision) leases {
	l := leases{snapshot: snapshot, target: target, known: map[int64]int64{}, gone: map[int64]int64{}, later: map[int64]int64{}, used: map[int64]bool{}}
	for _, x := range have {
		l.known[x.ID] = x.TTL
	}
	return l
}

// attached takes in a put that was applied.
func (l *leases) attached(id int64) {
	if id != 0 {
		l.used[id] = true
	}
}

// record takes in what the recorder saw.
func (l *leases) record(seen changes.Leases) {
	switch {
	case seen.Revision > l.target:
		l.seenLater(seen)
		return
	case l.snapshot <= l.target && seen.Revision < l.snapshot:
		return // the snapshot knows better
	}
	if seen.Complete && (seen.Revision > l.snapshot || l.snapshot > l.target) {
		maps.Copy(l.gone, l.known)
		clear(l.known)
	}
	for _, x := range seen.Leases {
		ttl := x.Granted
		if ttl <= 0 { // it was listed and gone before its TTL was asked for
			ttl = l.ttl(x.ID)
		}
		l.known[x.ID] = ttl
	}
}

// seenLater takes in what the recorder saw when it may be too late to say that a lease existed at the target, but not what its TTL is.
func (l *leases) seenLater(seen changes.Leases) {
	for _, x := range seen.Leases {
		if x.Granted > 0 {
			l.later[x.ID] = x.Granted
		}
	}
}

// ttl is what is known of a lease's TTL; 0 if nothing is.
func (l *leases) ttl(id int64) int64 {
	for _, m := range []map[int64]int64{l.known, l.gone, l.later} {
		if ttl := m[id]; ttl > 0 {
			return ttl
		}
	}
	return 0
}

// complete adds the leases that keys of the file, which is at the target, prove. Keys that the snapshot has and that are attached to a lease
// that it has not were so in the cluster: they stay without.
func (l *leases) complete(ctx context.Context, edit *dbfile.Edit) error {
	need := l.undone != nil
	for id := range l.used {
		_, ok := l.known[id]
		need = need || !ok
	}
	if !need {
		return nil
	}
	inUse, err := edit.LeasesInUse(ctx, min(l.snapshot, l.target), l.undone)
	if err != nil {
		return err
	}
	for id := range inUse {
		if _, ok := l.known[id]; !ok {
			l.known[id] = 0
		}
	}
	return nil
}

// unknown are the IDs of the leases whose TTL nothing tells.
func (l *leases) unknown() (ids []int64) {
	for id := range l.known {
		if l.ttl(id) <= 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// all are the leases for the file.
func (l *leases) all() (set []dbfile.Lease) {
	for _, id := range slices.Sorted(maps.Keys(l.known)) {
		ttl := l.ttl(id)
		if ttl <= 0 {
			ttl = AssumedTTL
		}
		set = append(set, dbfile.Lease{ID: id, TTL: ttl})
	}
	return set
}
