package backup

import (
	"context"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// Description is all that is known about one backup.
type Description struct {
	Manifest *repo.Manifest `json:"manifest"`
	// Verified is the last verification; nil when there was none.
	Verified *repo.Verification `json:"verified,omitempty"`
	Data     Stored             `json:"data"`
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
	_, entries, err := findAll(ctx, r, []repo.SnapshotID{id})
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
