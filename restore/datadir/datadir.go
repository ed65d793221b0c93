// Package datadir finishes an etcd data directory around a db file that is already in its place: membership, the traps that a plain
// restore leaves, the revision bump, the write-ahead log and the raft snapshot. It promises what `etcdutl snapshot restore` of the same
// input gives, in one opening of the file instead of three or four, and is tested against it; where it differs, it says so in its Report. It
// also restores with stock etcdutl and boots the result (Boot), to prove that a backup needs none of this program. It does not fetch,
// check or move anything into place, and nothing that it wrote is durable before Sync.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"etcd-steward/backup/revision"
)

// MaxRevision is the highest revision that a bump may lead to: half of what etcd can count, so that no later restore runs out.
const MaxRevision revision.Revision = 1 << 62

// Config says what to build.
type Config struct {
	// Dir is the data directory under construction. DBPath(Dir) is there, without etcd's 32-byte trailer, its bytes checked.
	Dir string
	// WALDir is where the write-ahead log goes; empty for member/wal in Dir. It must not exist.
	WALDir string
	Bootstrap
	// Bump is added to the newest revision, and everything up to the result is marked as compacted, so that clients that watch from a
	// revision of the lost history are told to read again. 0 leaves the history exactly as it was.
	Bump int64
	// ServerVersion is the minor version ("3.6") of the etcd that will run on the directory, when it is older than the one that wrote the
	// file: what that one would refuse is then taken out. Empty: leave it.
	ServerVersion string
	// AllowKnownMembers lets a new member have the ID of one in the file. Otherwise it is ErrKnownMember.
	AllowKnownMembers bool
	// Step, when set, is called before each step with its name.
	Step func(name string)
}

// Report says what Build did.
type Report struct {
	Cluster *Cluster `json:"-"`
	// Revision and CompactRevision are the file's own, before the bump; NewRevision is after it.
	Revision        revision.Revision `json:"revision"`
	CompactRevision revision.Revision `json:"compact_revision"`
	NewRevision     revision.Revision `json:"new_revision"`
	AuthEnabled     bool              `json:"auth_enabled"`
	StorageVersion  string            `json:"storage_version,omitempty"`
	// Cleared are the traps that were taken out of the file, Kept what was left in it and needs a person; each one line.
	Cleared []string `json:"cleared,omitempty"`
	Kept    []string `json:"kept,omitempty"`
}

// Errors of Build that a caller branches on. With any of them the directory is of no use.
var (
	// ErrKnownMember means that a member of the new cluster has the ID of one in the file: the token and the URLs are those of the old
	// cluster, whose surviving members could join the restored one and diverge from it unnoticed.
	ErrKnownMember = errors.New("the new cluster would have a member of the old one")
	// ErrDamaged means that the file is no sound database.
	ErrDamaged = errors.New("the database is damaged")
	// ErrNewer means that the file was written by a newer etcd than this program knows.
	ErrNewer = errors.New("written by a newer etcd than this program knows")
	// ErrRevision means that the bump leads beyond MaxRevision.
	ErrRevision = errors.New("the bumped revision is out of range")
)

// DBPath is where the db file of a data directory is.
func DBPath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

// WALPath is where the write-ahead log of a data directory is, unless it was given a place of its own.
func WALPath(dir string) string { return filepath.Join(dir, "member", "wal") }

// Build finishes the directory. After an error the directory is of no use.
func Build(c Config) (Report, error) {
	cluster, err := c.Predict()
	if err != nil {
		return Report{}, err
	}
	if c.Bump < 0 {
		return Report{}, fmt.Errorf("%w: a bump of %d", ErrRevision, c.Bump)
	}
	r := Report{Cluster: cluster}
	c.step("edit")
	if err := edit(DBPath(c.Dir), func(tx *bbolt.Tx) error { return c.edit(tx, &r) }); err != nil {
		return r, err
	}
	c.step("log")
	walDir := c.WALDir
	if walDir == "" {
		walDir = WALPath(c.Dir)
	}
	if err := writeLog(cluster, walDir, filepath.Dir(DBPath(c.Dir))); err != nil {
		return r, fmt.Errorf("write the raft log of %s: %w", c.Dir, err)
	}
	return r, nil
}

func (c Config) step(name string) {
	if c.Step != nil {
		c.Step(name)
	}
}

// edit is everything that changes in the file, in one transaction.
func (c Config) edit(tx *bbolt.Tx, r *Report) error {
	if err := readFacts(tx, r); err != nil {
		return err
	}
	r.NewRevision = r.Revision
	if err := c.clearTraps(tx, r); err != nil {
		return err
	}
	if !c.AllowKnownMembers {
		if err := refuseKnown(tx, r.Cluster); err != nil {
			return err
		}
	}
	if err := replaceMembers(tx, r.Cluster); err != nil {
		return err
	}
	if c.Bump > 0 {
		if err := bump(tx, r, c.Bump); err != nil {
			return err
		}
	}
	return setConsistentIndex(tx, commitIndex(r.Cluster), firstTerm)
}

// bump puts an empty record at the new revision and schedules a compaction there, as etcdutl does; etcd runs it when it starts.
func bump(tx *bbolt.Tx, r *Report, by int64) error {
	if by > int64(MaxRevision-r.Revision) {
		return fmt.Errorf("%w: %d on top of revision %d", ErrRevision, by, r.Revision)
	}
	r.NewRevision = r.Revision + revision.Revision(by)
	at := mvcc.RevToBytes(mvcc.Revision{Main: int64(r.NewRevision)}, mvcc.NewRevBytes())
	return errors.Join(
		tx.Bucket(keyBucket).Put(at, []byte{}),
		tx.Bucket(metaBucket).Put(scheduledCompactKey, at),
	)
}

// Sync makes everything in a folder durable: files, and the names in it and below.
func Sync(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
	if err := errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
