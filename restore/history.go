package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// history is what a repository knows of clusters and revisions that have been.
type history struct {
	// lived are the clusters that took writes, and how that is known.
	lived map[repo.ClusterID]string
	// highest is the highest revision in any backup, any segment and any recorder's ledger of any timeline.
	highest revision.Revision
	// restored are the clusters that were restored from here; whether they ever started is not known.
	restored []repo.Successor
	// recorded is how far the change log of each timeline has come.
	recorded map[repo.Timeline]repo.Recorded
	notes    []string
}

// readHistory reads it from a listing and the successor records. Credentials that may not read the records make it poorer, and it says so.
func readHistory(ctx context.Context, r *repo.Repo, c *repo.Catalog) (history, error) {
	h := history{lived: map[repo.ClusterID]string{}, recorded: map[repo.Timeline]repo.Recorded{}}
	if id, ok := r.Identity(); ok {
		h.lived[id.ClusterID] = "the cluster that the repository began with"
	}
	for _, e := range c.Entries {
		h.lived[e.Timeline.Cluster] = fmt.Sprintf("a cluster that was backed up on %s", e.ID.Time().Format(time.DateOnly))
		h.highest = max(h.highest, e.Revision)
	}
	for _, s := range c.Segments {
		h.lived[s.Timeline.Cluster] = "a cluster whose changes were recorded"
		h.highest = max(h.highest, s.Last)
	}
	if err := h.readLedger(ctx, r, c); err != nil {
		return h, err
	}
	all, err := r.Successors(ctx)
	if errors.Is(err, store.Denied) {
		h.notes = append(h.notes, "these credentials may not read which clusters were restored before; a bump or a token may repeat")
		return h, nil
	}
	if err != nil {
		return h, err
	}
	for _, s := range all {
		if s.From == "" {
			h.lived[s.ClusterID] = "a cluster that was adopted on " + s.Restored.Format(time.DateOnly)
			continue
		}
		h.restored = append(h.restored, s)
	}
	return h, nil
}

// readLedger adds the highest revisions that recorders have seen, stored or not.
func (h *history) readLedger(ctx context.Context, r *repo.Repo, c *repo.Catalog) error {
	for _, t := range c.Recorded {
		rec, _, err := r.Recorded(ctx, t)
		if errors.Is(err, store.Denied) {
			h.notes = append(h.notes, "these credentials may not read the highest revision that was ever seen; without --bump-revision, it is taken from the backups")
			return nil
		}
		if err != nil {
			return err
		}
		h.highest = max(h.highest, rec.Highest)
		h.recorded[t] = rec
	}
	return nil
}

// highestKnown is the highest revision that a cluster of this repository has served, as far as can be known.
func (h history) highestKnown() revision.Revision {
	top := h.highest
	for _, s := range h.restored {
		top = max(top, s.NewRevision)
	}
	return top
}

// joinWindow is how long after the first host of a restore another one is taken for a part of it when it was given neither token nor bump. Later, it
// gets values of its own, and so a cluster ID that the first one's members refuse: the commands that the first one printed are the way then.
const joinWindow = 2 * time.Hour

// joinable are the restores of the same snapshot a short while ago, youngest first: this may be the next host of one of them.
func (h history) joinable(id repo.SnapshotID, at revision.Revision, now time.Time) (bumps []int64, clusters []repo.ClusterID) {
	for i := len(h.restored) - 1; i >= 0; i-- {
		s := h.restored[i]
		if s.From == id && s.Revision == at && s.NewRevision >= at && now.Sub(s.Restored) < joinWindow {
			bumps, clusters = append(bumps, int64(s.NewRevision-at)), append(clusters, s.ClusterID)
		}
	}
	return bumps, clusters
}

// refuseSeen refuses a cluster ID that has been: members of that cluster whose data is still somewhere would take part in the restored one, with another
// history under the same revisions, and no alarm would tell. It returns a note when the ID is that of a restore which this one continues; the longer ago that was, the
// less likely: then the token must have been given by a person.
func (h history) refuseSeen(next repo.Successor, tokenGiven bool) (note string, err error) {
	const hint = "give a --initial-cluster-token that was never used, the same on every host; --allow-same-cluster-id only if no old member of that cluster can ever start again, or if this is a further member of it that has never run"
	id := next.ClusterID
	if how, ok := h.lived[id]; ok {
		return "", fail.Refused(fmt.Errorf("the restored cluster would have the ID %s of %s", id, how), hint)
	}
	for _, s := range h.restored {
		if s.ClusterID != id {
			continue
		}
		when := s.Restored.Format(time.RFC3339)
		switch {
		case s.From != next.From || s.Revision != next.Revision || s.NewRevision != next.NewRevision:
			return "", fail.Refused(fmt.Errorf("cluster %s was restored from backup %s to revision %d, this would be backup %s to revision %d: its members would not be equal",
				id, s.From, s.NewRevision, next.From, next.NewRevision), "use the backup, the token and the bump of the first host on every host, or a new token on every host")
		case !tokenGiven && next.Restored.Sub(s.Restored) >= joinWindow:
			return "", fail.Refused(fmt.Errorf("cluster %s was restored on %s by host %s, and may have run since", id, when, s.Host), hint)
		}
		return fmt.Sprintf("cluster %s was restored on %s by host %s: this is a further member of it", id, when, s.Host), nil
	}
	return "", nil
}
