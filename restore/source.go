package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"etcd-steward/backup"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// lookAtSource finds what is to be restored, and says of it what is known before its bytes are read.
func (p *Plan) lookAtSource(ctx context.Context) (subject, error) {
	if p.options.File != "" {
		return p.lookAtFile()
	}
	r := p.options.Repo
	c, err := r.Catalog(ctx)
	if err != nil {
		return subject{}, err
	}
	l, err := backup.Locate(ctx, r, p.options.Point, backup.LocateOptions{Catalog: c, Identities: p.options.Identities})
	if err != nil {
		return subject{}, err
	}
	m := l.Snapshot
	if err := refuseNewer(m.Source.EtcdVersion); err != nil {
		return subject{}, err
	}
	if err := p.tryIdentities(ctx, m); err != nil {
		return subject{}, p.damaged(ctx, l, err)
	}
	if err := p.trySegments(ctx, l); err != nil {
		return subject{}, err
	}
	if p.history, err = readHistory(ctx, r, c); err != nil {
		return subject{}, wanting(err, "restore from a copy of the repository, or from a file that `steward backup export` writes (--from-file)")
	}
	p.manifest, p.point = m, l
	resolved := l.Resolved()
	p.OldClusterID = m.Timeline.Cluster
	p.Source = Source{
		ID: m.ID, Timeline: m.Timeline, Taken: m.ID.Time(), Where: r.Store().String(), EtcdVersion: m.Source.EtcdVersion,
		Keys: m.Database.Keys, Size: m.Database.Size, Stored: l.Stored(), Encrypted: m.Object.Encrypted(), Point: &resolved,
	}
	if l.Rebuilt() {
		p.Source.Keys = 0 // what the manifest says is the snapshot's
	}
	p.Notes = append(p.Notes, p.history.notes...)
	p.noteManifest(m)
	p.notePoint(l)
	p.noteVerification(ctx, m.ID)
	return subject{id: m.ID, sum: pointSum(l), revision: l.Revision}, nil
}

// lookAtFile reads the ends of a file. A plain database tells its revision and its hash; what is compressed does not.
func (p *Plan) lookAtFile() (s subject, err error) {
	path := p.options.File
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return s, err
	}
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return s, fileProblem(fmt.Errorf("read %s: %w", path, err))
	}
	k := sniff(head[:n])
	p.Source = Source{Where: path, Taken: st.ModTime().UTC(), Stored: st.Size(), Encrypted: k == kindAge || k == kindArmored}
	p.Notes = append(p.Notes, "a file tells nothing of its cluster's ID and later revisions: make sure that no old member can start, and give a larger --bump-revision if its cluster ran on for long")
	if k != kindDatabase {
		return s, p.tryFile(f)
	}
	p.Source.Size = st.Size()
	if st.Size()%sectorSize == trailerSize {
		p.Source.Size -= trailerSize
		sum := repo.SHA256{}
		if _, err := f.ReadAt(sum[:], p.Source.Size); err != nil {
			return s, fmt.Errorf("read %s: %w", path, err)
		}
		s.sum = &sum
	}
	db, err := dbfile.Open(path)
	if err != nil {
		return s, fileProblem(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if s.revision, _, err = db.Revisions(); err != nil {
		return s, fileProblem(fmt.Errorf("read %s: %w", path, err))
	}
	return s, nil
}

// refuseNewer refuses a snapshot of an etcd newer than this program knows, before anything is fetched.
func refuseNewer(version string) error {
	newer, err := datadir.Newer(version)
	if err != nil || !newer {
		return err
	}
	return fail.Refused(fmt.Errorf("the backup was taken from etcd %s: %w (%s)", version, datadir.ErrNewer, datadir.Known()), "use a newer etcd-steward, or that etcd's own etcdutl (`steward backup export`)")
}
