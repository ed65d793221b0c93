package dbfile

import (
	"encoding/binary"
	"fmt"
)

// A record of etcd's "key" bucket: the revision is the bucket's key, the value a marshalled mvccpb.KeyValue (server,
// storage/mvcc/revision.go). A tombstone's value holds the key alone.
const (
	revisionLen  = 8 + 1 + 8       // main, '_', sub; big-endian, so that byte order is order of revisions
	tombstoneLen = revisionLen + 1 // and 't'
)

// parseRevision reads a record's revision.
func parseRevision(b []byte) (main int64, tombstone bool, err error) {
	if len(b) != revisionLen && (len(b) != tombstoneLen || b[revisionLen] != 't') || b[8] != '_' || b[0]|b[9] >= 0x80 {
		return 0, false, fmt.Errorf("%w: %x is no revision", ErrDamaged, b[:min(len(b), tombstoneLen)])
	}
	return int64(binary.BigEndian.Uint64(b)), len(b) == tombstoneLen, nil
}

// keyOf finds field 1, the key, in a marshalled mvccpb.KeyValue, without decoding the rest. A record without one has the empty key:
// etcdutl's --bump-revision writes an empty value.
func keyOf(value []byte) ([]byte, error) {
	// etcd marshals in order of the fields, so the key comes first; protobuf does not promise it.
	for b := value; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errRecord
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errRecord
		}
		b = b[n:]
		switch tag & 7 {
		case 0: // a varint: size was its value
		case 2:
			if size > uint64(len(b)) {
				return nil, errRecord
			}
			if tag>>3 == 1 {
				return b[:size:size], nil
			}
			b = b[size:]
		default:
			return nil, errRecord
		}
	}
	return nil, nil
}

var errRecord = fmt.Errorf("%w: a record's value is no KeyValue", ErrDamaged)
