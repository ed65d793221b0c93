package dbfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Check looks at the whole structure: every page referred to once, keys in order, free pages free; first by itself, then, when that
// found nothing, with bbolt's own check, which must agree but may crash on a file that was not looked at before. Its memory grows with the
// file, at about 20 MB per GB.
func (f *File) Check(ctx context.Context) error {
	if err := f.read("check", func() error {
		c := checker{tree: &f.tree, tick: every(ctx), seen: make([]uint64, f.tree.pages/64+1)}
		return c.check()
	}); err != nil {
		return err
	}
	if err := f.bolt(ctx); err != nil {
		return fmt.Errorf("check of db file %s: %w", f.path, err)
	}
	return nil
}

// CheckEdit looks at what bbolt trusts while a file is finished for a new cluster: the list of free pages, every page of every bucket but of the keys,
// and of those the pages that lead to the last one. bbolt reads whatever memory a damaged page points at, its own included. It costs a few reads
// whatever the file's size, and says nothing of the keys themselves.
func (f *File) CheckEdit() error {
	return f.read("check", func() error {
		c := checker{tree: &f.tree, tick: every(context.Background()), seen: make([]uint64, f.tree.pages/64+1), edge: string(keyBucket)}
		return c.check()
	})
}

// checker walks all buckets.
type checker struct {
	tree *tree
	tick func() error
	seen []uint64 // one bit per page
	edge string   // the bucket of which only the pages to its last key are looked at; then not every page is accounted for
	last bool     // it is that one's turn
}

func (c *checker) check() error {
	for id := range uint64(2) {
		c.seen[0] |= 1 << id
	}
	if err := c.freelist(); err != nil {
		return err
	}
	if err := c.pages(bucket{root: c.tree.root, flags: bucketLeafFlag}, c.tree.root, nil, nil, 0); err != nil {
		return err
	}
	buckets, err := c.tree.buckets()
	if err != nil {
		return err
	}
	for name, b := range buckets {
		c.last = name == c.edge
		if b.root != 0 {
			err = c.pages(b, b.root, nil, nil, 0)
		} else {
			err = c.tree.walk(b, false, func(uint32, []byte, []byte) error { return nil })
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	if c.tree.freelist == noFreelist || c.edge != "" {
		return nil // whatever is not reached is free, or was not to be reached
	}
	for id := range c.tree.pages {
		if c.seen[id/64]&(1<<(id%64)) == 0 {
			return fmt.Errorf("%w: page %d is neither in use nor free", ErrDamaged, id)
		}
	}
	return nil
}

// mark says that page id is accounted for.
func (c *checker) mark(id uint64) error {
	if bit := uint64(1) << (id % 64); c.seen[id/64]&bit == 0 {
		c.seen[id/64] |= bit
		return nil
	}
	return fmt.Errorf("%w: page %d is used twice", ErrDamaged, id)
}

func (c *checker) markPage(p page) error {
	for i := range uint64(len(p.b)) / uint64(c.tree.pageSize) {
		if err := c.mark(p.id + i); err != nil {
			return err
		}
	}
	return nil
}

// pages checks bucket b's page id and all below it: keys not before first, and before end when there is one.
func (c *checker) pages(b bucket, id uint64, first, end []byte, depth int) error {
	p, err := c.tree.page(id)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: page %d lies deeper than pages can", ErrDamaged, id)
	}
	if err := c.markPage(p); err != nil {
		return err
	}
	if p.flags != leafFlag && p.flags != branchFlag {
		return fmt.Errorf("%w: page %d is of no known kind (%#x)", ErrDamaged, id, p.flags)
	}
	if p.flags == branchFlag && p.count == 0 {
		return fmt.Errorf("%w: page %d leads nowhere", ErrDamaged, id) // bbolt would follow an element that is not there
	}
	last, strict := first, false
	for i := range p.count {
		if err := c.tick(); err != nil {
			return err
		}
		var key []byte
		child, flags := uint64(0), b.flags
		if p.flags == leafFlag {
			flags, key, _, err = p.leaf(i)
		} else {
			key, child, err = p.branch(i)
		}
		if err != nil {
			return err
		}
		if flags != b.flags {
			return errElement(id, flags)
		}
		if cmp := bytes.Compare(last, key); cmp > 0 || strict && cmp == 0 || end != nil && bytes.Compare(key, end) >= 0 {
			return fmt.Errorf("%w: key %d of page %d is out of order", ErrDamaged, i, id)
		}
		last, strict = key, true
		if p.flags == leafFlag || c.last && i+1 < p.count {
			continue
		}
		to := end
		if i+1 < p.count {
			if to, _, err = p.branch(i + 1); err != nil {
				return err
			}
		}
		if err := c.pages(b, child, key, to, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// freelist checks the stored list of free pages, if there is one.
func (c *checker) freelist() error {
	if c.tree.freelist == noFreelist {
		return nil
	}
	p, err := c.tree.page(c.tree.freelist)
	if err != nil {
		return err
	}
	if p.flags != freelistFlag {
		return fmt.Errorf("%w: page %d is no list of free pages", ErrDamaged, p.id)
	}
	if err := c.markPage(p); err != nil {
		return err
	}
	ids, count := p.b[pageHeaderSize:], uint64(p.count)
	if count == 0xFFFF { // too many for the header: the first element is the number
		count = order.Uint64(ids)
		ids = ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("%w: page %d cannot list %d free pages", ErrDamaged, p.id, count)
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= c.tree.pages {
			return fmt.Errorf("%w: free page %d of %d", ErrDamaged, id, c.tree.pages)
		}
		if err := c.mark(id); err != nil {
			return err
		}
	}
	return nil
}

// bolt runs bbolt's check.
func (f *File) bolt(ctx context.Context) (err error) {
	db, err := bolt.Open(f.path, 0o400, &bolt.Options{ReadOnly: true, FreelistType: bolt.FreelistMapType, Timeout: lockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		var first error
		for err := range tx.Check() { // it has to be drained: bbolt's goroutine ends only then
			if first == nil {
				first = fmt.Errorf("%w: bbolt says: %w", ErrDamaged, err)
			}
		}
		return errors.Join(first, ctx.Err())
	})
}
