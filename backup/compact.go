package backup

import (
	"context"
	"fmt"
	"os"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// CompactOptions say which restore point becomes a full snapshot.
type CompactOptions struct {
	Repo *repo.Repo
	// Point is what the new snapshot is of; zero: the newest that can be reached.
	Point Point
	// Identities open the older snapshot and the segments; Recipients can read the new snapshot. Unencrypted must be set when there are none
	// of the latter, and only then.
	Identities  []age.Identity
	Recipients  []age.Recipient
	Unencrypted bool
	// Scratch is the folder in which it is made: room for two databases, in the clear while it works.
	Scratch string
	// DryRun says what would be done, and downloads no data.
	DryRun bool
	// Host and Program name the machine and the build in the manifest.
	Host, Program string
	Progress      Progress
	// Now is time.Now, or a test's.
	Now func() time.Time
}

// Compacted is the outcome of a compaction.
type Compacted struct {
	// Nothing is why there was nothing to do; empty when there was.
	Nothing  string        `json:"nothing,omitempty"`
	Timeline repo.Timeline `json:"timeline"`
	Revision repo.Revision `json:"revision"`
	// From is the snapshot to begin with, FromRevision its revision; Segments and Stored say what is read beside it, and how many bytes in all.
	From         repo.SnapshotID `json:"from"`
	FromRevision repo.Revision   `json:"from_revision"`
	Segments     int             `json:"segments"`
	Stored       int64           `json:"stored_bytes"`
	// Notes are what a person should know of the result.
	Notes []string `json:"notes,omitempty"`
	// Backup is the new one; nil after a dry run, and when there was nothing to do.
	Backup *repo.Manifest `json:"backup,omitempty"`
}

// Compact makes a full snapshot out of an older one and the change log, without etcd, and stores it: data first, manifest last, nothing
// replaced. Before the manifest is written the new file was opened and walked, its HashKV was computed from its bytes before and after
// etcd's own compaction was repeated on it, and compared with the newest HashKV that a member gave for it, if one was recorded
// (MadeFrom.Proof). It restores as any other does. Its users, roles, alarms and members are the older snapshot's.
//
// It removes nothing. With no change behind the newest snapshot there is nothing to do, which is no error; a point that is a snapshot
// already is refused (fail.Unsafe). What is damaged or missing is fail.Wanting, and leaves no manifest. The scratch folder is empty
// afterwards; data that was uploaded before an error counts as unfinished until prune removes it.
func Compact(ctx context.Context, o CompactOptions) (*Compacted, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := decided(o.Recipients, o.Unencrypted); err != nil {
		return nil, err
	}
	begun := o.Now()
	l, err := Locate(ctx, o.Repo, o.Point, LocateOptions{Identities: o.Identities, Now: begun})
	if err != nil {
		return nil, err
	}
	base := l.Snapshot
	out := &Compacted{
		Timeline: l.Timeline, Revision: l.Revision, From: base.ID, FromRevision: base.Database.Revision, Segments: len(l.Segments), Stored: l.Stored(),
	}
	switch asked := o.Point.ID != "" || o.Point.Revision != 0 || !o.Point.Time.IsZero(); {
	case !l.Rebuilt() && asked:
		return nil, fail.Refused(fmt.Errorf("backup %s is of revision %d already", base.ID, l.Revision), "steward backup show "+string(base.ID))
	case !l.Rebuilt():
		out.Nothing = fmt.Sprintf("no change was recorded after revision %d, which backup %s is of", l.Revision, base.ID)
		return out, nil
	}
	recorded, _, err := o.Repo.Recorded(ctx, l.Timeline)
	if err != nil {
		return nil, err
	}
	out.Notes = notesOn(base, recorded)
	if l.Current != (repo.Timeline{}) {
		out.Notes = append(out.Notes, fmt.Sprintf("the new snapshot is of timeline %s, not of the current %s", l.Timeline, l.Current))
	}
	if err := l.needIdentity(o.Identities); err != nil || o.DryRun {
		out.Notes = append(out.Notes, l.Notes...)
		return out, err
	}
	c := compaction{CompactOptions: o, located: l, recorded: recorded, begun: begun}
	out.Backup, err = c.run(ctx)
	if err != nil {
		return nil, err
	}
	out.Segments, out.Stored, out.Notes = len(l.Segments), l.Stored(), append(out.Notes, l.Notes...)
	return out, nil
}

// notesOn says what a snapshot that is made from another one does not have.
func notesOn(base *repo.Manifest, rec repo.Recorded) []string {
	notes := []string{fmt.Sprintf("users, roles, alarms and members are those of backup %s: a change log carries none of them", base.ID)}
	if rec.AuthRevision > base.Database.AuthRevision {
		notes = append(notes, "users, roles or rights were changed since, and the new snapshot has the old ones: take one from etcd as well (steward backup create)")
	}
	return notes
}

// compaction is one that is under way.
type compaction struct {
	CompactOptions
	located  *Located
	recorded repo.Recorded
	begun    time.Time
}

// run makes the snapshot in a scratch folder, which it removes, and stores it.
func (c *compaction) run(ctx context.Context) (*repo.Manifest, error) {
	_, growth := c.located.Growth()
	s, err := newScratch(c.Scratch, 2*c.located.Snapshot.ContentSize()+growth)
	if err != nil {
		return nil, err
	}
	defer s.remove()
	rebuilt, path := s.beside("rebuilt"), s.beside("full")
	res, err := c.located.Materialise(ctx, c.Repo, MaterialiseOptions{Path: rebuilt, Identities: c.Identities, Progress: c.Progress, NoProof: true})
	if err != nil {
		return nil, err
	}
	full, err := rebuild.Compact(ctx, rebuilt, path, 0, *res)
	if err != nil {
		return nil, wantingSegment(ctx, err)
	}
	if err := os.Remove(rebuilt); err != nil { // it makes room for the sealed object
		return nil, fmt.Errorf("remove the scratch file: %w", err)
	}
	sealed, err := seal(ctx, path, s.f, full, c.Recipients, c.Progress)
	if err != nil {
		return nil, err
	}
	m := c.manifest(res, full)
	m.Object = sealed.Object(repo.DataKey(m.Timeline, m.Database.Revision, m.ID, len(sealed.Recipients) > 0))
	src := store.Source{Reader: &meter{f: s.f, total: m.Object.Size, progress: c.Progress}, Size: m.Object.Size, SHA256: m.Object.SHA256}
	if err := c.Repo.PutData(ctx, m, src); err != nil {
		return nil, err
	}
	m.MadeFrom.Seconds = c.Now().Sub(c.begun).Seconds()
	if err := c.Repo.PutManifest(ctx, m); err != nil {
		return nil, err
	}
	return m, nil
}

// manifest is all of it but the object.
func (c *compaction) manifest(res *rebuild.Result, full rebuild.Full) *repo.Manifest {
	base := c.located.Snapshot
	m := &repo.Manifest{
		ID: repo.NewSnapshotID(c.moment(res)), Cluster: c.Repo.Cluster(), Timeline: c.located.Timeline,
		Database: database(full.Info, full.SHA256), Source: base.Source,
		MadeFrom: &repo.MadeFrom{
			Snapshot: base.ID, Revision: base.Database.Revision, Segments: len(c.located.Segments), AssumedLeases: len(res.Assumed),
			Made: c.begun.UTC().Truncate(time.Millisecond), Host: c.Host, Steward: c.Program,
		},
	}
	m.Source.Seconds = 0 // the ID's time is not that at which a stream began
	if len(c.located.Segments) > 0 {
		m.MadeFrom.First, m.MadeFrom.Last = base.Database.Revision+1, res.Revision
	}
	if p := full.Proof; p != nil {
		m.MadeFrom.Proof = &repo.MemberProof{
			Revision: p.Revision, CompactRevision: p.CompactRevision, HashKV: p.Hash, MemberID: fmt.Sprintf("%016x", p.MemberID), Time: p.Time.UTC(),
		}
	}
	return m
}

// moment is the time of the content: the latest at which the revision is known to have been the newest, else that by which it had been seen. Retention and
// ages go by it, as by the time at which a stream began.
func (c *compaction) moment(res *rebuild.Result) time.Time {
	at := c.located.At
	if at.IsZero() && c.recorded.Through == res.Revision {
		at = c.recorded.Time
	}
	if at.IsZero() {
		at = res.When.By
	}
	if n := len(c.located.Segments); at.IsZero() && n > 0 {
		at = c.located.Segments[n-1].ID.Time()
	}
	if at.IsZero() {
		at = c.located.Snapshot.ID.Time()
	}
	if at.After(c.begun) {
		at = c.begun
	}
	return at
}
