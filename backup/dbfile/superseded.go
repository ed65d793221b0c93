package dbfile

import (
	"context"
	"hash/maphash"
)

// superseded says which records are not the newest of their key at a revision. Records are numbered from the newest, which has 0.
// It takes one bit per record, and at most maxSlots*8 bytes while it is made, however many keys there are.
type superseded struct {
	bits    []uint64
	records int   // up to the revision
	kept    int64 // records that are the newest of their key and no tombstones
	keys    int64 // the same without the empty key, which no client can see
}

func (s *superseded) has(n int) bool { return s.bits[n/64]&(1<<(n%64)) != 0 }

// share is the keys whose hash is want under mask: what one pass looks at.
type share struct{ mask, want uint64 }

// superseded walks the records backwards from the revision at. Keys that do not fit into the set of one pass are left to another.
func (f *File) superseded(ctx context.Context, key bucket, at int64) (superseded, error) {
	p := pass{seed: maphash.MakeSeed(), todo: []share{{}}, set: keySet{max: f.maxSlots}} // so seeded, nobody can make a file whose keys collide
	defer p.set.free()
	for len(p.todo) > 0 {
		p.share = p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		if err := p.set.reset(); err != nil {
			return superseded{}, err
		}
		if err := p.walk(ctx, f, key, at); err != nil {
			return superseded{}, err
		}
	}
	return p.superseded, nil
}

// pass is one walk, for one share of the keys.
type pass struct {
	superseded
	share
	todo  []share
	seed  maphash.Seed
	set   keySet
	batch [64]probe
	n     int // in batch
}

// probe is a record whose key's hash is to be looked for. Looking for many at once lets the processor wait for many places in memory
// at once: this halves the time.
type probe struct {
	slot   uint64
	record int
}

func (p *pass) walk(ctx context.Context, f *File, key bucket, at int64) error {
	tick, records := every(ctx), 0
	err := f.tree.walk(key, true, func(_ uint32, k, v []byte) error {
		if err := tick(); err != nil {
			return err
		}
		main, tombstone, err := parseRevision(k)
		if err != nil || main > at {
			return err
		}
		name, err := keyOf(v)
		if err != nil {
			return err
		}
		if records++; records > len(p.bits)*64 {
			p.bits = append(p.bits, 0)
		}
		h := maphash.Bytes(p.seed, name)
		if h&p.mask != p.want {
			return nil
		}
		p.batch[p.n] = probe{newSlot(h, !tombstone, len(name) > 0), records - 1}
		if p.n++; p.n == len(p.batch) {
			return p.flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.records = records
	kept, keys := p.set.count()
	p.kept += kept
	p.keys += keys
	return nil
}

// flush puts the batch into the set, and narrows the share when they do not fit.
func (p *pass) flush() error {
	for !p.set.room(p.n) {
		if grown, err := p.set.grow(); err != nil {
			return err
		} else if !grown {
			bit := p.mask + 1
			p.todo = append(p.todo, share{p.mask | bit, p.want | bit})
			p.mask |= bit
			p.set.keep(p.share)
		}
	}
	p.set.touch(p.batch[:p.n])
	for _, b := range p.batch[:p.n] {
		if b.slot&p.mask == p.want && p.set.put(b.slot) {
			p.bits[b.record/64] |= 1 << (b.record % 64)
		}
	}
	p.n = 0
	return nil
}
