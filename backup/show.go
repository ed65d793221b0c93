package backup

import (
	"context"
	"slices"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// Description is all that is known about one backup.
type Description struct {
	Manifest *repo.Manifest `json:"manifest"`
	// Verified is the last verification; nil when there was none.
	Verified *repo.Verification `json:"verified,omitempty"`
	Data     Stored             `json:"data"`
	// Log is what the change log adds behind it; nil when it adds nothing.
	Log *Follows `json:"change_log,omitempty"`
}

// Follows is the stretch of the change log that leads on from a backup: every revision up to To can be restored with it.
type Follows struct {
	To       repo.Revision `json:"to"`
	Segments int           `json:"segments"`
	Bytes    int64         `json:"bytes"`
	// Reach is how far it was verified.
	Reach []VerifiedReach `json:"verified_reach,omitempty"`
}

// Stored is where an object lies, as the store says.
type Stored struct {
	Store string `json:"store"`
	Key   string `json:"key"`
	Bytes int64  `json:"bytes"`
	// LockedUntil is when the store's lock ends; zero without one, and when the store does not say.
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// Show reads one backup's manifest and mark, and asks the store about its data. The data itself is not read: that is Verify.
func Show(ctx context.Context, r *repo.Repo, id repo.SnapshotID) (*Description, error) {
	c, entries, err := findAll(ctx, r, []repo.SnapshotID{id})
	if err != nil {
		return nil, err
	}
	m, err := r.Manifest(ctx, entries[0])
	if err != nil {
		return nil, wanting(ctx, err)
	}
	d := &Description{Manifest: m, Data: Stored{Store: r.Store().String(), Key: m.Object.Key, Bytes: m.Object.Size}}
	if v, ok, err := r.Verification(ctx, m.ID); err != nil {
		return nil, err
	} else if ok {
		d.Verified = &v
	}
	if d.Log, err = follows(ctx, r, c, entries[0]); err != nil {
		return nil, err
	}
	info, err := r.Store().Head(ctx, m.Object.Key)
	switch {
	case store.KindOf(err) == store.Denied: // a role that may list and read manifests, but not this
	case err != nil:
		return nil, wanting(ctx, err)
	default:
		d.Data.LockedUntil = info.RetainUntil
	}
	return d, nil
}

// follows is what leads on from a backup, by the segments' names.
func follows(ctx context.Context, r *repo.Repo, c *repo.Catalog, e repo.Entry) (*Follows, error) {
	segs := slices.DeleteFunc(c.SegmentsOf(e.Timeline), func(s repo.Segment) bool { return s.Last <= e.Revision })
	w := cover.Windows([]cover.Snapshot{{Entry: e, Compact: cover.Unknown}}, segs)[0]
	if w.To == e.Revision {
		return nil, nil //nolint:nilnil // nothing follows
	}
	f := &Follows{To: w.To}
	var runs []span
	for _, s := range segs {
		if s.First <= w.To {
			f.Segments++
			f.Bytes += s.Size
			runs = joinSpan(runs, span{s.First, s.Last})
		}
	}
	marks, err := r.VerifiedRanges(ctx, e.Timeline)
	if err != nil && store.KindOf(err) != store.Denied {
		return nil, err
	}
	stretch := span{e.Revision + 1, w.To}
	f.Reach = reaches(within(marks, stretch), runs, stretch)
	return f, nil
}
