package backup

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
)

// ListOptions say what to list.
type ListOptions struct {
	Repo *repo.Repo
	// Last is how many of the newest backups are shown in full; 0 means all.
	Last int
}

// Listing is what a repository holds, the newest backup first.
type Listing struct {
	Store     string `json:"store"`
	Cluster   string `json:"cluster"`
	ClusterID string `json:"cluster_id,omitempty"` // of the cluster that was backed up here first; empty: there is no repository yet
	Backups   []Row  `json:"backups"`
	// AnyMoment is what the change log adds.
	AnyMoment *AnyMoment `json:"any_moment"`
	// Older is how many further backups there are.
	Older int `json:"older"`
	// Timelines is how many timelines the backups belong to, those not shown included.
	Timelines int `json:"timelines"`
	// Unfinished are uploads without a manifest: no backups. Missing are manifests without data: lost backups.
	Unfinished []Loose `json:"unfinished,omitempty"`
	Missing    []Loose `json:"missing_data,omitempty"`
	// Strange are objects that nothing of this format has made.
	Strange []string `json:"strange,omitempty"`
	Objects int      `json:"objects"`
	Bytes   int64    `json:"bytes"`
}

// Row is one backup.
type Row struct {
	ID          repo.SnapshotID `json:"id"`
	Time        time.Time       `json:"time"` // when its stream began
	Timeline    repo.Timeline   `json:"timeline"`
	Revision    repo.Revision   `json:"revision"`
	Size        int64           `json:"database_bytes,omitempty"`
	Stored      int64           `json:"stored_bytes"`
	Keys        int64           `json:"keys,omitempty"`
	EtcdVersion string          `json:"etcd_version,omitempty"`
	Encrypted   bool            `json:"encrypted"`
	// MadeFrom is the snapshot that it was made from, with the change log; empty for one that was streamed from etcd.
	MadeFrom repo.SnapshotID `json:"made_from,omitempty"`
	// NoQuorum says that the snapshot is of a member that had none: it may lack the last writes.
	NoQuorum bool `json:"no_quorum,omitempty"`
	// Verified is the last verification; nil when there was none.
	Verified    *repo.Verification `json:"verified,omitempty"`
	LockedUntil time.Time          `json:"locked_until,omitzero"`
	// compact is how far back the snapshot's own history reaches; cover.Unknown when its manifest could not be read.
	compact repo.Revision
	// Problem is why this is no good backup; empty when nothing is known against it.
	Problem string `json:"problem,omitempty"`
}

// Good says whether nothing is known against the backup.
func (r Row) Good() bool { return r.Problem == "" }

// Loose is an object that lacks its other half.
type Loose struct {
	ID       repo.SnapshotID `json:"id"`
	Time     time.Time       `json:"time"`
	Timeline repo.Timeline   `json:"timeline"`
	Revision repo.Revision   `json:"revision"`
	Key      string          `json:"key"`
	Size     int64           `json:"bytes"`
}

// List shows what can be restored. It costs one listing, one or two small reads for every row, and one for every timeline with a change log.
// A backup whose manifest cannot be read is a row with a Problem; only a store that does not answer is an error.
func List(ctx context.Context, o ListOptions) (*Listing, error) {
	c, err := o.Repo.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	l := &Listing{
		Store: o.Repo.Store().String(), Cluster: o.Repo.Cluster(), Backups: []Row{},
		Unfinished: loose(c.Unfinished()), Missing: loose(c.MissingData()), Strange: c.Strange, Objects: c.Objects, Bytes: c.Bytes,
	}
	if id, ok := o.Repo.Identity(); ok {
		l.ClusterID = id.ClusterID.String()
	}
	backups := c.Backups()
	older := []repo.Entry(nil)
	timelines := map[repo.Timeline]bool{}
	for _, e := range backups {
		timelines[e.Timeline] = true
	}
	l.Timelines = len(timelines)
	if o.Last > 0 && len(backups) > o.Last {
		l.Older = len(backups) - o.Last
		older, backups = backups[:l.Older], backups[l.Older:]
	}
	l.Backups = make([]Row, len(backups))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, e := range backups {
		g.Go(func() (err error) {
			l.Backups[i], err = row(gctx, o.Repo, c, e)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if l.AnyMoment, err = anyMoment(ctx, o.Repo, c, usable(older, backups, l.Backups), time.Now()); err != nil {
		return nil, err
	}
	slices.Reverse(l.Backups)
	return l, nil
}

// usable are the snapshots to build on, as the rows and the names of those without a row tell; rows are in the order of shown.
func usable(older, shown []repo.Entry, rows []Row) (snaps []cover.Snapshot) {
	for _, e := range older {
		snaps = append(snaps, cover.Snapshot{Entry: e, Compact: cover.Unknown})
	}
	for i, e := range shown {
		if rows[i].compact != cover.Unknown && rows[i].Good() {
			snaps = append(snaps, cover.Snapshot{Entry: e, Compact: rows[i].compact})
		}
	}
	return snaps
}

// row reads a backup's manifest and verified mark.
func row(ctx context.Context, r *repo.Repo, c *repo.Catalog, e repo.Entry) (Row, error) {
	out := Row{ID: e.ID, Time: e.ID.Time(), Timeline: e.Timeline, Revision: e.Revision, Stored: e.Data.Size, Encrypted: e.Encrypted, compact: cover.Unknown}
	m, err := r.Manifest(ctx, e)
	if err != nil {
		if problem, ok := aboutObject(ctx, err); ok {
			out.Problem = problem
			return out, nil
		}
		return out, err
	}
	out.Size, out.Keys, out.EtcdVersion = m.Database.Size, m.Database.Keys, m.Source.EtcdVersion
	out.compact = m.Database.CompactRevision
	if m.MadeFrom != nil {
		out.MadeFrom = m.MadeFrom.Snapshot
	}
	out.NoQuorum, out.LockedUntil = !m.Source.Quorum, m.RetainUntil
	if _, marked := c.Verified[e.ID]; !marked {
		return out, nil
	}
	v, ok, err := r.Verification(ctx, e.ID)
	if err != nil {
		if _, about := aboutObject(ctx, err); about {
			return out, nil // a mark that cannot be read says nothing about the backup; verify reports it
		}
		return out, err
	}
	if ok {
		out.Verified = &v
		if !v.OK {
			out.Problem = v.Problem
		}
	}
	return out, nil
}

func loose(entries []repo.Entry) []Loose {
	var all []Loose
	for _, e := range entries {
		l := Loose{ID: e.ID, Time: e.ID.Time(), Timeline: e.Timeline, Revision: e.Revision, Key: e.Data.Key, Size: e.Data.Size}
		if l.Key == "" {
			l.Key, l.Size = e.Manifest.Key, e.Manifest.Size
		}
		all = append(all, l)
	}
	return all
}
