package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/repo/retention"
	"etcd-steward/internal/fail"
)

// PruneOptions say what is kept.
type PruneOptions struct {
	Repo   *repo.Repo
	Policy retention.Policy
	// Location is where days begin and end; nil means UTC.
	Location *time.Location
	// AllowLarge confirms removals that the policy would have ordered long ago: it was changed, or prune has not run.
	AllowLarge bool
	// DryRun decides and changes nothing.
	DryRun bool
	// Confirm, when set, is asked before the plan is stored; its error ends the prune.
	Confirm func(*PruneResult) error
	// Host names this machine in the plan.
	Host     string
	Progress Progress
	// Now is time.Now, or a test's.
	Now func() time.Time
}

// PruneResult is what a prune decided, and what became of it.
type PruneResult struct {
	Store  string `json:"store"`
	DryRun bool   `json:"dry_run"`
	Policy string `json:"policy"` // in words
	// Keep and Remove are all backups, oldest first. Remove holds abandoned uploads as well.
	Keep   []Fate `json:"keep"`
	Remove []Fate `json:"remove"`
	// Segments is what becomes of the change log, in order of revisions, by timeline.
	Segments []SegmentsFate `json:"segments,omitempty"`
	// Refused is why a real run would refuse to do this; only in a dry run.
	Refused string `json:"refused,omitempty"`
	// Resumed are earlier plans that were interrupted; what they had begun was ended first.
	Resumed []string `json:"resumed,omitempty"`
	// Plans are the stored plans that were executed.
	Plans []string `json:"plans,omitempty"`
	// Removed is how many backups and uploads are gone, Freed their bytes. Left are those that were to go and stayed, with the reason.
	Removed int            `json:"removed"`
	Freed   int64          `json:"freed_bytes"`
	Left    []repo.Removed `json:"left,omitempty"`
	// SegmentsRemoved is how many segments are gone, SegmentsLocked how many stay for their lock, until SegmentsLockedUntil at most.
	SegmentsRemoved     int       `json:"segments_removed"`
	SegmentsLocked      int       `json:"segments_locked,omitempty"`
	SegmentsLockedUntil time.Time `json:"segments_locked_until,omitzero"`

	segments []retention.SegmentDecision
}

// Fate is what becomes of one backup.
type Fate struct {
	ID       repo.SnapshotID `json:"id"`
	Time     time.Time       `json:"time"`
	Revision repo.Revision   `json:"revision"`
	Bytes    int64           `json:"bytes"`
	Why      []string        `json:"why"`
	// LockedUntil is when its lock ends: until then it stays although nothing needs it.
	LockedUntil time.Time `json:"locked_until,omitzero"`

	entry repo.Entry
}

// The lease that keeps two prunes apart.
const (
	pruneLease = "coordination/prune.lease.json"
	pruneTTL   = 2 * time.Minute
)

// Prune removes what the policy does not keep: it ends what an interrupted prune had begun, decides, stores the plan, and executes it. A
// policy cannot remove the last good backups, nor what was recorded behind the newest, whatever it says (package retention). Of the change log
// stays what the policy's window of any moment needs. Locked backups and segments stay and are named. Uploads
// that nobody has finished for a day are removed as well.
func Prune(ctx context.Context, o PruneOptions) (*PruneResult, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DryRun {
		res, err := o.decide(ctx)
		if err != nil {
			return nil, err
		}
		open, err := o.Repo.UnfinishedPlans(ctx)
		for _, p := range open {
			res.Resumed = append(res.Resumed, p.ID)
		}
		return res, err
	}
	l, outcome, err := lease.Take(ctx, o.Repo.Store(), pruneLease, lease.Claim{Holder: o.Host, Tick: o.Now(), TTL: pruneTTL})
	if err != nil {
		return nil, fmt.Errorf("prune: %w", err)
	}
	if outcome != lease.Mine {
		s := l.Status()
		return nil, fail.Refused(fmt.Errorf("another prune is at work, on %s, until %s", s.Holder, s.Until.UTC().Format(time.RFC3339)), "wait for it to end")
	}
	held, stop := l.Hold(ctx)
	res, err := o.run(held)
	stop()
	if cause := context.Cause(held); err != nil && errors.Is(cause, lease.ErrLost) {
		err = fmt.Errorf("prune stopped: %w", cause)
	}
	cleanup, cancel := detached(ctx)
	defer cancel()
	return res, errors.Join(err, closing("give the prune lease back", l.Release(cleanup)))
}

func (o *PruneOptions) run(ctx context.Context) (*PruneResult, error) {
	resumed, err := o.resume(ctx)
	if err != nil {
		return nil, err
	}
	res, err := o.decide(ctx)
	if err != nil {
		return nil, err
	}
	res.Resumed = resumed
	var remove []repo.Removal
	for _, f := range res.Remove {
		if !f.LockedUntil.After(o.Now()) {
			remove = append(remove, repo.RemovalOf(f.entry, f.Why[0]))
		}
	}
	segs, _ := res.segmentsToGo()
	if len(remove)+len(segs) == 0 {
		return res, nil
	}
	if o.Confirm != nil {
		if err := o.Confirm(res); err != nil {
			return res, err
		}
	}
	return res, o.execute(ctx, res, remove)
}

// resume ends what interrupted prunes had begun.
func (o *PruneOptions) resume(ctx context.Context) ([]string, error) {
	open, err := o.Repo.UnfinishedPlans(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range open {
		if _, err := o.Repo.Execute(ctx, p, repo.ExecuteOptions{Now: o.Now(), BegunOnly: true}); err != nil {
			return ids, err
		}
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// execute stores and executes one plan after the other, until nothing is left to remove; each is of bounded size.
func (o *PruneOptions) execute(ctx context.Context, res *PruneResult, remove []repo.Removal) error {
	var keep []repo.Kept
	for _, f := range res.Keep {
		keep = append(keep, repo.Kept{ID: f.ID, Timeline: f.entry.Timeline, Revision: f.Revision, Why: f.Why})
	}
	segs, why := res.segmentsToGo()
	total, done := int64(len(remove)+len(segs)), int64(0)
	for len(remove)+len(segs) > 0 {
		backups, segments, err := o.executePlan(ctx, res, remove, keep, segs, why, func(repo.Removed) {
			done++
			o.Progress.report("prune", done, total)
		})
		if err != nil {
			return err
		}
		done += int64(segments)
		remove, segs = remove[backups:], segs[segments:]
		o.Progress.report("prune", done, total)
	}
	return nil
}
