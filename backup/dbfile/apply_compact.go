package dbfile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"etcd-steward/backup/revision"
)

// CopyCompacted writes the file anew to dst, without what etcd's own compaction at the revision at removes, and without free pages.
// Zero keeps all history. Otherwise at must lie between the file's compaction and its revision. What is not a record is copied as it
// is. dst must not exist or be empty; when it returns without error dst is durable, but for its name in the folder.
//
// The rule is that of etcd since 3.5.16 and 3.4.34 (server, storage/mvcc/key_index.go compact): of the records up to at, the newest of
// each key stays, unless it is a tombstone older than at. Older servers remove a tombstone of exactly at as well; HashKV leaves it out.
func (f *File) CopyCompacted(ctx context.Context, dst string, at revision.Revision) (err error) {
	return f.read("compaction", func() (err error) {
		buckets, err := f.tree.buckets()
		if err != nil {
			return err
		}
		rev, compact, err := f.revisions(buckets)
		if err != nil {
			return err
		}
		if at != 0 && (at < compact || at > rev) {
			return fmt.Errorf("at revision %d: it holds revisions %d to %d", at, compact, rev)
		}
		var old superseded
		if at != 0 {
			if old, err = f.superseded(ctx, buckets["key"], int64(at)); err != nil {
				return err
			}
		}
		w, err := f.newCopy(dst)
		if err != nil {
			return err
		}
		defer w.abort()
		for _, name := range slices.Sorted(maps.Keys(buckets)) {
			if err := w.bucket(ctx, f, name, buckets[name], survives(name, at, old)); err != nil {
				return fmt.Errorf("bucket %q: %w", name, err)
			}
		}
		if at != 0 {
			if err := w.setCompacted(at); err != nil {
				return err
			}
		}
		return w.finish()
	})
}

// survives decides for each element of a bucket, in their order, whether it is copied.
func survives(name string, at revision.Revision, old superseded) func(key []byte) (bool, error) {
	if name != string(keyBucket) || at == 0 {
		return func([]byte) (bool, error) { return true, nil }
	}
	n := old.records // counts down to the newest record up to at, which has 0
	return func(key []byte) (bool, error) {
		main, tombstone, err := parseRevision(key)
		if err != nil || main > int64(at) {
			return true, err
		}
		n--
		return !old.has(n) && (!tombstone || main == int64(at)), nil
	}
}

// copier writes a new file in order of keys.
type copier struct {
	db      *bolt.DB
	tx      *bolt.Tx
	pending int
}

func (f *File) newCopy(dst string) (*copier, error) {
	db, err := openForWriting(dst, int(f.size)+int(f.size)/4+defaultBatchBytes, int(f.tree.pageSize))
	if err != nil {
		return nil, err
	}
	w := &copier{db: db}
	if w.tx, err = db.Begin(true); err == nil {
		if k, _ := w.tx.Cursor().First(); k != nil {
			err = errors.New("the new file is not empty")
		}
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	return w, nil
}

func (w *copier) bucket(ctx context.Context, f *File, name string, b bucket, survives func([]byte) (bool, error)) error {
	dst, err := w.tx.CreateBucket([]byte(name))
	if err != nil {
		return err
	}
	dst.FillPercent = fillPercent
	tick := every(ctx)
	return f.tree.walk(b, false, func(flags uint32, k, v []byte) error {
		if err := tick(); err != nil {
			return err
		}
		if flags&bucketLeafFlag != 0 {
			return fmt.Errorf("%w: a bucket inside a bucket", ErrDamaged)
		}
		if keep, err := survives(k); err != nil || !keep {
			return err
		}
		if w.pending += len(v) + recordOverhead; w.pending > defaultBatchBytes {
			if err := w.next(len(v)); err != nil {
				return err
			}
			dst = w.tx.Bucket([]byte(name))
			dst.FillPercent = fillPercent
		}
		// v is the mapped source: it outlives the transaction, as bbolt asks.
		return dst.Put(k, v)
	})
}

// next commits and begins another transaction, which holds one value of size already.
func (w *copier) next(size int) (err error) {
	w.pending = size + recordOverhead
	if err := w.tx.Commit(); err != nil {
		return err
	}
	w.tx, err = w.db.Begin(true)
	return err
}

func (w *copier) setCompacted(at revision.Revision) error {
	meta := w.tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%w: it has no meta bucket", ErrDamaged)
	}
	v := Record{Revision: at}.AppendKey(nil)
	return errors.Join(meta.Put(finishedCompact, v), meta.Put(scheduledCompact, v))
}

func (w *copier) finish() error {
	if err := w.tx.Commit(); err != nil {
		return err
	}
	db := w.db
	w.db = nil
	return errors.Join(db.Sync(), db.Close())
}

// abort closes what finish has not closed.
func (w *copier) abort() {
	if w.db == nil {
		return
	}
	if w.tx != nil {
		_ = w.tx.Rollback()
	}
	_ = w.db.Close()
	w.db = nil
}
