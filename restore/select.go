package restore

import (
	"errors"
	"fmt"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Point names a restore point. The zero Point is the newest backup.
type Point struct {
	ID repo.SnapshotID
}

// Select finds the backup that a Point means. Only a complete one is ever chosen.
func Select(c *repo.Catalog, p Point) (repo.Entry, error) {
	const listHint = "see what there is with `steward backup list`"
	if p.ID == "" {
		if e, ok := c.Newest(); ok {
			return e, nil
		}
		return repo.Entry{}, fail.New(fail.Failed, errors.New("the repository holds no complete backup"), listHint)
	}
	e, ok := c.Find(p.ID)
	switch {
	case !ok:
		return e, fail.New(fail.Failed, fmt.Errorf("backup %s: not in this repository", p.ID), listHint)
	case e.Manifest.Key == "":
		return e, fail.New(fail.Failed, fmt.Errorf("backup %s: its upload did not finish, there is no manifest", p.ID), listHint)
	case e.Data.Key == "":
		return e, fail.New(fail.Failed, fmt.Errorf("backup %s: its data object is missing", p.ID), "look for the object in the store's versions or in a copy of the repository, or choose another backup (`steward backup list`)")
	}
	return e, nil
}
