package datadir

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"etcd-steward/backup/revision"
)

// The buckets and keys of etcd's schema that a restore reads or writes.
var (
	keyBucket     = schema.Key.Name()
	metaBucket    = schema.Meta.Name()
	alarmBucket   = schema.Alarm.Name()
	clusterBucket = schema.Cluster.Name()
	authBucket    = schema.Auth.Name()
	memberBucket  = schema.Members.Name()
	removedBucket = schema.MembersRemoved.Name()

	scheduledCompactKey = schema.ScheduledCompactKeyName
	finishedCompactKey  = schema.FinishedCompactKeyName
	storageVersionKey   = schema.MetaStorageVersionName
	clusterVersionKey   = schema.ClusterClusterVersionKeyName
	downgradeKey        = schema.ClusterDowngradeKeyName
)

// revisionKeySize is the length of a key in the key bucket; a tombstone's has one byte more.
const revisionKeySize = 17

// readFacts reads what the file says about itself.
func readFacts(tx *bbolt.Tx, r *Report) error {
	keys, meta := tx.Bucket(keyBucket), tx.Bucket(metaBucket)
	if keys == nil || meta == nil {
		return fmt.Errorf("not an etcd database: it has no bucket %q or %q", keyBucket, metaBucket)
	}
	last, _ := keys.Cursor().Last()
	var err error
	// As etcd does when it starts (mvcc/kvstore.go, restore): the newest record may itself have been compacted away.
	r.Revision = 1
	for _, key := range [][]byte{last, meta.Get(finishedCompactKey), meta.Get(scheduledCompactKey)} {
		var rev revision.Revision
		if rev, err = parseRevision(key); err != nil {
			return err
		}
		r.Revision = max(r.Revision, rev)
	}
	finished, err := parseRevision(meta.Get(finishedCompactKey))
	if err != nil {
		return err
	}
	scheduled, err := parseRevision(meta.Get(scheduledCompactKey))
	if err != nil {
		return err
	}
	r.CompactRevision = max(finished, scheduled)
	r.StorageVersion = string(meta.Get(storageVersionKey))
	if auth := tx.Bucket(authBucket); auth != nil {
		on := auth.Get(schema.AuthEnabledKeyName)
		r.AuthEnabled = len(on) == 1 && on[0] == 1
	}
	return nil
}

// parseRevision is the main revision of a key of the key bucket; nothing is revision 0. etcd's own decoder panics on what it does not expect.
func parseRevision(b []byte) (revision.Revision, error) {
	if b == nil {
		return 0, nil
	}
	if len(b) < revisionKeySize || len(b) > revisionKeySize+1 || b[8] != '_' || b[0] >= 0x80 {
		return 0, fmt.Errorf("the database is damaged: %x is no revision", b)
	}
	return revision.Revision(mvcc.BytesToRev(b).Main), nil
}

// refuseKnown is ErrKnownMember when the file's member table has one of the new IDs.
func refuseKnown(tx *bbolt.Tx, c *Cluster) error {
	b := tx.Bucket(memberBucket)
	if b == nil {
		return nil
	}
	for _, m := range c.Members {
		if b.Get(schema.BackendMemberKey(types.ID(m.ID))) != nil {
			return fmt.Errorf("%w: %s (%s)", ErrKnownMember, m.ID, m.Name)
		}
	}
	return nil
}

// replaceMembers puts the new cluster's members in the place of the old ones, all of them voters.
func replaceMembers(tx *bbolt.Tx, c *Cluster) error {
	for _, name := range [][]byte{memberBucket, removedBucket} {
		if tx.Bucket(name) != nil {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if _, err := tx.CreateBucketIfNotExists(clusterBucket); err != nil {
		return err
	}
	for _, m := range c.raft.Members() {
		value, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := tx.Bucket(memberBucket).Put(schema.BackendMemberKey(m.ID), value); err != nil {
			return err
		}
	}
	return nil
}

// setConsistentIndex tells etcd up to where the raft log is in the file: all of the log that writeLog writes.
func setConsistentIndex(tx *bbolt.Tx, index, term uint64) error {
	meta := tx.Bucket(metaBucket)
	if err := meta.Put(schema.MetaConsistentIndexKeyName, binary.BigEndian.AppendUint64(nil, index)); err != nil {
		return err
	}
	return meta.Put(schema.MetaTermKeyName, binary.BigEndian.AppendUint64(nil, term))
}
