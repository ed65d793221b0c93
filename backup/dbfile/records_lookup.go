package dbfile

import (
	"bytes"
	"fmt"
	"sort"

	"etcd-steward/backup/revision"
)

// Put finds the put of a revision and sub-revision, in microseconds; false when the file has none. The record is valid until Close.
func (f *File) Put(rev revision.Revision, sub int64) (r Record, found bool, err error) {
	err = f.read("record", func() error {
		buckets, err := f.tree.buckets()
		if err != nil {
			return err
		}
		r = Record{Revision: rev, Sub: sub}
		r.Value, found, err = f.tree.lookup(buckets["key"], r.AppendKey(nil))
		return err
	})
	return r, found, err
}

// lookup finds one key of a bucket.
func (t *tree) lookup(b bucket, key []byte) (value []byte, found bool, err error) {
	p, err := newPage(0, b.inline)
	if b.root != 0 {
		p, err = t.page(b.root)
	}
	for depth := 0; err == nil && p.flags == branchFlag; depth++ {
		if depth > maxDepth {
			return nil, false, fmt.Errorf("%w: page %d lies deeper than pages can", ErrDamaged, p.id)
		}
		// The child before the first whose first key is higher.
		i := sort.Search(p.count, func(i int) bool {
			k, _, kerr := p.branch(i)
			if kerr != nil {
				err = kerr
			}
			return bytes.Compare(k, key) > 0
		})
		if i == 0 || err != nil {
			return nil, false, err
		}
		var child uint64
		if _, child, err = p.branch(i - 1); err == nil {
			p, err = t.page(child)
		}
	}
	if err != nil {
		return nil, false, err
	}
	if p.flags != leafFlag {
		return nil, false, fmt.Errorf("%w: page %d is of no known kind (%#x)", ErrDamaged, p.id, p.flags)
	}
	at := func(i int) (k, v []byte) {
		_, k, v, kerr := p.leaf(i)
		if kerr != nil {
			err = kerr
		}
		return k, v
	}
	i := sort.Search(p.count, func(i int) bool { k, _ := at(i); return bytes.Compare(k, key) >= 0 })
	if i == p.count || err != nil {
		return nil, false, err
	}
	k, v := at(i)
	return v, err == nil && bytes.Equal(k, key), err
}
