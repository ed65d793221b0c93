package repo

import (
	"fmt"
	"time"
)

// MadeFrom says from what a full snapshot was made offline: another full snapshot, and the change log from there to its revision. Keys and
// leases are those of its own revision; users, roles, alarms and members are the other snapshot's, since a change log carries none of them.
// Such a snapshot's ID carries the time of its content, not of its making.
type MadeFrom struct {
	// Snapshot is the full snapshot that was begun with, Revision its revision. It may be gone by now: nothing depends on it.
	Snapshot SnapshotID `json:"snapshot"`
	Revision Revision   `json:"revision"`
	// First to Last are the revisions that were taken from Segments segments; zero when the snapshot itself held the revision, and what came
	// after it was taken away.
	First    Revision `json:"first,omitempty"`
	Last     Revision `json:"last,omitempty"`
	Segments int      `json:"segments,omitempty"`
	// AssumedLeases is the number of leases whose TTL nothing told.
	AssumedLeases int `json:"assumed_leases,omitempty"`
	// Proof is the HashKV of a member that the new file was found to have; nil when the change log holds none for it.
	Proof *MemberProof `json:"proof,omitempty"`
	// Made is when, Seconds how long it took; Host and Steward are the host and the version of the program that made it.
	Made    time.Time `json:"made"`
	Seconds float64   `json:"seconds"`
	Host    string    `json:"host"`
	Steward string    `json:"steward"`
}

// MemberProof is what a member of the cluster answered when it was asked for its HashKV.
type MemberProof struct {
	Revision        Revision  `json:"revision"`
	CompactRevision Revision  `json:"compact_revision"`
	HashKV          uint32    `json:"hash_kv"`
	MemberID        string    `json:"member_id"`
	Time            time.Time `json:"time"`
}

// validate checks it against the revision of the snapshot that it is about.
func (f *MadeFrom) validate(rev Revision) error {
	if _, err := ParseSnapshotID(string(f.Snapshot)); err != nil {
		return fmt.Errorf("made from: %w", err)
	}
	switch {
	case f.Segments == 0 && f.First == 0 && f.Last == 0 && f.Revision >= rev: // it was rewound
	case f.Segments > 0 && f.First == f.Revision+1 && f.Last == rev && f.Revision < rev && f.Revision > 0:
	default:
		return fmt.Errorf("made from revision %d and %d segments with revisions %d to %d: that is not revision %d", f.Revision, f.Segments, f.First, f.Last, rev)
	}
	if p := f.Proof; p != nil && (p.Revision > rev || p.CompactRevision > p.Revision || p.CompactRevision < 0) {
		return fmt.Errorf("proven at revision %d with compaction at %d", p.Revision, p.CompactRevision)
	}
	return nil
}
