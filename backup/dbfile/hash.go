package dbfile

import (
	"context"
	"fmt"
	"hash/crc32"

	"etcd-steward/backup/revision"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// HashKV is the hash that a member whose history is compacted at compact answers for the revision at. The file may hold more
// history than that member, but not less: it must be compacted no further than compact, or the answer is another member's.
//
// The rule is etcd's (server, storage/mvcc/hash.go and key_index.go keep): CRC-32C of "key" and of every record up to at, except
// for those up to compact that are not the newest of their key at that revision, or are tombstones, and for tombstones of exactly
// compact. It covers neither leases nor auth, and finds errors, not forgery.
//
// When no key exists at the revision at, etcd has two answers: one that it computed and kept while it compacted at that very revision, and
// another for whoever asks after its next start. This is the second.
func (f *File) HashKV(ctx context.Context, at, compact revision.Revision) (uint32, error) {
	var h history
	err := f.read("hash", func() (err error) {
		h, err = f.history(ctx, int64(at), int64(compact))
		return err
	})
	return h.hash, err
}

// history is what one look at the records of the key bucket gives.
type history struct {
	keys int64
	hash uint32
}

// history walks the records twice: backwards, to find what is superseded at the revision at, then forwards for the hash.
func (f *File) history(ctx context.Context, at, compact int64) (history, error) {
	if compact = max(compact, 0); at < compact { // etcd says -1 for a history that was never compacted
		return history{}, fmt.Errorf("revision %d with compaction at %d", at, compact)
	}
	buckets, err := f.tree.buckets()
	if err != nil {
		return history{}, err
	}
	key, ok := buckets["key"]
	if !ok {
		return history{}, fmt.Errorf("%w: it has no bucket for keys", ErrDamaged)
	}
	old, err := f.superseded(ctx, key, at)
	if err != nil {
		return history{}, err
	}
	h := history{keys: old.keys}
	if old.kept == 0 && compact > 0 {
		// etcd keeps everything when there is nothing to keep (len(h.keep) > 0 in hash.go), and so hashes whatever its compaction
		// left: the records that were the newest of their key at compact. This file may hold more than that.
		if old, err = f.superseded(ctx, key, compact); err != nil {
			return history{}, err
		}
	}
	h.hash, err = f.crc(ctx, key, at, compact, old)
	return h, err
}

// crc is the forward pass.
func (f *File) crc(ctx context.Context, key bucket, at, compact int64, old superseded) (uint32, error) {
	sum := crc32.Update(0, castagnoli, []byte("key"))
	tick, n := every(ctx), old.records
	err := f.tree.walk(key, false, func(_ uint32, k, v []byte) error {
		if err := tick(); err != nil {
			return err
		}
		main, tombstone, err := parseRevision(k)
		if err != nil {
			return err
		}
		if main > at {
			return errStop
		}
		if main <= compact {
			// What old knows nothing of (n runs out) is newer than the revision that it was asked for, and that is compact at least.
			if n--; n < 0 || tombstone || old.has(n) {
				return nil
			}
		}
		sum = crc32.Update(sum, castagnoli, k)
		sum = crc32.Update(sum, castagnoli, v)
		return nil
	})
	return sum, err
}
