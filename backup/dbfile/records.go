package dbfile

import (
	"context"
	"encoding/binary"
	"fmt"

	"etcd-steward/backup/changes/wire"
	"etcd-steward/backup/revision"
)

// Record is one change as etcd stores it in its `key` bucket. The bytes that it refers to are not its own: they are valid as long as
// the function that handed it out says.
type Record struct {
	// Revision is the change's revision, Sub its position among the changes of that revision, from 0.
	Revision revision.Revision
	Sub      int64
	// Tombstone says that the change deleted the key.
	Tombstone bool
	// Value is the marshalled mvccpb.KeyValue; a tombstone's holds the key alone.
	Value []byte
}

// ParseRecord reads a record's revision key. The record refers to value.
func ParseRecord(key, value []byte) (Record, error) {
	main, tombstone, err := parseRevision(key)
	if err != nil {
		return Record{}, err
	}
	sub := int64(binary.BigEndian.Uint64(key[9:]))
	return Record{Revision: revision.Revision(main), Sub: sub, Tombstone: tombstone, Value: value}, nil
}

// AppendKey appends the record's revision key to b.
func (r Record) AppendKey(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.Revision))
	b = append(b, '_')
	b = binary.BigEndian.AppendUint64(b, uint64(r.Sub))
	if r.Tombstone {
		b = append(b, 't')
	}
	return b
}

// Key is the user's key that the record changes. Nothing is copied.
func (r Record) Key() ([]byte, error) { return keyOf(r.Value) }

// Lease is the ID of the lease that a put attached its key to; 0 for none.
func (r Record) Lease() int64 {
	const fieldLease = 6 // mvccpb.KeyValue (etcd api/mvccpb/kv.proto)
	for b := r.Value; len(b) > 0; {
		f, rest, err := wire.Next(b)
		if err != nil {
			return 0
		}
		if f.Number == fieldLease {
			return int64(f.Varint)
		}
		b = rest
	}
	return 0
}

// Records visits the records of the revisions from to last, in their order, or the other way round: those of the last revision first,
// and of each revision the last change first. It ends early, without error, when visit says false. The record is valid during the
// visit. Reading begins at the file's end that is nearer in the asked order, at 2 to 5 GB/s from memory.
func (f *File) Records(ctx context.Context, from, last revision.Revision, backwards bool, visit func(Record) (more bool, err error)) error {
	return f.read("records", func() error {
		buckets, err := f.tree.buckets()
		if err != nil {
			return err
		}
		key, ok := buckets["key"]
		if !ok {
			return fmt.Errorf("%w: it has no bucket for keys", ErrDamaged)
		}
		tick := every(ctx)
		return f.tree.walk(key, backwards, func(_ uint32, k, v []byte) error {
			if err := tick(); err != nil {
				return err
			}
			r, err := ParseRecord(k, v)
			switch {
			case err != nil:
				return err
			case backwards && r.Revision < from, !backwards && r.Revision > last:
				return errStop
			case r.Revision < from || r.Revision > last:
				return nil
			}
			if more, err := visit(r); err != nil || !more {
				return cmpErr(err, errStop)
			}
			return nil
		})
	})
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
