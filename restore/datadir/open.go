package datadir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"etcd-steward/backup/dbfile"
)

// A page of bbolt's file starts with this header (bbolt v1.5.0, internal/common/page.go): ID, flags, count, overflow.
const (
	pageHeaderSize = 16
	flagMeta       = 0x04
	flagFreelist   = 0x10
)

// meta is a bbolt meta page behind its page header (bbolt v1.5.0, internal/common/meta.go), in the machine's byte order.
type meta struct {
	Magic, Version, PageSize, Flags    uint32
	Root, Sequence, Freelist, Pgid, Tx uint64
	Checksum                           uint64 // FNV-1a of what stands before it
}

const (
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	// noFreelist in meta.Freelist says that the list of free pages is not in the file; etcd always writes it so.
	noFreelist = ^uint64(0)
	// maxPageSize is the largest that bbolt looks for.
	maxPageSize = 16 << 20
)

// skipScan spares the search for free pages when the file is opened next: a meta page is committed that names an empty list of them.
//
// etcd's files carry no such list, so whoever opens one for writing walks the whole tree to rebuild it: half a second and 50 MB of
// maps for every 2 GB. For a handful of edits that list is not needed: with an empty one, bbolt appends. The edits' commit drops it
// again, so etcd's first start sees a file like its own, and finds all free pages by its own walk.
//
// It is a transaction of bbolt's own kind: the other meta slot, a higher number, a checksum. A crash leaves the older meta in force.
func skipScan(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, err := newestMeta(f)
	if err != nil {
		return fmt.Errorf("read %s: %w: %w", path, ErrDamaged, err)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if want := int64(m.Pgid) * int64(m.PageSize); st.Size() < want {
		return fmt.Errorf("read %s: %w: it has %d bytes, but its pages take %d: the file is cut off", path, ErrDamaged, st.Size(), want)
	}
	if m.Freelist != noFreelist {
		return nil // the file has a list of its own: nothing to scan
	}
	at := m.Pgid
	list := make([]byte, m.PageSize)
	binary.NativeEndian.PutUint64(list, at)
	binary.NativeEndian.PutUint16(list[8:], flagFreelist)
	if _, err := f.WriteAt(list, int64(at)*int64(m.PageSize)); err != nil {
		return err
	}
	m.Freelist, m.Pgid, m.Tx = at, at+1, m.Tx+1
	slot := m.Tx % 2
	page := make([]byte, 0, pageHeaderSize+metaSize)
	page = binary.NativeEndian.AppendUint64(page, slot)
	page = binary.NativeEndian.AppendUint16(page, flagMeta)
	page = append(page, make([]byte, 6)...)
	if page, err = binary.Append(page, binary.NativeEndian, m); err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(page[len(page)-8:], metaSum(page[pageHeaderSize:]))
	_, err = f.WriteAt(page, int64(slot)*int64(m.PageSize))
	return err
}

func metaSum(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize-8])
	return h.Sum64()
}

// newestMeta is the meta page that is in force: the valid one with the higher transaction. The second one stands a page further, so a page
// size is tried when the first is damaged.
func newestMeta(f *os.File) (meta, error) {
	first, ok := metaAt(f, 0)
	if ok {
		if second, ok := metaAt(f, int64(first.PageSize)); ok && second.Tx > first.Tx {
			return second, nil
		}
		return first, nil
	}
	for size := int64(1024); size <= maxPageSize; size *= 2 {
		if second, ok := metaAt(f, size); ok && int64(second.PageSize) == size {
			return second, nil
		}
	}
	return meta{}, errors.New("not an etcd database: neither of its meta pages is valid")
}

func metaAt(f *os.File, offset int64) (m meta, ok bool) {
	b := make([]byte, metaSize)
	if _, err := f.ReadAt(b, offset+pageHeaderSize); err != nil {
		return m, false
	}
	if _, err := binary.Decode(b, binary.NativeEndian, &m); err != nil {
		return m, false
	}
	size := m.PageSize
	valid := m.Magic == metaMagic && m.Version == metaVersion && m.Checksum == metaSum(b) &&
		size >= 1024 && size <= maxPageSize && size&(size-1) == 0 && m.Pgid >= 3 && m.Pgid < 1<<40
	return m, valid
}

// sound looks at what bbolt would trust.
func sound(path string) error {
	f, err := dbfile.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.CheckEdit(), f.Close())
}

// edit opens the file, runs fn in one transaction and closes the file. Nothing is synced: the file is durable after Sync only. bbolt
// panics on pages that make no sense, and reading past the end of a mapped file is a fault; both come back as errors.
func edit(path string, fn func(tx *bbolt.Tx) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("edit %s: %w: %v", path, ErrDamaged, r)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := sound(path); errors.Is(err, dbfile.ErrDamaged) {
		return fmt.Errorf("read %s: %w: %w", path, ErrDamaged, err)
	} else if err != nil {
		return err
	}
	if err := skipScan(path); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         time.Second, // a lock that is held means that somebody else works here
		InitialMmapSize: int(st.Size()) + 64<<20,
		NoFreelistSync:  true, // as etcd
		NoSync:          true,
		NoGrowSync:      true,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Update(fn); err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	return nil
}
