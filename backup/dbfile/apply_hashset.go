package dbfile

// hashSet is a set of 64-bit hashes by open addressing: 8 bytes a slot, at most three quarters of the slots taken.
type hashSet struct {
	slots []uint64 // 0 is a free slot
	zero  bool     // the hash 0 is in the set
	n     int
}

func (s *hashSet) add(h uint64) bool {
	if h == 0 {
		had := s.zero
		s.zero = true
		if !had {
			s.n++
		}
		return !had
	}
	if 4*s.n >= 3*len(s.slots) {
		s.grow()
	}
	i := s.find(h)
	if s.slots[i] == h {
		return false
	}
	s.slots[i] = h
	s.n++
	return true
}

func (s *hashSet) has(h uint64) bool {
	if h == 0 {
		return s.zero
	}
	return len(s.slots) > 0 && s.slots[s.find(h)] == h
}

// find is the slot that holds h, or the free one where it belongs.
func (s *hashSet) find(h uint64) int {
	mask := len(s.slots) - 1
	i := int(h) & mask
	for s.slots[i] != 0 && s.slots[i] != h {
		i = (i + 1) & mask
	}
	return i
}

func (s *hashSet) grow() {
	old := s.slots
	s.slots = make([]uint64, max(2*len(old), 1024))
	for _, h := range old {
		if h != 0 {
			s.slots[s.find(h)] = h
		}
	}
}
