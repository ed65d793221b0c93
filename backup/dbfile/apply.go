package dbfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"etcd-steward/backup/revision"
)

// EditOptions tune an Edit. The zero value suits a restore.
type EditOptions struct {
	// BatchBytes is how many bytes of records one bbolt transaction holds; 0 means 8 MiB. Bbolt keeps a transaction's pages on
	// the heap until it commits, so that an Edit takes several times this much memory; larger batches were measured to gain nothing.
	BatchBytes int
	// MmapBytes is the address space reserved for the file as it grows; 0 means the file's size and 8 GiB more. Growing beyond it
	// makes bbolt copy a transaction's records to the heap once more.
	MmapBytes int
}

const (
	defaultBatchBytes = 8 << 20
	defaultMmapGrowth = 8 << 30
	// fillPercent is what etcd itself uses for appending records (server/v3 storage/backend/batch_tx.go, UnsafeSeqPut).
	fillPercent = 0.9
)

// The names that etcd gives (server/v3 storage/schema/bucket.go).
var (
	keyBucket        = []byte("key")
	metaBucket       = []byte("meta")
	leaseBucket      = []byte("lease")
	finishedCompact  = []byte("finishedCompactRev")
	scheduledCompact = []byte("scheduledCompactRev")
)

// Edit is a db file opened for writing: the copy of a snapshot that is brought to another revision. What it is not asked to change
// stays as it is, the consistent index and the raft term above all, since they must agree with a WAL that a restore writes.
//
// Nothing is durable before Finish: a crash before it leaves a file to throw away. Not for use by several goroutines.
type Edit struct {
	db   *bolt.DB
	opts EditOptions

	tx      *bolt.Tx
	records *bolt.Bucket
	arena   []byte // copies of the values that tx refers to
	pending int    // what tx takes on the heap, in about bytes

	rev, compact revision.Revision
	sub          int64        // of the last record put at rev
	begun        bool         // the last record put may be followed by others of its revision
	same         *bolt.Cursor // in an overlap: the stored record that must come next
	sameRev      revision.Revision
}

// OpenEdit opens the db file at path for writing and cuts off a snapshot's 32-byte trailer. The file's structure is checked first,
// since bbolt ends the process over some kinds of damage. A file that a running etcd holds is ErrInUse.
func OpenEdit(ctx context.Context, path string, o EditOptions) (e *Edit, err error) {
	defer func() { err = prefixed(err, "open %s for writing", path) }()
	if err := checkStructure(ctx, path); err != nil {
		return nil, err
	}
	defer recoverDamage(&err)()
	if o.BatchBytes <= 0 {
		o.BatchBytes = defaultBatchBytes
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	size := st.Size()
	if size%512 == trailerSize {
		size -= trailerSize
		if err := os.Truncate(path, size); err != nil {
			return nil, err
		}
	}
	if o.MmapBytes <= 0 {
		o.MmapBytes = int(size) + defaultMmapGrowth
	}
	e = &Edit{opts: o, arena: make([]byte, 0, o.BatchBytes)}
	if e.db, err = openForWriting(path, o.MmapBytes, 0); err != nil {
		return nil, err
	}
	if err := e.readRevisions(); err != nil {
		return nil, errors.Join(err, e.db.Close())
	}
	return e, nil
}

// checkStructure is the part of Check that bbolt needs and does not do.
func checkStructure(ctx context.Context, path string) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	err = f.guard(func() error {
		c := checker{tree: &f.tree, tick: every(ctx), seen: make([]uint64, f.tree.pages/64+1)}
		return c.check()
	})
	return errors.Join(err, f.Close())
}

// openForWriting opens or makes a db file; pageSize 0 is the machine's.
func openForWriting(path string, mmapBytes, pageSize int) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:         lockWait,
		NoFreelistSync:  true, // as etcd does: the free pages are found again at each opening
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mmapBytes,
		NoSync:          true, // Finish syncs once
		NoGrowSync:      true, // growing would sync as well, every 16 MiB
		NoStatistics:    true,
		PageSize:        pageSize,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrInUse
	}
	return db, err
}

// readRevisions finds the file's revision as etcd does when it starts (server/v3 storage/mvcc/kvstore.go, restore): the newest
// record's, or a compaction's where that has removed the newest ones.
func (e *Edit) readRevisions() error {
	return e.db.View(func(tx *bolt.Tx) error {
		keys, meta := tx.Bucket(keyBucket), tx.Bucket(metaBucket)
		if keys == nil || meta == nil {
			return errors.New("not a db file of etcd: it has no key or no meta bucket")
		}
		e.rev = 1
		for _, name := range [][]byte{finishedCompact, scheduledCompact} {
			if v := meta.Get(name); len(v) >= 8 {
				e.compact = max(e.compact, revision.Revision(binary.BigEndian.Uint64(v)))
			}
		}
		if k, v := keys.Cursor().Last(); k != nil {
			r, err := ParseRecord(k, v)
			if err != nil {
				return err
			}
			e.rev = r.Revision
		}
		e.rev = max(e.rev, e.compact)
		return nil
	})
}

// Revisions gives the newest revision that the file holds by now, and its compaction's: the later one of finished and scheduled, as
// a snapshot taken in the middle of a compaction has lost a part of the history before the scheduled one.
func (e *Edit) Revisions() (rev, compact revision.Revision) { return e.rev, e.compact }

// Finish commits, makes the file durable with one sync, and closes it. The name in its folder is for the caller to make durable.
func (e *Edit) Finish() (err error) {
	defer func() { err = prefixed(err, "finish the db file") }()
	defer recoverDamage(&err)()
	if e.db == nil {
		return errors.New("it is closed already")
	}
	if err := e.commit(); err != nil {
		e.Abort()
		return err
	}
	db := e.db
	e.db = nil
	return errors.Join(db.Sync(), db.Close())
}

// Abort closes the file without committing; what is on disk is for throwing away. After Finish it does nothing.
func (e *Edit) Abort() {
	if e.db == nil {
		return
	}
	if e.tx != nil {
		_ = e.tx.Rollback()
		e.tx = nil
	}
	_ = e.db.Close()
	e.db = nil
}

// begin makes sure that there is a transaction.
func (e *Edit) begin() (err error) {
	if e.tx != nil {
		return nil
	}
	if e.db == nil {
		return errors.New("the db file is closed")
	}
	if e.tx, err = e.db.Begin(true); err != nil {
		return err
	}
	e.records = e.tx.Bucket(keyBucket)
	e.records.FillPercent = fillPercent
	return nil
}

func (e *Edit) commit() error {
	if e.tx == nil {
		return nil
	}
	tx := e.tx
	e.tx, e.records, e.same, e.arena, e.pending = nil, nil, nil, e.arena[:0], 0
	return tx.Commit()
}

// recoverDamage turns a panic of bbolt, or a fault in the mapped file, into an error. Use: defer recoverDamage(&err)().
func recoverDamage(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}
}

func prefixed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
