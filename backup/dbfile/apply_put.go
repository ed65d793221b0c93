package dbfile

import (
	"bytes"
	"fmt"

	"etcd-steward/backup/revision"
)

// RecordError says that a record does not fit the file: it leaves a hole, or it contradicts what the file holds.
type RecordError struct {
	Revision revision.Revision
	Sub      int64
	Problem  string
}

// Error names the revision and the problem.
func (e *RecordError) Error() string {
	return fmt.Sprintf("revision %d, change %d: %s", e.Revision, e.Sub, e.Problem)
}

// Put appends a record: its revision key and its value as etcd stores them. Both may be used again when it returns.
//
// A record of a revision that the file holds already is not written (false): it is compared, and a [*RecordError] tells of the first
// difference, where compaction has not removed the record. A record that does not follow the newest one is a *RecordError too.
func (e *Edit) Put(key, value []byte) (written bool, err error) {
	r, err := ParseRecord(key, value)
	if err != nil {
		return false, fmt.Errorf("put a record: %w", err)
	}
	if err := e.begin(); err != nil {
		return false, fmt.Errorf("put a record: %w", err)
	}
	if r.Revision < e.rev || r.Revision == e.rev && (!e.begun || r.Sub <= e.sub) {
		return false, e.compare(r, key, value)
	}
	if err := e.endOverlap(true); err != nil {
		return false, err
	}
	switch {
	case r.Revision > e.rev+1:
		return false, &RecordError{r.Revision, r.Sub, fmt.Sprintf("the file ends at revision %d: those between are missing", e.rev)}
	case r.Revision == e.rev && r.Sub != e.sub+1:
		return false, &RecordError{r.Revision, r.Sub, fmt.Sprintf("change %d is missing", e.sub+1)}
	case r.Revision > e.rev && r.Sub != 0:
		return false, &RecordError{r.Revision, r.Sub, "change 0 is missing"}
	}
	if err := e.store(key, value); err != nil {
		return false, fmt.Errorf("put revision %d: %w", r.Revision, err)
	}
	e.rev, e.sub, e.begun = r.Revision, r.Sub, true
	return true, nil
}

// recordOverhead is what bbolt keeps on the heap for a record until the transaction commits, beside its bytes: small records
// fill a transaction by their number.
const recordOverhead = 128

// store keeps copies until the transaction commits, as bbolt asks; a value larger than a whole batch is committed at once instead.
func (e *Edit) store(key, value []byte) (err error) {
	defer recoverDamage(&err)()
	size := len(value) + recordOverhead
	if e.pending+size > e.opts.BatchBytes {
		if err := e.commit(); err != nil {
			return err
		}
		if err := e.begin(); err != nil {
			return err
		}
	}
	if size > e.opts.BatchBytes {
		if err := e.records.Put(key, value); err != nil {
			return err
		}
		return e.commit()
	}
	start := len(e.arena)
	e.arena = append(e.arena, value...)
	e.pending += size
	return e.records.Put(key, e.arena[start:])
}

// compare holds a record of a revision that the file has against what it has. Above the compaction nothing may be missing on
// either side, so the stored records are walked beside the given ones.
func (e *Edit) compare(r Record, key, value []byte) (err error) {
	defer recoverDamage(&err)()
	if r.Revision <= e.compact {
		if stored := e.records.Get(key); stored != nil && !bytes.Equal(stored, value) {
			return &RecordError{r.Revision, r.Sub, "the file holds another value for it"}
		}
		return nil
	}
	var k, v []byte
	if e.same == nil {
		e.same = e.records.Cursor()
		k, v = e.same.Seek(Record{Revision: r.Revision}.AppendKey(nil))
	} else {
		k, v = e.same.Next()
	}
	e.sameRev = r.Revision
	switch {
	case !bytes.Equal(k, key):
		e.same = nil
		return &RecordError{r.Revision, r.Sub, fmt.Sprintf("the file holds %x where the record has %x", k, key)}
	case !bytes.Equal(v, value):
		e.same = nil
		return &RecordError{r.Revision, r.Sub, "the file holds another value for it"}
	}
	return nil
}

// EndSegment says that the last record given was the last of its revision, as it is at the end of a segment. A *RecordError tells
// that the file holds changes of that revision which were not given.
func (e *Edit) EndSegment() error {
	e.begun = false
	return e.endOverlap(false)
}

// endOverlap ends a walk beside stored records: the next of them, if there is one, must be of another revision, and there must be none
// when new records follow.
func (e *Edit) endOverlap(newFollow bool) (err error) {
	defer recoverDamage(&err)()
	if e.same == nil {
		return nil
	}
	k, v := e.same.Next()
	e.same = nil
	if k == nil {
		return nil
	}
	if r, err := ParseRecord(k, v); err != nil || newFollow || r.Revision == e.sameRev {
		return &RecordError{r.Revision, r.Sub, "the file holds a change that was not given"}
	}
	return nil
}
