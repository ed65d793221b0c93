package dbfile

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"etcd-steward/backup/revision"
)

// rewindBatch is how many records one transaction deletes: bbolt keeps every page that it touches on the heap until the commit.
const rewindBatch = 10_000

// Rewind deletes the records above r, so that r is the newest revision, and says how many there were. History below the
// compaction is gone, so that r must not be older than it. Leases stay as they are: SetLeases brings them back to r.
func (e *Edit) Rewind(ctx context.Context, r revision.Revision) (deleted int64, err error) {
	defer func() { err = prefixed(err, "rewind to revision %d", r) }()
	defer recoverDamage(&err)()
	switch {
	case r < e.compact:
		return 0, fmt.Errorf("history was compacted at revision %d", e.compact)
	case r > e.rev:
		return 0, fmt.Errorf("the file ends at revision %d", e.rev)
	}
	for {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		if err := e.begin(); err != nil {
			return deleted, err
		}
		keys := newestKeys(e.records, r, rewindBatch)
		for _, k := range keys {
			if err := e.records.Delete(k); err != nil {
				return deleted, err
			}
		}
		deleted += int64(len(keys))
		if err := e.commit(); err != nil {
			return deleted, err
		}
		if len(keys) < rewindBatch {
			e.rev, e.sub, e.begun = r, 0, false
			return deleted, nil
		}
	}
}

// newestKeys are copies of the keys of at most limit records above r, newest first.
func newestKeys(b *bolt.Bucket, r revision.Revision, limit int) [][]byte {
	var keys [][]byte
	first := Record{Revision: r + 1}.AppendKey(nil)
	c := b.Cursor()
	for k, _ := c.Last(); k != nil && len(keys) < limit && string(k) >= string(first); k, _ = c.Prev() {
		keys = append(keys, append([]byte(nil), k...))
	}
	return keys
}
