package maintain

import (
	"fmt"

	"etcd-steward/membership/probe"
)

// Rooms is how many bytes are free where a member has its database, by the member's ID: of those whose disk can be seen from here.
type Rooms map[uint64]int64

// roomFor is how many bytes a defragmentation needs: the data in use are written to a second file before the first is gone.
func roomFor(inUse int64) int64 { return inUse + inUse/10 }

// Narrow are the members whose disk is seen, and has no room for the second file. etcd would stop in the middle, and go on with the old file; but the disk
// is full by then, and the next entry of its log ends it.
func (r Rooms) Narrow(v *probe.View, d Defrag) (all []Gate) {
	for _, s := range d.Steps {
		free, seen := r[s.Member]
		a := v.ByID(s.Member)
		if !seen || a == nil || free >= roomFor(a.DBInUse) {
			continue
		}
		all = append(all, Gate{
			Rule: "the disk has room for the data in use and a tenth more", Member: s.Member,
			Evidence: fmt.Sprintf("%s has %s free for %s", s.Name, bytes(free), bytes(a.DBInUse)), Safe: "make room on that disk first",
		})
	}
	return all
}

// Unseen are the names of those whose disk cannot be seen from here.
func (r Rooms) Unseen(d Defrag) (names []string) {
	for _, s := range d.Steps {
		if _, seen := r[s.Member]; !seen {
			names = append(names, s.Name)
		}
	}
	return names
}
