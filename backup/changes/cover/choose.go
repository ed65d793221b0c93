package cover

import (
	"fmt"
	"strings"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Plan is what a restore point is rebuilt from.
type Plan struct {
	Timeline repo.Timeline
	Revision repo.Revision
	Snapshot Snapshot
	// Segments in the order in which they are applied. They overlap where that spares one; events at or below what has been applied are
	// skipped, and those above Revision.
	Segments []repo.Segment
	// Rewind says that the snapshot is newer than Revision: the records above it are taken away. The snapshot's leases are those of its
	// own revision: of leases that ended in between, nothing is known but that they did.
	Rewind bool
}

// Bytes is how much the plan downloads.
func (p Plan) Bytes() int64 {
	n := p.Snapshot.Data.Size
	for _, s := range p.Segments {
		n += s.Size
	}
	return n
}

// Cover chooses the way to a revision: the snapshot of that very revision; else the newest below it with the fewest segments; else the nearest
// above it that still holds it. The last would often be the cheapest, but what a log does not tell would be from after the moment that is wanted:
// users and roles, and the leases that ended in between. Pass only snapshots and segments that are to be used. The error is *Unreachable (fail.Unsafe).
func Cover(snaps []Snapshot, segs []repo.Segment, t repo.Timeline, r repo.Revision) (Plan, error) {
	snaps, segs = of(t, snaps, segs)
	plan := Plan{Timeline: t, Revision: r}
	below := -1
	for i, s := range snaps {
		if s.Revision <= r {
			below = i
		}
	}
	if below >= 0 && snaps[below].Revision == r {
		plan.Snapshot = snaps[below]
		return plan, nil
	}
	if below >= 0 {
		if chain, ok := fewest(segs, snaps[below].Revision, r); ok {
			plan.Snapshot, plan.Segments = snaps[below], chain
			return plan, nil
		}
	}
	for _, s := range snaps[below+1:] {
		if s.oldest() <= r {
			plan.Snapshot, plan.Rewind = s, true
			return plan, nil
		}
	}
	return Plan{}, unreachable(windowsOf(snaps, segs), t, r)
}

// fewest chooses segments that hold every revision above `from` up to `to`: always the one that goes furthest, which is as few as there can be.
func fewest(segs []repo.Segment, from, to repo.Revision) (chain []repo.Segment, ok bool) {
	for i := 0; from < to; {
		best := -1
		for ; i < len(segs) && segs[i].First <= from+1; i++ {
			if segs[i].Last > from && (best < 0 || segs[i].Last > segs[best].Last) {
				best = i
			}
		}
		if best < 0 {
			return nil, false
		}
		chain = append(chain, segs[best])
		from = segs[best].Last
	}
	return chain, true
}

// Unreachable says why a restore point cannot be reached, and what can be instead.
type Unreachable struct {
	Timeline repo.Timeline
	Revision repo.Revision
	// Below and Above are the nearest restore points on either side; 0 means that there is none.
	Below, Above repo.Revision
}

// Error implements error.
func (u *Unreachable) Error() string {
	switch {
	case u.Below == 0 && u.Above == 0:
		return fmt.Sprintf("revision %d: there is no snapshot of timeline %s", u.Revision, u.Timeline)
	case u.Below == 0:
		return fmt.Sprintf("revision %d is before the first restore point of timeline %s, %d", u.Revision, u.Timeline, u.Above)
	case u.Above == 0:
		return fmt.Sprintf("revision %d is after the last restore point of timeline %s, %d", u.Revision, u.Timeline, u.Below)
	}
	return fmt.Sprintf("revision %d lies in a gap of timeline %s: %d to %d were not recorded", u.Revision, u.Timeline, u.Below+1, u.Above-1)
}

// unreachable is the refusal for a revision that is in none of the windows of its timeline.
func unreachable(ws []Window, t repo.Timeline, r repo.Revision) error {
	u := &Unreachable{Timeline: t, Revision: r}
	for _, w := range ws {
		if w.To < r {
			u.Below = max(u.Below, w.To)
		}
		if w.From > r && (u.Above == 0 || w.From < u.Above) {
			u.Above = w.From
		}
	}
	return fail.Refused(u, u.hint())
}

func (u *Unreachable) hint() string {
	var take []string
	for _, r := range []repo.Revision{u.Below, u.Above} {
		if r > 0 {
			take = append(take, fmt.Sprintf("--to-revision %d", r))
		}
	}
	if len(take) == 0 {
		return "`steward backup list` shows what can be restored"
	}
	return "the nearest restore points: " + strings.Join(take, ", or ")
}
