package backup

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/retention"
)

// decide reads what there is and applies the policy. In a dry run a refusal is part of the result.
func (o *PruneOptions) decide(ctx context.Context) (*PruneResult, error) {
	catalog, err := o.Repo.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	entries := catalog.Backups()
	items, err := pruneItems(ctx, o.Repo, catalog, entries)
	if err != nil {
		return nil, err
	}
	now := o.Now()
	decisions := retention.Apply(o.Policy, items, now, o.Location)
	res := &PruneResult{Store: o.Repo.Store().String(), DryRun: o.DryRun, Policy: o.Policy.String(), Keep: []Fate{}, Remove: []Fate{}}
	refused := o.decideSegments(res, catalog, decisions)
	byID := map[repo.SnapshotID]repo.Entry{}
	for _, e := range entries {
		byID[e.ID] = e
	}
	for _, d := range decisions {
		e := byID[d.Item.ID]
		f := fate(e, d.Why)
		if d.Keep {
			res.Keep = append(res.Keep, f)
			continue
		}
		if d.Item.RetainUntil.After(now) {
			f.LockedUntil = d.Item.RetainUntil
		}
		res.Remove = append(res.Remove, f)
	}
	for _, e := range catalog.Abandoned(now) {
		res.Remove = append(res.Remove, fate(e, []string{"an upload that nobody has finished for a day"}))
	}
	slices.SortStableFunc(res.Remove, func(a, b Fate) int { return a.Time.Compare(b.Time) })
	if err := cmp.Or(retention.Guard(o.Policy, decisions, now, o.Location, o.AllowLarge), refused); err != nil {
		if !o.DryRun {
			return nil, err
		}
		res.Refused = err.Error()
	}
	return res, nil
}

func fate(e repo.Entry, why []string) Fate {
	return Fate{ID: e.ID, Time: e.ID.Time(), Revision: e.Revision, Bytes: e.Data.Size + e.Manifest.Size, Why: why, entry: e}
}

// pruneItems reads of every backup what a policy needs to know: whether it is good, proven, locked.
func pruneItems(ctx context.Context, r *repo.Repo, c *repo.Catalog, entries []repo.Entry) ([]retention.Item, error) {
	items := make([]retention.Item, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i, e := range entries {
		g.Go(func() error {
			b, err := row(gctx, r, c, e)
			if err != nil {
				return err
			}
			items[i] = retention.Item{
				ID: e.ID, Time: b.Time, Timeline: e.Timeline, Revision: e.Revision, Compact: b.compact, Good: b.Good(),
				Verified: b.Verified != nil && b.Verified.OK && b.Verified.Level != repo.LevelBytes, RetainUntil: b.LockedUntil,
			}
			return nil
		})
	}
	return items, g.Wait()
}
