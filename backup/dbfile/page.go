package dbfile

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// The layout is bbolt's, which is the memory of its structs (internal/common/page.go, meta.go, bucket.go), in the byte order of
// the machine:
//
//	page    id u64, flags u16, count u16, overflow u32, then count elements, then their keys and values
//	branch  pos u32, ksize u32, page u64          pos counts from the element's own start
//	leaf    flags u32, pos u32, ksize u32, vsize u32
//	bucket  root page u64, sequence u64           a leaf's value when its flags are 1; root 0: one page follows inline
//	meta    magic u32, version u32, pageSize u32, flags u32, root bucket, freelist u64, pages u64, txid u64, FNV-1a u64
const (
	pageHeaderSize = 16
	elementSize    = 16
	bucketSize     = 16

	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10

	bucketLeafFlag = 0x01

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSumAt   = 56
	noFreelist  = ^uint64(0) // the file's writer did not store the free pages, as etcd's does not

	minPageSize = 1 << 10
	maxPageSize = 1 << 16
)

var order = binary.NativeEndian

// meta is the page that says where everything is. There are two, of which the newer valid one counts.
type meta struct {
	pageSize              uint32
	root, freelist, pages uint64 // pages is bbolt's high water mark: no page beyond it is in use
	txid                  uint64
}

// readMeta reads the meta behind a page header at the start of b.
func readMeta(b []byte) (m meta, ok bool) {
	if len(b) < pageHeaderSize+metaSumAt+8 {
		return m, false
	}
	b = b[pageHeaderSize:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSumAt])
	if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint64(b[metaSumAt:]) != sum.Sum64() {
		return m, false
	}
	return meta{
		pageSize: order.Uint32(b[8:]), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}, true
}

// tree is the file as bbolt's pages.
type tree struct {
	data []byte
	meta
}

// openTree finds the newest valid meta page and holds what it claims against the file's size.
func openTree(data []byte) (tree, error) {
	t := tree{data: data}
	found := false
	first, ok := readMeta(data)
	if ok {
		t.meta, found = first, true
	}
	// The second one lies at the page size, which only a valid meta page tells: bbolt tries them all, too.
	for size := minPageSize; size <= maxPageSize && size < len(data); size *= 2 {
		if second, ok := readMeta(data[size:]); ok && int(second.pageSize) == size && (!found || second.txid > t.txid && second.pageSize == first.pageSize) {
			t.meta, found = second, true
		}
	}
	switch size := uint64(t.pageSize); {
	case !found:
		return t, fmt.Errorf("%w: no valid meta page", ErrDamaged)
	case size < minPageSize || size > maxPageSize || size&(size-1) != 0:
		return t, fmt.Errorf("%w: pages of %d bytes", ErrDamaged, size)
	case t.pages < 3 || t.pages > uint64(len(data))/size:
		return t, fmt.Errorf("%w: it should have %d pages of %d bytes, but has %d bytes", ErrDamaged, t.pages, size, len(data))
	}
	return t, nil
}

// page is one page with the pages that it flows over into.
type page struct {
	id    uint64
	b     []byte
	flags uint16
	count int
}

// page finds page id and checks its header.
func (t *tree) page(id uint64) (page, error) {
	if id < 2 || id >= t.pages {
		return page{}, fmt.Errorf("%w: a reference to page %d of %d", ErrDamaged, id, t.pages)
	}
	size := uint64(t.pageSize)
	b := t.data[id*size : (id+1)*size]
	if got := order.Uint64(b); got != id {
		return page{}, fmt.Errorf("%w: page %d calls itself %d", ErrDamaged, id, got)
	}
	if over := uint64(order.Uint32(b[12:])); over > 0 {
		if over >= t.pages-id {
			return page{}, fmt.Errorf("%w: page %d flows over %d pages", ErrDamaged, id, over)
		}
		b = t.data[id*size : (id+1+over)*size]
	}
	return newPage(id, b)
}

// newPage checks that the elements that a page claims fit into it.
func newPage(id uint64, b []byte) (page, error) {
	if len(b) < pageHeaderSize {
		return page{}, fmt.Errorf("%w: page %d has %d bytes", ErrDamaged, id, len(b))
	}
	p := page{id: id, b: b, flags: order.Uint16(b[8:]), count: int(order.Uint16(b[10:]))}
	if (p.flags == branchFlag || p.flags == leafFlag) && pageHeaderSize+p.count*elementSize > len(b) {
		return page{}, fmt.Errorf("%w: page %d cannot hold %d elements", ErrDamaged, id, p.count)
	}
	return p, nil
}

// leaf is element i of a leaf page.
func (p page) leaf(i int) (flags uint32, key, value []byte, err error) {
	at := pageHeaderSize + i*elementSize
	e := p.b[at : at+elementSize : at+elementSize]
	from := uint64(at) + uint64(order.Uint32(e[4:]))
	mid := from + uint64(order.Uint32(e[8:]))
	end := mid + uint64(order.Uint32(e[12:]))
	if end > uint64(len(p.b)) {
		return 0, nil, nil, fmt.Errorf("%w: element %d of page %d reaches beyond it", ErrDamaged, i, p.id)
	}
	return order.Uint32(e), p.b[from:mid:mid], p.b[mid:end:end], nil
}

// branch is element i of a branch page: the first key below a child, and the child.
func (p page) branch(i int) (key []byte, child uint64, err error) {
	at := pageHeaderSize + i*elementSize
	e := p.b[at : at+elementSize : at+elementSize]
	from := uint64(at) + uint64(order.Uint32(e))
	end := from + uint64(order.Uint32(e[4:]))
	if end > uint64(len(p.b)) {
		return nil, 0, fmt.Errorf("%w: element %d of page %d reaches beyond it", ErrDamaged, i, p.id)
	}
	return p.b[from:end:end], order.Uint64(e[8:]), nil
}
