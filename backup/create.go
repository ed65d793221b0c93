package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// CreateOptions say from which cluster a backup is taken, into which repository, and encrypted to whom.
type CreateOptions struct {
	Repo    *repo.Repo
	Cluster snapshot.Cluster
	// Spool is where the snapshot lies until it is uploaded and proven, and to whom it is encrypted. Its Progress is set by Create.
	Spool snapshot.SpoolOptions
	// Unencrypted must be set when Spool has no recipients, and only then: leaving them out by mistake writes nothing.
	Unencrypted bool
	// Adopt makes a cluster whose ID is not known here one of this repository: a person says that it was restored from it.
	Adopt bool
	// Host and Program name the machine and the build in the manifest.
	Host, Program string
	Progress      Progress
	// Chosen is told which member the snapshot comes from, before the stream begins.
	Chosen func(snapshot.Member)
	// Now is time.Now, or a test's.
	Now func() time.Time
}

// Create takes one full snapshot and stores it. The manifest that it returns is in the repository: its bytes were hashed while they
// came, opened, and walked. On an error there is no manifest; a data object that was already uploaded stays, since a writer may not be
// allowed to delete, and counts as unfinished until prune removes it. The spool is empty either way.
//
// A cluster that is not this repository's is refused (fail.Unsafe) before anything is streamed.
func Create(ctx context.Context, o CreateOptions) (*repo.Manifest, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := decided(o.Spool.Recipients, o.Unencrypted); err != nil {
		return nil, err
	}
	member, past, err := o.before(ctx)
	if err != nil {
		return nil, err
	}
	begun := o.Now()
	spool := o.Spool
	spool.Progress = func(done, total int64) { o.Progress.report("snapshot", done, total) }
	s, err := snapshot.Stream(ctx, o.Cluster, member, spool)
	if err != nil {
		return nil, err
	}
	m := o.draft(s, member, past, begun)
	err = o.publish(ctx, s, m)
	if closed := s.Close(); err != nil {
		return nil, errors.Join(err, closing("remove the spool", closed))
	}
	// The backup is there, whatever became of files that have no name any more.
	return m, nil
}

// closing wraps an error of a clean-up; nil stays nil.
func closing(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// decided makes sure that somebody decided on encryption.
func decided(recipients []age.Recipient, unencrypted bool) error {
	switch n := len(recipients); {
	case n == 0 && !unencrypted:
		return fail.Refused(errors.New("nobody is named to whom the backup is encrypted, so nothing is written"),
			"give --recipient age1..., encryption.recipients in the config, or --no-encryption")
	case n > 0 && unencrypted:
		return fail.New(fail.Usage, errors.New("there are recipients, and yet no encryption is asked for"), "give one or the other")
	}
	return nil
}

// history is what the repository held before the stream began, which decides the timeline: a backup that another daemon publishes
// while this one streams may well be newer, and is no sign of a history that was cut.
type history struct {
	catalog *repo.Catalog
	last    *repo.Manifest // of the newest backup of the cluster ID; nil when there is none, or when it may not be read
}

// before chooses the member, makes sure that its cluster belongs here, and reads the history.
func (o *CreateOptions) before(ctx context.Context) (snapshot.Member, history, error) {
	var member snapshot.Member
	var past history
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if member, _, err = snapshot.Choose(gctx, o.Cluster); err != nil {
			return err
		}
		if o.Adopt {
			return o.Repo.Adopt(gctx, member.ClusterID, o.Host, o.Now())
		}
		return o.Repo.Admit(gctx, member.ClusterID, o.Now())
	})
	g.Go(func() (err error) {
		past.catalog, err = o.Repo.Catalog(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return member, past, err
	}
	if o.Chosen != nil {
		o.Chosen(member)
	}
	if e, ok := past.catalog.NewestOf(member.ClusterID); ok {
		m, err := o.Repo.Manifest(ctx, e)
		if _, about := aboutObject(ctx, err); err != nil && !about && !errors.Is(err, store.Denied) {
			return member, past, err
		}
		// What may not be read, and what is damaged, says nothing: then the name of the object decides.
		past.last = m
	}
	return member, past, nil
}

// publish uploads what was streamed while it is proven, and writes the manifest.
func (o *CreateOptions) publish(ctx context.Context, s *snapshot.Spool, m *repo.Manifest) error {
	var info dbfile.Info
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		src := store.Source{Reader: &meter{f: s.Object(), total: m.Object.Size, progress: o.Progress}, Size: m.Object.Size, SHA256: m.Object.SHA256}
		return o.Repo.PutData(gctx, m, src)
	})
	g.Go(func() error {
		var err error
		info, err = s.Prove(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if info.Revision != s.Revision || info.CompactRevision != s.CompactRevision || info.Size != s.Size {
		return fmt.Errorf("prove backup %s: the walk found revision %d, compaction %d and %d bytes, the stream %d, %d and %d",
			m.ID, info.Revision, info.CompactRevision, info.Size, s.Revision, s.CompactRevision, s.Size)
	}
	m.Database = database(info, s.SHA256)
	return o.Repo.PutManifest(ctx, m)
}

// draft is the manifest with all that is known before the walk.
func (o *CreateOptions) draft(s *snapshot.Spool, member snapshot.Member, past history, begun time.Time) *repo.Manifest {
	m := &repo.Manifest{
		ID: repo.NewSnapshotID(begun), Cluster: o.Repo.Cluster(),
		Timeline: repo.NextTimeline(past.catalog, past.last, member.ClusterID, s.Revision, member.RaftTerm, member.Quorum),
		Database: repo.Database{Revision: s.Revision, CompactRevision: s.CompactRevision, Size: s.Size, SHA256: s.SHA256},
		Source: repo.Source{
			EtcdVersion: s.EtcdVersion, MemberID: fmt.Sprintf("%016x", member.ID), MemberName: member.Name, Leader: member.Leader,
			Quorum: member.Quorum, RaftTerm: member.RaftTerm, RaftIndex: member.RaftIndex,
			Host: o.Host, Steward: o.Program, Seconds: s.Seconds,
		},
	}
	m.Object = s.Sealed.Object(repo.DataKey(m.Timeline, s.Revision, m.ID, len(s.Sealed.Recipients) > 0))
	return m
}

// database is what a walk and the trailer say, as a manifest has it.
func database(i dbfile.Info, sum repo.SHA256) repo.Database {
	return repo.Database{
		Revision: i.Revision, CompactRevision: i.CompactRevision, Keys: i.Keys, HashKV: i.HashKV, Leases: i.Leases,
		AuthRevision: i.AuthRevision, AuthEnabled: i.AuthEnabled, Alarms: i.Alarms, StorageVersion: i.StorageVersion,
		Size: i.Size, SHA256: sum,
	}
}

// meter counts what an upload reads of a file.
type meter struct {
	f        *os.File
	at       int64
	total    int64
	progress Progress
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.f.ReadAt(p, m.at)
	m.at += int64(n)
	m.progress.report("upload", m.at, m.total)
	return n, err
}

// Seek lets a failed attempt begin again.
func (m *meter) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += m.at
	case io.SeekEnd:
		offset += m.total
	}
	if offset < 0 {
		return m.at, errors.New("seek before the start")
	}
	m.at = offset
	return offset, nil
}
