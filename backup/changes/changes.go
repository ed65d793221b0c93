// Package changes is the format of the change log: segments, each holding the whole revisions first to last of one timeline as
// the records that etcd itself stores.
//
// It promises that a segment is read back exactly or refused, whatever happened to its bytes, and that reading takes memory
// bounded by one event, not by the segment. It does not talk to etcd (backup/changes/record does) and does not choose segments
// (backup/changes/cover does). The format is described in docs/FORMAT.md.
package changes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/repo"
)

// ErrDamaged means that a segment is not what a recorder wrote.
var ErrDamaged = errors.New("segment is damaged")

// ErrNewerFormat means that a newer program wrote the segment; nothing may be concluded from it.
var ErrNewerFormat = errors.New("written in a newer format than this program knows")

// Limits of the format. A writer refuses to exceed them, a reader to believe what does.
const (
	// MaxEvent is the longest event record: etcd's largest sensible --max-request-bytes, with room.
	MaxEvent = 64 << 20
	// MaxOther is the longest record of any other kind.
	MaxOther = 1 << 20
	// MaxLeases is the number of leases that one record may carry; more take several records.
	MaxLeases = 32768
)

// Kind is a record's first byte.
type Kind byte

// The kinds of records.
const (
	KindHeader Kind = 'H'
	KindEvent  Kind = 'E'
	KindTime   Kind = 'T'
	KindLeases Kind = 'L'
	KindProof  Kind = 'P'
	KindAuth   Kind = 'A'
	kindEnd    Kind = 'Z'
)

// Lengths of etcd's revision keys (etcd server/storage/mvcc/revision.go): main, '_', sub; a tombstone has a 't' behind.
const (
	KeyLen          = 17
	TombstoneKeyLen = 18
)

// Event is one record of etcd's `key` bucket.
type Event struct {
	Key    [TombstoneKeyLen]byte
	KeyLen int
	// Value is the KeyValue as etcd stores it: a tombstone's holds the key alone. It is valid until the next call.
	Value []byte
}

// Bytes is the record's key in the bucket.
func (e *Event) Bytes() []byte { return e.Key[:e.KeyLen] }

// Revision is the event's main revision and its position within it.
func (e *Event) Revision() (main, sub int64) {
	return int64(binary.BigEndian.Uint64(e.Key[:8])), int64(binary.BigEndian.Uint64(e.Key[9:17]))
}

// Tombstone says whether the event deletes its key.
func (e *Event) Tombstone() bool { return e.KeyLen == TombstoneKeyLen }

// SetRevision writes the record's key.
func (e *Event) SetRevision(main, sub int64, tombstone bool) {
	binary.BigEndian.PutUint64(e.Key[:8], uint64(main))
	e.Key[8] = '_'
	binary.BigEndian.PutUint64(e.Key[9:17], uint64(sub))
	e.KeyLen = KeyLen
	if tombstone {
		e.Key[17] = 't'
		e.KeyLen = TombstoneKeyLen
	}
}

// Header is a segment's first record. It repeats what the segment's name says; the two must agree.
type Header struct {
	ClusterID repo.ClusterID `json:"cluster_id"`
	Timeline  repo.Timeline  `json:"timeline"`
	// First and Last are the first and the last revision; every one between them is in the segment, whole.
	First repo.Revision `json:"first"`
	Last  repo.Revision `json:"last"`
	// Events is the number of event records.
	Events int64 `json:"events"`
	// EtcdVersion is the version of the member that was watched.
	EtcdVersion string `json:"etcd_version"`
	// Host and Steward are the host and the version of the program that recorded.
	Host    string    `json:"host"`
	Steward string    `json:"steward"`
	Created time.Time `json:"created"` // when the segment was closed
}

// Validate checks the header against itself.
func (h *Header) Validate() error {
	switch {
	case h.Timeline.Cut == 0 || h.Timeline.Cluster != h.ClusterID:
		return fmt.Errorf("header: cluster %s on timeline %s", h.ClusterID, h.Timeline)
	case h.First < 1 || h.Last < h.First:
		return fmt.Errorf("header: revisions %d to %d", h.First, h.Last)
	case h.Events < int64(h.Last-h.First)+1:
		return fmt.Errorf("header: %d events for revisions %d to %d", h.Events, h.First, h.Last)
	}
	return nil
}

// Matches says whether the header is that of the segment that a name describes.
func (h *Header) Matches(s repo.Segment) error {
	if h.Timeline != s.Timeline || h.First != s.First || h.Last != s.Last {
		return fmt.Errorf("%w: it is called revisions %d to %d of %s, its header says %d to %d of %s", ErrDamaged, s.First, s.Last, s.Timeline, h.First, h.Last, h.Timeline)
	}
	return nil
}

// TimeMark says that Revision, and no later one, had been seen at Time by the recorder's clock. Revision may be one below the
// segment's first: then nothing had changed since.
type TimeMark struct {
	Revision repo.Revision
	Time     time.Time
}

// Lease is one lease of the cluster.
type Lease struct {
	ID int64
	// Granted is its TTL in seconds, as granted.
	Granted int64
	// Remaining is how many seconds it had left when it was asked for; 0 means that it was not asked for.
	Remaining int64
}

// Leases are what was known of the cluster's leases at a revision and a time. Complete says that there were no others; without it
// they are additions to what was known before.
type Leases struct {
	Revision repo.Revision
	Time     time.Time
	Complete bool
	Leases   []Lease
}

// Proof is a member's own HashKV at Revision, with the compaction revision that it used. The revision lies in this segment or in
// one before it.
type Proof struct {
	Revision        repo.Revision
	CompactRevision repo.Revision
	Hash            uint32
	MemberID        uint64
	Time            time.Time
}

// Auth is an auth revision that was seen. What changed with it is not in the log: the next full snapshot has it.
type Auth struct {
	Revision repo.Revision // the key space's, when it was seen
	Auth     uint64
}

// Record is one record of a segment: Kind says which field is set.
type Record struct {
	Kind   Kind
	Event  Event
	Time   TimeMark
	Leases Leases
	Proof  Proof
	Auth   Auth
}
