// Package rebuild brings the db file of a full snapshot to another revision with the change log, exactly: what etcd's HashKV covers
// is afterwards what the cluster had at that revision, byte for byte, and the leases that keys are attached to exist.
//
// It checks that the log continues the snapshot without a hole and agrees with it where both hold the same revisions, and that the
// result has the hash that a member gave, where one is recorded. It does not choose the snapshot and the segments
// (backup/changes/cover does), does not change authentication, alarms or members, which are the snapshot's, and makes no data
// directory (restore does). After an error, the file that it worked on is to be thrown away.
//
// Memory does not grow with the file, the log, a segment or a transaction: it is below 100 MB, or some fifteen times the largest
// event where that is more (etcd's own limit for one is 1.5 MiB).
package rebuild

import (
	"context"
	"errors"
	"fmt"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// Errors that callers tell apart.
var (
	// ErrMissing means that the snapshot and the segments do not reach the target without a hole.
	ErrMissing = errors.New("revisions are missing")
	// ErrContradiction means that a segment and the snapshot, or two segments, hold different changes for the same revision, or that
	// a segment is of another timeline. One of them is not what it claims to be.
	ErrContradiction = errors.New("the change log contradicts itself")
	// ErrNotProven means that the result does not have the hash that a member of the cluster gave.
	ErrNotProven = errors.New("the rebuilt file does not have the recorded hash")
)

// SegmentError names the segment and the revision at which a rebuild failed.
type SegmentError struct {
	Segment  string
	Revision revision.Revision // the one being read; those below it were good
	Err      error
}

// Error says where and what.
func (e *SegmentError) Error() string {
	return fmt.Sprintf("segment %s, revision %d: %v", e.Segment, e.Revision, e.Err)
}

// Unwrap gives the cause.
func (e *SegmentError) Unwrap() error { return e.Err }

// Options describe a rebuild. Only Path and Target are required.
type Options struct {
	// Path is the db file of a full snapshot, with or without its trailer. It is changed in place.
	Path string
	// Target is the revision that it is brought to: whole, as a transaction cannot be cut.
	Target revision.Revision
	// Timeline is what every segment must be of; the zero value does not check.
	Timeline repo.Timeline
	// Segments are the cover, in order of their first revision. They may overlap each other and the snapshot. Those behind the target
	// are not needed; the first two of them are read for what they say of leases that nothing else tells of.
	Segments []Segment
	// ReadAhead is how many segments are fetched and decoded while one is applied; 0 means 2. Each takes some 20 MiB.
	ReadAhead int
	// NoProof leaves the last step out: computing the file's hash for the newest recorded proof, about 0.4 s per GB.
	NoProof bool
	// Progress is called now and then with the number of events applied and the revision reached.
	Progress func(events int64, r revision.Revision)
	// Edit tunes how the file is written.
	Edit dbfile.EditOptions
}

// Result says what a rebuild did.
type Result struct {
	// Revision is the target. CompactRevision is the snapshot's: the file holds history from there on.
	Revision        revision.Revision
	CompactRevision revision.Revision
	// Snapshot is the revision that the file had before.
	Snapshot revision.Revision
	// Applied and Removed count records written, and records above the target deleted.
	Applied, Removed int64
	// When says what is known of the time of the target.
	When Time
	// Leases is the number of leases in the file. Assumed are those among them of which nothing is known but that keys were attached to
	// them: they have the TTL AssumedTTL.
	Leases  int
	Assumed []int64
	// Proof is the recorded hash that the file was found to have; nil when the log holds none for it, or NoProof was asked for.
	Proof *changes.Proof
	// Proofs are the newest recorded hashes that can be compared with the file, in order of their revisions, at most 1024.
	Proofs []changes.Proof
}

// To rebuilds. It reads every segment to its end, since only that says that the segment is undamaged.
func To(ctx context.Context, o Options) (res Result, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rebuild revision %d: %w", o.Target, err)
		}
	}()
	edit, err := dbfile.OpenEdit(ctx, o.Path, o.Edit)
	if err != nil {
		return res, err
	}
	defer edit.Abort()
	a := applier{edit: edit, opts: o}
	if err := a.begin(ctx); err != nil {
		return res, err
	}
	if err := a.segments(ctx); err != nil {
		return res, err
	}
	if err := a.end(ctx); err != nil {
		return res, err
	}
	if err := edit.Finish(); err != nil {
		return res, err
	}
	if n := len(a.res.Proofs); n > 0 && !o.NoProof {
		a.res.Proof = &a.res.Proofs[n-1]
		if err := Prove(ctx, o.Path, a.res.Proofs[n-1:]); err != nil {
			return res, err
		}
	}
	return a.res, nil
}

// Prove compares the file's hashes with recorded ones and names the first that differs. It only reads.
func Prove(ctx context.Context, path string, proofs []changes.Proof) (err error) {
	f, err := dbfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range proofs {
		got, err := f.HashKV(ctx, p.Revision, p.CompactRevision)
		if err != nil {
			return err
		}
		if got != p.Hash {
			return fmt.Errorf("%w: at revision %d with compaction at %d it is %08x, member %x gave %08x", ErrNotProven, p.Revision, p.CompactRevision, got, p.MemberID, p.Hash)
		}
	}
	return nil
}
