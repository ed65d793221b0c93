package dbfile

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/server/v3/lease/leasepb"

	"etcd-steward/backup/revision"
)

// Lease is a lease as a db file keeps it: the ID that keys refer to, and the TTL granted, in seconds.
type Lease struct {
	ID, TTL int64
}

// Leases are the leases in the file, by ID as an unsigned number.
func (e *Edit) Leases() (all []Lease, err error) {
	defer func() { err = prefixed(err, "read leases") }()
	defer recoverDamage(&err)()
	if err := e.begin(); err != nil {
		return nil, err
	}
	b := e.tx.Bucket(leaseBucket)
	if b == nil {
		return nil, nil
	}
	err = b.ForEach(func(k, v []byte) error {
		var l leasepb.Lease
		if err := proto.Unmarshal(v, &l); err != nil || len(k) != 8 {
			return fmt.Errorf("lease %x: not a lease: %w", k, err)
		}
		all = append(all, Lease{ID: l.ID, TTL: l.TTL})
		return nil
	})
	return all, err
}

// SetLeases makes the given leases the only ones. Those that the file has with the same TTL stay as they are, byte for byte.
//
// A lease's remaining time is left out on purpose. Etcd takes it as the time to which every keepalive extends the lease, for ever,
// unless it runs with lease checkpoints (server/v3 lease/lessor.go: Renew clears it only then), and so a lease that is kept alive
// properly would expire. Without it the lease lives one whole TTL from the moment that a leader is elected, as after any restart.
func (e *Edit) SetLeases(leases []Lease) (err error) {
	defer func() { err = prefixed(err, "set leases") }()
	defer recoverDamage(&err)()
	have, err := e.Leases()
	if err != nil {
		return err
	}
	b, err := e.tx.CreateBucketIfNotExists(leaseBucket)
	if err != nil {
		return err
	}
	want := make(map[int64]int64, len(leases))
	for _, l := range leases {
		want[l.ID] = l.TTL
	}
	for _, l := range have {
		if ttl, ok := want[l.ID]; ok && ttl == l.TTL {
			delete(want, l.ID)
		} else if !ok {
			if err := b.Delete(leaseKey(l.ID)); err != nil {
				return err
			}
		}
	}
	for id, ttl := range want {
		v, err := proto.Marshal(&leasepb.Lease{ID: id, TTL: ttl})
		if err != nil {
			return err
		}
		if err := b.Put(leaseKey(id), v); err != nil {
			return err
		}
	}
	return nil
}

func leaseKey(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

// KeySet is a set of users' keys that holds 64 bits of hash for each, and so takes 16 bytes or less per key. A false yes
// has a probability of about the number of keys in 2^64.
type KeySet struct {
	seed maphash.Seed
	set  hashSet
}

// Add puts key in and says whether it was not there.
func (s *KeySet) Add(key []byte) bool { return s.set.add(s.hash(key)) }

// Has says whether key is in the set.
func (s *KeySet) Has(key []byte) bool { return s.set.has(s.hash(key)) }

// Len is the number of keys.
func (s *KeySet) Len() int { return s.set.n }

func (s *KeySet) hash(key []byte) uint64 {
	if s.seed == (maphash.Seed{}) {
		s.seed = maphash.MakeSeed()
	}
	return maphash.Bytes(s.seed, key)
}

// TouchedAbove gives the keys with records above r.
func (e *Edit) TouchedAbove(ctx context.Context, r revision.Revision) (touched *KeySet, err error) {
	touched = &KeySet{}
	err = e.backwards(ctx, r+1, func(rec Record) (bool, error) {
		key, err := rec.Key()
		touched.Add(key)
		return true, err
	})
	return touched, err
}

// LeasesInUse gives the IDs of the leases to which keys are attached at the file's newest revision, by puts above the revision r, or by
// any put when the key is in also (which may be nil).
func (e *Edit) LeasesInUse(ctx context.Context, above revision.Revision, also *KeySet) (ids map[int64]bool, err error) {
	ids = map[int64]bool{}
	var seen KeySet
	from := above + 1
	left := 0
	if also != nil {
		from, left = 0, also.Len()
	}
	err = e.backwards(ctx, from, func(r Record) (bool, error) {
		key, err := r.Key()
		if err != nil {
			return false, err
		}
		named := also != nil && also.Has(key)
		if r.Revision <= above && !named || !seen.Add(key) {
			return true, nil
		}
		if id := r.Lease(); id != 0 && !r.Tombstone {
			ids[id] = true
		}
		if named {
			left--
		}
		return left > 0 || r.Revision > above, nil
	})
	return ids, err
}

// backwards walks the records from the newest down to the revision from, until fn says false. The record is valid during the call.
func (e *Edit) backwards(ctx context.Context, from revision.Revision, fn func(Record) (bool, error)) (err error) {
	defer func() { err = prefixed(err, "walk records") }()
	defer recoverDamage(&err)()
	if err := e.begin(); err != nil {
		return err
	}
	n := 0
	for c := e.records.Cursor(); ; n++ {
		k, v := c.Prev()
		if n == 0 {
			k, v = c.Last()
		}
		if k == nil {
			return nil
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := ParseRecord(k, v)
		if err != nil {
			return err
		}
		if r.Revision < from {
			return nil
		}
		if more, err := fn(r); err != nil || !more {
			return err
		}
	}
}
