package changes

import (
	"encoding/binary"

	"etcd-steward/backup/changes/wire"
)

// KeyValue is what a record's value says: etcd's mvccpb.KeyValue, read in place.
type KeyValue struct {
	Key            []byte
	CreateRevision int64
	ModRevision    int64
	Version        int64
	Value          []byte
	Lease          int64
}

// Field numbers of mvccpb.KeyValue (etcd api/mvccpb/kv.proto). All are varints but key and value.
const (
	kvKey    = 1
	kvCreate = 2
	kvMod    = 3
	kvVer    = 4
	kvValue  = 5
	kvLease  = 6
)

// ParseKeyValue reads a record's value without copying: Key and Value point into b. Unknown fields are passed over.
func ParseKeyValue(b []byte) (kv KeyValue, err error) {
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil {
			return KeyValue{}, err
		}
		b = rest
		switch f.Number {
		case kvKey:
			kv.Key = f.Bytes
		case kvCreate:
			kv.CreateRevision = int64(f.Varint)
		case kvMod:
			kv.ModRevision = int64(f.Varint)
		case kvVer:
			kv.Version = int64(f.Varint)
		case kvValue:
			kv.Value = f.Bytes
		case kvLease:
			kv.Lease = int64(f.Varint)
		}
	}
	return kv, nil
}

// AppendTombstone appends what etcd stores for the deletion of key: a KeyValue that holds the key alone (etcd
// server/storage/mvcc/kvstore_txn.go, delete), though the watch event that tells of it has a revision patched in.
func AppendTombstone(dst, key []byte) []byte {
	dst = append(dst, kvKey<<3|wire.Bytes)
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	return append(dst, key...)
}

// tombstoneLen is the length of what AppendTombstone appends.
func tombstoneLen(key []byte) int {
	n := 2 + len(key)
	for l := len(key); l >= 0x80; l >>= 7 {
		n++
	}
	return n
}

// AppendKeyValue appends kv as etcd marshals it: fields in order, zero ones left out.
func AppendKeyValue(dst []byte, kv KeyValue) []byte {
	dst = appendBytesField(dst, kvKey, kv.Key)
	dst = appendVarintField(dst, kvCreate, kv.CreateRevision)
	dst = appendVarintField(dst, kvMod, kv.ModRevision)
	dst = appendVarintField(dst, kvVer, kv.Version)
	dst = appendBytesField(dst, kvValue, kv.Value)
	return appendVarintField(dst, kvLease, kv.Lease)
}

func appendBytesField(dst []byte, number byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = append(dst, number<<3|wire.Bytes)
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

func appendVarintField(dst []byte, number byte, v int64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, number<<3|wire.Varint), uint64(v))
}
