package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
)

// MaterialiseOptions say where a point's db file goes. Only Path is required, and Identities for what is encrypted.
type MaterialiseOptions struct {
	// Path is the file to make. It must not exist.
	Path       string
	Identities []age.Identity
	// NoProof leaves out the comparison with the newest HashKV that a member gave: some 0.4 s per GB.
	NoProof bool
	// Progress has two stages, "fetch" and "rebuild", both in stored bytes.
	Progress Progress
}

// Rebuilt is what a person is told of a rebuild.
type Rebuilt struct {
	// Events is how many records of the change log were applied, Removed how many of the snapshot were taken back.
	Events  int64 `json:"events"`
	Removed int64 `json:"removed"`
	// Leases is the number of leases. Of Assumed of them nothing is known but that keys were attached to them: they have the TTL that rebuild assumes.
	Leases  int `json:"leases"`
	Assumed int `json:"leases_assumed"`
	// ProvenAt is the newest revision whose HashKV a member gave and the file was found to have; 0 when the log holds none.
	ProvenAt repo.Revision `json:"proven_at,omitempty"`
	// SeenBy is when a recorder had seen the revision, as far as the log says.
	SeenBy time.Time `json:"seen_by,omitzero"`
}

// RebuiltFrom sums a rebuild up.
func RebuiltFrom(r *rebuild.Result) *Rebuilt {
	out := &Rebuilt{Events: r.Applied, Removed: r.Removed, Leases: r.Leases, Assumed: len(r.Assumed), SeenBy: r.When.By}
	if r.Proof != nil {
		out.ProvenAt = r.Proof.Revision
	}
	return out
}

// Materialise writes the db file of the point: fetched, decrypted, every byte checked, brought to the revision, and durable with its name. There is no
// SHA-256 behind it. After an error, the file is removed. Segments that are damaged, missing, or contradict each other are fail.Wanting.
func (l *Located) Materialise(ctx context.Context, r *repo.Repo, o MaterialiseOptions) (res *rebuild.Result, err error) {
	if err := l.needIdentity(o.Identities); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("materialise revision %d: %w", l.Revision, err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(o.Path)
		}
	}()
	m := l.Snapshot
	s := &scratch{f: f}
	if err := decode(ctx, r, m, s, o.Identities, o.Progress.stage("fetch", m.Object.Size), false); err != nil {
		return nil, wanting(ctx, err)
	}
	// Every block's own hash was checked; that etcd's stands behind them says that they are those of the file that was proven.
	var sum repo.SHA256
	if _, err := f.ReadAt(sum[:], m.Database.Size); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Path, err)
	}
	if sum != m.Database.SHA256 {
		return nil, wanting(ctx, findingf("backup %s ends with SHA-256 %s, its manifest says %s", m.ID, sum, m.Database.SHA256))
	}
	if err := f.Truncate(m.Database.Size); err != nil {
		return nil, fmt.Errorf("cut %s: %w", o.Path, err)
	}
	if res, err = l.Forward(ctx, r, o); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), atomicfile.SyncDir(filepath.Dir(o.Path))); err != nil {
		return nil, fmt.Errorf("sync %s: %w", o.Path, err)
	}
	return res, nil
}

// Forward brings the db file of l.Snapshot, which is at o.Path, to the point's revision, and syncs it when it has changed anything. After an error the file is of no use.
// A segment that cannot be read is passed over where others hold its revisions, which l.Notes and l.Segments say afterwards.
func (l *Located) Forward(ctx context.Context, r *repo.Repo, o MaterialiseOptions) (*rebuild.Result, error) {
	base := l.Snapshot.Database
	if !l.Rebuilt() {
		res := &rebuild.Result{Revision: base.Revision, CompactRevision: base.CompactRevision, Snapshot: base.Revision, Leases: base.Leases}
		res.When.By = l.At
		return res, nil
	}
	if err := l.Settle(ctx, r, o.Identities); err != nil {
		return nil, l.which(ctx, r, o, err)
	}
	total := max(segmentBytes(l.Segments), 1)
	o.Progress.report("rebuild", 0, total)
	segs, stop := rebuild.Ahead(ctx, r, append(l.Segments[:len(l.Segments):len(l.Segments)], l.Behind...), o.Identities)
	defer stop()
	res, err := rebuild.To(ctx, rebuild.Options{
		Path: o.Path, Target: l.Revision, Timeline: l.Timeline, NoProof: o.NoProof, Segments: segs,
		Progress: func(_ int64, at repo.Revision) { o.Progress.report("rebuild", min(l.read(at), total-1), total) },
	})
	if errors.Is(err, syscall.ENOSPC) {
		return nil, fail.Hint(err, "the change log makes the database larger: make room in "+filepath.Dir(o.Path)+", or name another place")
	}
	if err != nil {
		return nil, l.around(wantingSegment(ctx, err))
	}
	o.Progress.report("rebuild", total, total)
	return &res, nil
}

// growthFactor is what segments take in a db file for every byte in the store: zstd makes JSON and protobuf of Kubernetes three to five times smaller, and pages are not full.
const growthFactor = 6

// Growth is by how much the snapshot's db file grows on the way to the point: at least, and likely at most. Free pages in the file make it less.
func (l *Located) Growth() (least, likely int64) {
	n := segmentBytes(l.Segments)
	return n, growthFactor * n
}

// read is about how many bytes of the segments have been applied at a revision.
func (l *Located) read(at repo.Revision) (n int64) {
	for _, s := range l.Segments {
		switch {
		case at >= s.Last:
			n += s.Size
		case at >= s.First:
			n += s.Size * int64(at-s.First+1) / int64(s.Last-s.First+1)
		}
	}
	return n
}

// needIdentity refuses before anything is made when something is encrypted and nothing opens it.
func (l *Located) needIdentity(ids []age.Identity) error {
	if m := l.Snapshot; m.Object.Encrypted() && len(ids) == 0 {
		return fail.New(fail.Usage, fmt.Errorf("backup %s is encrypted to %s, and no identity was given", m.ID, strings.Join(m.Object.Recipients, ", ")),
			"give the file with the private key: --identity FILE")
	}
	return needIdentity(l.Segments, len(ids) > 0)
}
