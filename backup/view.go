package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/repo"
)

// ViewOptions say how a snapshot is opened for a look. Identities are needed for what is encrypted.
type ViewOptions struct {
	Repo       *repo.Repo
	Identities []age.Identity
	// Scratch is the folder in which the snapshot lies meanwhile.
	Scratch  string
	Progress Progress
	// Note is told what a person should know of what is read; nil tells nobody.
	Note func(string)
}

func (o *ViewOptions) tell(notes []string) {
	for _, n := range notes {
		if o.Note != nil {
			o.Note(n)
		}
	}
}

// View is a snapshot and segments behind it, opened to be looked at: nothing is restored. The snapshot lies decrypted in a file that has no name any
// more, so that whatever ends the process removes it.
type View struct {
	options ViewOptions
	file    *dbfile.File
}

// OpenView fetches a snapshot, every byte checked. The view must be closed.
func OpenView(ctx context.Context, m *repo.Manifest, o ViewOptions) (_ *View, err error) {
	if err := (&Located{Snapshot: m}).needIdentity(o.Identities); err != nil {
		return nil, err
	}
	s, err := newScratch(o.Scratch, m.ContentSize())
	if err != nil {
		return nil, err
	}
	defer s.remove() // the open file stays
	if err := decode(ctx, o.Repo, m, s, o.Identities, o.Progress.stage("fetch", m.Object.Size), false); err != nil {
		return nil, wanting(ctx, err)
	}
	if err := checkEnd(m, s.f); err != nil {
		return nil, wanting(ctx, fmt.Errorf("backup %s: %w", m.ID, err))
	}
	f, err := dbfile.Open(s.path())
	if err != nil {
		return nil, wanting(ctx, fmt.Errorf("backup %s: %w", m.ID, err))
	}
	return &View{options: o, file: f}, nil
}

// checkEnd compares etcd's hash behind a decoded snapshot with the manifest's: its blocks were checked one by one, and this says that
// they are those of the file that was proven.
func checkEnd(m *repo.Manifest, f *os.File) error {
	var sum repo.SHA256
	if _, err := f.ReadAt(sum[:], m.Database.Size); err != nil {
		return fmt.Errorf("read the scratch file: %w", err)
	}
	if sum != m.Database.SHA256 {
		return findingf("etcd's trailer says SHA-256 %s, the manifest %s", sum, m.Database.SHA256)
	}
	return nil
}

// Get gives the keys of a range as they were at a restore point that begins with the view's snapshot, in order of the keys. A KeyValue is
// valid until the next one. The iteration ends after an error.
func (v *View) Get(ctx context.Context, l *Located, r keys.Range) iter.Seq2[changes.KeyValue, error] {
	return func(yield func(changes.KeyValue, error) bool) {
		o := v.options
		err := l.needIdentity(o.Identities)
		told := len(l.Notes)
		if err == nil {
			err = l.Settle(ctx, o.Repo, o.Identities)
		}
		if err != nil {
			yield(changes.KeyValue{}, err)
			return
		}
		o.tell(l.Notes[told:])
		p := keys.Point{File: v.file, Segments: rebuild.FromRepo(o.Repo, l.Segments, o.Identities), Revision: l.Revision, Timeline: l.Timeline}
		for kv, err := range keys.Get(ctx, p, r) {
			if !yield(kv, wantingSegment(ctx, err)) {
				return
			}
		}
	}
}

// Close gives the disk back.
func (v *View) Close() error { return v.file.Close() }

// History gives the changes of a range of keys in a span, oldest first. What was given may be believed when the iteration has ended
// without an error. A Change is valid until the next one.
func History(ctx context.Context, s *Span, r keys.Range, o ViewOptions) iter.Seq2[keys.Change, error] {
	return func(yield func(keys.Change, error) bool) {
		err := s.history(ctx, r, o, yield)
		if err != nil && !errors.Is(err, errStopped) {
			yield(keys.Change{}, err)
		}
	}
}

// errStopped means that the iteration was ended from outside.
var errStopped = errors.New("stopped")

func (s *Span) history(ctx context.Context, r keys.Range, o ViewOptions, yield func(keys.Change, error) bool) (err error) {
	if err := needIdentity(s.Segments, len(o.Identities) > 0); err != nil {
		return err
	}
	if err := s.settle(ctx, o); err != nil {
		return err
	}
	h := keys.HistoryOptions{First: s.First, Last: s.Last, Timeline: s.Timeline, Segments: rebuild.FromRepo(o.Repo, s.Segments, o.Identities)}
	if s.Snapshot != nil {
		v, err := OpenView(ctx, s.Snapshot, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, v.Close()) }()
		h.File, h.FileTime = v.file, seenAt(s.Snapshot)
	}
	for c, err := range keys.History(ctx, h, r) {
		if err != nil {
			return wantingSegment(ctx, err)
		}
		if !yield(c, nil) {
			return errStopped
		}
	}
	return nil
}
