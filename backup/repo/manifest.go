package repo

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Manifest describes one full snapshot. It is the commit mark of a backup: written after the data, and only after the
// data's bytes were hashed and opened. Everything in Database is read from those bytes, never from a call made before.
type Manifest struct {
	ID       SnapshotID `json:"id"`
	Cluster  string     `json:"cluster"`
	Timeline Timeline   `json:"timeline"`
	Database Database   `json:"database"`
	Source   Source     `json:"source"`
	Object   Object     `json:"object"`
	// MadeFrom says how the snapshot came to be when it was not streamed from a member but made offline; nil when it was streamed.
	MadeFrom *MadeFrom `json:"made_from,omitempty"`
	// RetainUntil is when the Object Lock that the writer asked for ends; zero without one.
	RetainUntil time.Time `json:"retain_until,omitzero"`
}

// Database is what the snapshot's bytes say about themselves.
type Database struct {
	// Revision is the newest revision in the file, CompactRevision the one below which history was compacted (0: never).
	Revision        Revision `json:"revision"`
	CompactRevision Revision `json:"compact_revision"`
	// Keys is the number of live keys at Revision.
	Keys int64 `json:"keys"`
	// HashKV is what etcd's own HashKV answers at (Revision, CompactRevision): a CRC-32C, proof against errors, not tampering.
	HashKV uint32 `json:"hash_kv"`
	// Leases is the number of leases.
	Leases int `json:"leases"`
	// AuthRevision is etcd's auth revision; AuthEnabled whether authentication is on.
	AuthRevision uint64 `json:"auth_revision"`
	AuthEnabled  bool   `json:"auth_enabled"`
	// Alarms that the file carries, as etcdctl names them (NOSPACE, CORRUPT).
	Alarms []string `json:"alarms,omitempty"`
	// StorageVersion is the schema version in the file; empty before etcd 3.6.
	StorageVersion string `json:"storage_version,omitempty"`
	// Size is the length of the db file in bytes, without etcd's 32-byte trailer; SHA256 is that trailer.
	Size   int64  `json:"size"`
	SHA256 SHA256 `json:"sha256"`
}

// Source is the member that the snapshot was streamed from, as it described itself just before. Of a snapshot that was made from another
// one it is that one's: users, roles, alarms and members in the file are as that member had them.
type Source struct {
	EtcdVersion string `json:"etcd_version"`
	MemberID    string `json:"member_id"`
	MemberName  string `json:"member_name,omitempty"`
	Leader      bool   `json:"leader,omitempty"`
	// Quorum says whether the cluster had one: a snapshot of a single survivor may lack its last writes, or hold some that were never acknowledged.
	Quorum    bool   `json:"quorum"`
	RaftTerm  uint64 `json:"raft_term"`
	RaftIndex uint64 `json:"raft_index"`
	// Host and Steward are the host and the version of the program that took it; Seconds is how long the stream took.
	Host    string  `json:"host"`
	Steward string  `json:"steward"`
	Seconds float64 `json:"seconds"`
}

// Object is the stored data object: age(zstd frames) of the snapshot with its trailer, or the frames alone.
type Object struct {
	// Key is relative to the repository.
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	SHA256 SHA256 `json:"sha256"`
	// Recipients are the age public keys that can read it; empty for an unencrypted object.
	Recipients []string `json:"recipients,omitempty"`
	// BlockSize is the length of content in every frame but the last; Blocks are the frames in order.
	BlockSize int64   `json:"block_size"`
	Blocks    []Block `json:"blocks"`
}

// Block is one zstd frame, before encryption.
type Block struct {
	Size   int64  `json:"size"`
	SHA256 SHA256 `json:"sha256"`
}

// Encrypted says whether the object is an age file.
func (o Object) Encrypted() bool { return len(o.Recipients) > 0 }

// SHA256 is a hash that prints as 64 hex digits.
type SHA256 [32]byte

// String is the hex form.
func (s SHA256) String() string { return hex.EncodeToString(s[:]) }

// MarshalText puts the hex form into JSON.
func (s SHA256) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses 64 lower-case hex digits.
func (s *SHA256) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("SHA-256 %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(s[:], b); err != nil || string(b) != s.String() {
		return fmt.Errorf("SHA-256 %.80q: want 64 lower-case hex digits", b)
	}
	return nil
}

// Validate checks the manifest against itself, when it is written and when it is read: IDs, sizes, the block table's sum.
// It does not look at the data.
func (m *Manifest) Validate() error {
	if _, err := ParseSnapshotID(string(m.ID)); err != nil {
		return err
	}
	if err := ValidateClusterName(m.Cluster); err != nil {
		return err
	}
	switch {
	case m.Timeline.Cut == 0:
		return fmt.Errorf("manifest %s: no timeline", m.ID)
	case m.Database.Revision < 1 || m.Database.CompactRevision < 0 || m.Database.CompactRevision > m.Database.Revision:
		return fmt.Errorf("manifest %s: revision %d with compaction at %d", m.ID, m.Database.Revision, m.Database.CompactRevision)
	case m.Database.Size <= 0 || m.Database.Size%512 != 0:
		return fmt.Errorf("manifest %s: a database of %d bytes", m.ID, m.Database.Size)
	case m.Object.Key != DataKey(m.Timeline, m.Database.Revision, m.ID, m.Object.Encrypted()):
		return fmt.Errorf("manifest %s: its data object is called %q", m.ID, m.Object.Key)
	}
	if m.MadeFrom != nil {
		if err := m.MadeFrom.validate(m.Database.Revision); err != nil {
			return fmt.Errorf("manifest %s: %w", m.ID, err)
		}
	}
	if err := m.Object.Validate(m.ContentSize()); err != nil {
		return fmt.Errorf("manifest %s: %w", m.ID, err)
	}
	return nil
}

// ContentSize is the length of what was sealed: the db file and etcd's trailer.
func (m *Manifest) ContentSize() int64 { return m.Database.Size + trailerSize }

// Validate checks an object's table of blocks against its sizes and those of its content. What passes makes no decoder hold more than a block of
// MaxBlockSize.
func (o Object) Validate(content int64) error {
	n := int64(len(o.Blocks))
	if o.BlockSize <= 0 || o.BlockSize > MaxBlockSize || n == 0 || content <= (n-1)*o.BlockSize || content > n*o.BlockSize {
		return fmt.Errorf("%d blocks of %d bytes for %d bytes of content", n, o.BlockSize, content)
	}
	var sum int64
	for i, b := range o.Blocks {
		if b.Size <= 0 || b.Size > o.BlockSize+o.BlockSize/8+1024 {
			return fmt.Errorf("block %d has %d bytes", i, b.Size)
		}
		sum += b.Size
	}
	if o.Size < sum || !o.Encrypted() && o.Size != sum {
		return fmt.Errorf("blocks of %d bytes in an object of %d", sum, o.Size)
	}
	return nil
}

// trailerSize is etcd's SHA-256 behind the db file in a snapshot stream.
const trailerSize = 32

// MaxBlockSize bounds what a decoder has to hold for one block, whatever a manifest says.
const MaxBlockSize = 16 << 20
