package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"etcd-steward/backup/repo"
)

// observe looks at the repository now and then, and after every attempt, until loop ends. So what the metrics say survives a restart,
// and is the same on every master, whichever took the backup.
func (c *cluster) observe(loop context.Context) {
	every := min(max(c.maxAge/8, beatEvery), 5*time.Minute)
	if c.maxAge == 0 {
		every = 5 * time.Minute
	}
	var newest *repo.Manifest
	for due := time.Now(); loop.Err() == nil; {
		c.pulse.beat(c.id("store"))
		if !time.Now().Before(due) {
			var err error
			if newest, err = c.lookOnce(loop, newest); err != nil && loop.Err() == nil {
				c.storeFailed(err)
			}
			due = time.Now().Add(every)
			if c.changes != nil && c.changes.isBroken() {
				due = time.Now().Add(min(every, brokenLook)) // whoever records mends it in a moment
			}
		}
		timer := time.NewTimer(min(max(time.Until(due), 0), beatEvery))
		select {
		case <-loop.Done():
		case <-timer.C:
		case <-c.look:
			due = time.Now()
		}
		timer.Stop()
	}
}

// brokenLook is the time between two looks while no full snapshot leads to what is recorded.
const brokenLook = 15 * time.Second

// lookLimit bounds one look. It is shorter than staleAfter.
const lookLimit = 30 * time.Second

// lookOnce reads the repository's listing and, when it is a new one, the manifest of the newest backup.
func (c *cluster) lookOnce(loop context.Context, last *repo.Manifest) (*repo.Manifest, error) {
	ctx, cancel := context.WithTimeout(loop, lookLimit)
	defer cancel()
	catalog, err := c.repo.Catalog(ctx)
	if err != nil {
		return last, err
	}
	backups := catalog.Backups()
	c.lookAtChanges(ctx, catalog)
	h := holding{backups: len(backups), unfinished: len(catalog.Unfinished()), objects: catalog.Objects, bytes: catalog.Bytes}
	if len(backups) > 0 {
		e := newestNow(backups)
		if h.newest = last; last == nil || last.ID != e.ID {
			if h.newest, err = c.repo.Manifest(ctx, e); err != nil {
				return last, fmt.Errorf("newest backup: %w", err)
			}
			if c.changes != nil {
				c.changes.proveNow() // a snapshot is a good moment to note what the change log must lead to
			}
		}
	}
	for i := len(backups) - 1; i >= 0; i-- {
		if _, ok := catalog.Verified[backups[i].ID]; !ok {
			continue
		}
		v, ok, err := c.repo.Verification(ctx, backups[i].ID)
		if err != nil {
			return h.newest, err
		}
		if ok {
			h.verified, h.verifiedRevision = &v, backups[i].Revision
		}
		break
	}
	if c.state.storeAnswered(h) {
		c.log.Info("the store answers", "backups", h.backups)
	}
	return h.newest, nil
}

// lookAtChanges takes in what the listing says of the change log.
func (c *cluster) lookAtChanges(ctx context.Context, catalog *repo.Catalog) {
	if c.changes == nil {
		return
	}
	c.state.demands.look(catalog.Backups(), c.streamed(ctx))
	c.lookAtMark(ctx, c.repo)
	c.changes.listed(catalog)
}

// newestNow is the newest backup that is not dated in the future, if there is one: a host whose clock was wrong once must not hide for years that
// backups have stopped.
func newestNow(backups []repo.Entry) repo.Entry {
	until := wallNow().Add(skewMax)
	for _, e := range slices.Backward(backups) {
		if !e.ID.Time().After(until) {
			return e
		}
	}
	return backups[len(backups)-1]
}

// since says whether the repository holds a complete backup that was begun at t or later, by anybody.
func (c *cluster) since(ctx context.Context, t time.Time) (bool, error) {
	return c.anySince(ctx, t, func(repo.Entry) bool { return true })
}

// streamedSince is since of backups that came from etcd. One that was made offline is dated by its content, has an older one's users, and says nothing of
// whether etcd can be backed up, so it takes no tick of the schedule.
func (c *cluster) streamedSince(ctx context.Context, t time.Time) (bool, error) {
	return c.anySince(ctx, t, c.streamed(ctx))
}

func (c *cluster) anySince(ctx context.Context, t time.Time, counts func(repo.Entry) bool) (bool, error) {
	catalog, err := c.repo.Catalog(ctx)
	if err != nil {
		return false, err
	}
	from, until := t.Truncate(time.Millisecond), wallNow().Add(skewMax) // IDs carry milliseconds
	return slices.ContainsFunc(catalog.Backups(), func(e repo.Entry) bool {
		at := e.ID.Time()
		return !at.Before(from) && !at.After(until) && counts(e)
	}), nil
}

// skewMax is how far two masters' clocks may differ. A backup dated further ahead was taken by a host whose clock was wrong: it is no
// reason to leave a tick out, nor is it fresh.
const skewMax = 15 * time.Minute
