package backup

import (
	"context"
	"errors"
	"fmt"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Newest as an ID means the newest complete backup.
const Newest repo.SnapshotID = "newest"

// errNothing says that a repository holds no backup at all.
var errNothing = errors.New("there is no backup")

// find looks one backup up in a catalog.
func find(r *repo.Repo, c *repo.Catalog, id repo.SnapshotID) (repo.Entry, error) {
	if id == Newest || id == "" {
		e, ok := c.Newest()
		if !ok {
			return e, fail.New(fail.Wanting, fmt.Errorf("%w in %s", errNothing, r.Store()), "steward backup create")
		}
		return e, nil
	}
	if _, err := repo.ParseSnapshotID(string(id)); err != nil {
		return repo.Entry{}, fail.New(fail.Usage, err, "steward backup list")
	}
	e, ok := c.Find(id)
	switch {
	case !ok:
		return e, fail.New(fail.Wanting, fmt.Errorf("no backup %s in %s", id, r.Store()), "steward backup list --all")
	case e.Manifest.Key == "":
		return e, fail.New(fail.Wanting, fmt.Errorf("%s is no backup: its upload has not finished, there is no manifest", id), "choose another one: steward backup list")
	}
	return e, nil
}

// findAll is find for several, each once.
func findAll(ctx context.Context, r *repo.Repo, ids []repo.SnapshotID) (*repo.Catalog, []repo.Entry, error) {
	c, err := r.Catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	var entries []repo.Entry
	seen := map[repo.SnapshotID]bool{}
	for _, id := range ids {
		e, err := find(r, c, id)
		if err != nil {
			return nil, nil, err
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			entries = append(entries, e)
		}
	}
	return c, entries, nil
}
