package dbfile

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keySet is a set of the hashes of keys: open addressing in a table that grows up to max and then is full. Two keys of one hash
// would give a wrong result: of 2^61 hashes, once in 20,000 files of ten million keys.
//
// The table is not the Go heap's, which would keep the smaller ones until its next collection.
type keySet struct {
	slots []uint64 // 0: empty
	n     int
	max   int // slots

	touched uint64 // keeps touch from being optimised away
}

const (
	minSlots = 1 << 13
	maxSlots = 1 << 22 // 32 MiB

	// A slot is a hash, of which the low bits choose the share and the middle ones the place, with three marks at the top.
	slotUsed    = 1 << 63
	slotLive    = 1 << 62 // the key's newest record is no tombstone
	slotVisible = 1 << 61 // and its key is not empty
	slotHash    = slotVisible - 1
	placeShift  = 32
)

func newSlot(h uint64, live, visible bool) uint64 {
	slot := h&slotHash | slotUsed
	if live {
		slot |= slotLive
		if visible {
			slot |= slotVisible
		}
	}
	return slot
}

// table makes a zeroed table.
func table(slots int) ([]uint64, error) {
	b, err := unix.Mmap(-1, 0, slots*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("get %d bytes of memory: %w", slots*8, err)
	}
	// The accesses are random: large pages spare a walk through the page table for each. It is only a wish.
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), slots), nil //nolint:gosec // as many as were mapped, page-aligned
}

func (s *keySet) free() {
	if s.slots != nil {
		_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.slots))), len(s.slots)*8)) //nolint:gosec // what table mapped
	}
	s.slots, s.n = nil, 0
}

// reset makes the set empty.
func (s *keySet) reset() (err error) {
	if s.slots == nil {
		s.slots, err = table(minSlots)
	}
	clear(s.slots)
	s.n = 0
	return err
}

// room says whether n more keys surely fit.
func (s *keySet) room(n int) bool { return s.n+n <= len(s.slots)/4*3 }

// grow doubles the table, unless it is at its largest.
func (s *keySet) grow() (bool, error) {
	if len(s.slots) >= s.max {
		return false, nil
	}
	bigger := keySet{n: s.n, max: s.max}
	var err error
	if bigger.slots, err = table(2 * len(s.slots)); err != nil {
		return false, err
	}
	for _, slot := range s.slots {
		if slot != 0 {
			*bigger.find(slot) = slot
		}
	}
	s.free()
	*s = bigger
	return true, nil
}

// keep drops what is not of the share. It needs no second table: a run of used slots is put in again, slot by slot.
func (s *keySet) keep(part share) {
	// Begin behind an empty slot, so that no run is cut in two.
	start := 0
	for s.slots[start] != 0 {
		start++
	}
	last := len(s.slots) - 1
	for i := range s.slots {
		at := &s.slots[(start+i)&last]
		slot := *at
		if slot == 0 {
			continue
		}
		if *at = 0; slot&part.mask == part.want {
			*s.find(slot) = slot
		} else {
			s.n--
		}
	}
}

// find is where a hash is, or belongs.
func (s *keySet) find(slot uint64) *uint64 {
	for i := slot >> placeShift; ; i++ {
		if at := &s.slots[i&uint64(len(s.slots)-1)]; *at == 0 || (*at^slot)&slotHash == 0 {
			return at
		}
	}
}

// touch asks for the memory of all places at once.
func (s *keySet) touch(batch []probe) {
	var sum uint64
	for _, b := range batch {
		sum += s.slots[b.slot>>placeShift&uint64(len(s.slots)-1)]
	}
	s.touched = sum
}

// put adds a slot, unless its hash is there already: then it returns true.
func (s *keySet) put(slot uint64) bool {
	at := s.find(slot)
	if *at != 0 {
		return true
	}
	s.n++
	*at = slot
	return false
}

func (s *keySet) count() (live, visible int64) {
	for _, slot := range s.slots {
		if slot&slotLive != 0 {
			live++
		}
		if slot&slotVisible != 0 {
			visible++
		}
	}
	return live, visible
}
