package backup

import (
	"fmt"
	"strings"
	"time"

	"etcd-steward/backup/repo"
)

// String says what a point came to, for people.
func (r Resolved) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d of timeline %s", r.Revision, r.Timeline)
	if r.Current != (repo.Timeline{}) {
		fmt.Fprintf(&b, ", not of the current %s", r.Current)
	}
	if !r.At.IsZero() {
		fmt.Fprintf(&b, ", seen %s", moment(r.At))
	}
	fmt.Fprintf(&b, ", from snapshot %s", r.Snapshot)
	switch base := r.SnapshotRevision; {
	case base > r.Revision:
		fmt.Fprintf(&b, " (revision %d), %d revisions taken back", base, base-r.Revision)
	case base < r.Revision:
		fmt.Fprintf(&b, " (revision %d) and %d segments of the change log", base, r.Segments)
	}
	return b.String()
}

// Doubt is what is not known of a time that was resolved; "" when the answer is exact.
func (r Resolved) Doubt() string {
	m := r.Moment
	if m == nil || m.Exact || m.Next == nil || m.Next.Revision == m.Revision+1 {
		return ""
	}
	return fmt.Sprintf("the revisions %d to %d were written before that time or after it: they were seen by %s, and are left out", m.Revision+1, m.Next.Revision, moment(m.Next.Time))
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z") }

// Lines say what a rebuild proved, and what a person should know of it.
func (r *Rebuilt) Lines(p Resolved) (lines []string) {
	if r == nil {
		return nil
	}
	proof := "no HashKV of a member is recorded up to it: it is proven by the segments' own checksums only"
	if r.ProvenAt > 0 {
		proof = fmt.Sprintf("its HashKV at revision %d is the one that a member gave", r.ProvenAt)
	}
	lines = append(lines, proof)
	if p.At.IsZero() && !r.SeenBy.IsZero() {
		lines = append(lines, fmt.Sprintf("revision %d had been seen by %s", p.Revision, moment(r.SeenBy)))
	}
	if p.SnapshotRevision != p.Revision {
		lines = append(lines, fmt.Sprintf("users, roles and alarms are those of snapshot %s, revision %d: the change log has keys and leases only", p.Snapshot, p.SnapshotRevision))
	}
	if r.Assumed > 0 {
		lines = append(lines, fmt.Sprintf("of %d leases only the ID is known: they were given a new TTL", r.Assumed))
	}
	return lines
}
