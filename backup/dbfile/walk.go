package dbfile

import (
	"bytes"
	"errors"
	"fmt"
)

// maxDepth is far above what a real tree has: with two keys per page, 2^40 leaves.
const maxDepth = 40

// errStop ends a walk early, without error.
var errStop = errors.New("stop")

// bucket is a top-level bucket, or the root that holds them: a root page, or one page inline.
type bucket struct {
	root   uint64
	inline []byte
	flags  uint32 // of its elements: buckets in the root, records elsewhere; etcd nests no further
}

// walker goes through one bucket in key order. It ends by itself on any file: depth and visits are bounded.
type walker struct {
	tree    *tree
	flags   uint32
	visit   func(flags uint32, key, value []byte) error
	reverse bool
	visits  uint64
	last    []byte // the key that was visited last
	started bool
}

// walk visits every element of b in key order, or in reverse. The visit's slices are the mapped file's: valid until Close.
func (t *tree) walk(b bucket, reverse bool, visit func(flags uint32, key, value []byte) error) error {
	w := walker{tree: t, flags: b.flags, visit: visit, reverse: reverse}
	var err error
	if b.root != 0 {
		err = w.page(b.root, 0)
	} else {
		var p page
		if p, err = newPage(0, b.inline); err == nil {
			err = w.leaf(p)
		}
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (w *walker) page(id uint64, depth int) error {
	p, err := w.tree.page(id)
	if err != nil {
		return err
	}
	if w.visits++; w.visits > w.tree.pages || depth > maxDepth {
		return fmt.Errorf("%w: page %d is reached in a circle", ErrDamaged, id)
	}
	switch p.flags {
	case leafFlag:
		return w.leaf(p)
	case branchFlag:
		for i := range p.count {
			if w.reverse {
				i = p.count - 1 - i
			}
			_, child, err := p.branch(i)
			if err != nil {
				return err
			}
			if err := w.page(child, depth+1); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("%w: page %d is of no known kind (%#x)", ErrDamaged, id, p.flags)
	}
}

func (w *walker) leaf(p page) error {
	if p.flags != leafFlag {
		return fmt.Errorf("%w: an inline page of kind %#x", ErrDamaged, p.flags)
	}
	for i := range p.count {
		if w.reverse {
			i = p.count - 1 - i
		}
		flags, key, value, err := p.leaf(i)
		if err != nil {
			return err
		}
		if flags != w.flags {
			return errElement(p.id, flags)
		}
		if w.started {
			if order := bytes.Compare(w.last, key); order == 0 || (order < 0) == w.reverse {
				return fmt.Errorf("%w: the keys of page %d are not in order", ErrDamaged, p.id)
			}
		}
		w.last, w.started = key, true
		if err := w.visit(flags, key, value); err != nil {
			return err
		}
	}
	return nil
}

func errElement(page uint64, flags uint32) error {
	return fmt.Errorf("%w: page %d holds an element that does not belong there (%#x)", ErrDamaged, page, flags)
}

// buckets are the top-level buckets by name.
func (t *tree) buckets() (map[string]bucket, error) {
	const most = 64 // etcd 3.7 has 10
	found := map[string]bucket{}
	err := t.walk(bucket{root: t.root, flags: bucketLeafFlag}, false, func(_ uint32, key, value []byte) error {
		if len(found) == most {
			return fmt.Errorf("%w: more buckets than etcd has", ErrDamaged)
		}
		b, err := readBucket(value)
		found[string(key)] = b
		return err
	})
	return found, err
}

// readBucket reads a bucket's header.
func readBucket(value []byte) (bucket, error) {
	if len(value) < bucketSize {
		return bucket{}, fmt.Errorf("%w: a bucket's header of %d bytes", ErrDamaged, len(value))
	}
	b := bucket{root: order.Uint64(value)}
	if b.root == 0 {
		b.inline = value[bucketSize:]
	}
	return b, nil
}
