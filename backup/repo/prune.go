package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// ExecuteOptions say how a plan is executed.
type ExecuteOptions struct {
	Now time.Time // against which locks are compared; zero means time.Now
	// BegunOnly ends the removals that had begun (the manifest is gone, the data is there) and leaves the others: for the plan of a prune that was
	// interrupted. What it had not begun, today's policy decides anew.
	BegunOnly bool
	// Report, when set, is told of every removal as it ends.
	Report func(Removed)
}

// Removed is what became of one removal.
type Removed struct {
	ID    SnapshotID `json:"id"`
	Bytes int64      `json:"bytes"`
	// Gone says that no object of it is left (in a bucket with versions: none that is current).
	Gone bool `json:"gone"`
	// LockedUntil is when its Object Lock ends, and Kept why it stayed; both are empty when it is gone.
	LockedUntil time.Time `json:"locked_until,omitzero"`
	Kept        string    `json:"kept,omitempty"`
}

// Pruned is the result of a plan; it is stored as the mark that the plan is finished.
type Pruned struct {
	Plan     string    `json:"plan"`
	Finished time.Time `json:"finished"`
	Gone     int       `json:"gone"`
	Bytes    int64     `json:"bytes"`
	// Segments is what became of the change log's.
	Segments SegmentsRemoved `json:"segments,omitzero"`
	// Left are those that could not be removed or were spared, with the reason.
	Left []Removed `json:"left,omitempty"`
}

// Execute removes what a stored plan says: of every backup first the manifest, then the data, then its verified mark. Every step may be repeated. It
// stops at the first error other than a lock; the plan is then unfinished, and Execute may be called again. It refuses (fail.Unsafe) to remove
// backups when none of those that the plan keeps is really there.
func (r *Repo) Execute(ctx context.Context, p *Plan, o ExecuteOptions) (Pruned, error) {
	out := Pruned{Plan: p.ID}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if err := r.storedAs(ctx, p); err != nil {
		return out, fmt.Errorf("execute prune plan %s: %w", p.ID, err)
	}
	if err := r.anchored(ctx, p); err != nil {
		return out, err
	}
	for _, rm := range p.Remove {
		res, err := r.remove(ctx, rm, o)
		if err != nil {
			return out, fmt.Errorf("execute prune plan %s: remove backup %s: %w", p.ID, rm.ID, err)
		}
		if res.Gone {
			out.Gone++
			out.Bytes += res.Bytes
		} else {
			out.Left = append(out.Left, res)
		}
		if o.Report != nil {
			o.Report(res)
		}
	}
	if !o.BegunOnly {
		var err error
		if out.Segments, err = r.removeSegments(ctx, p, o); err != nil {
			return out, fmt.Errorf("execute prune plan %s: remove segments: %w", p.ID, err)
		}
	}
	out.Finished = o.Now.UTC()
	doc, err := Seal("pruned", planFormat, out)
	if err == nil {
		_, err = r.write(ctx, prunedKey(p.ID), doc, store.PutOptions{})
	}
	if err != nil {
		return out, fmt.Errorf("mark prune plan %s as finished: %w", p.ID, err)
	}
	return out, nil
}

// anchorTries bounds how many kept backups are looked at before a plan is given up.
const anchorTries = 5

// anchored makes sure that a backup remains, by reading it, whatever a listing once said.
func (r *Repo) anchored(ctx context.Context, p *Plan) error {
	backups := len(p.Segments) > 0
	for _, rm := range p.Remove {
		backups = backups || rm.hasManifest()
	}
	if !backups {
		return nil
	}
	reason := errors.New("it keeps none")
	for i := len(p.Keep) - 1; i >= max(0, len(p.Keep)-anchorTries); i-- {
		k := p.Keep[i]
		_, err := r.Manifest(ctx, Entry{Timeline: k.Timeline, Revision: k.Revision, ID: k.ID})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		reason = err
	}
	return fail.Refused(fmt.Errorf("execute prune plan %s: no backup that it keeps is really there: %w", p.ID, reason),
		"nothing was removed; look with: steward backup verify")
}

func (r *Repo) remove(ctx context.Context, rm Removal, o ExecuteOptions) (Removed, error) {
	res := Removed{ID: rm.ID, Bytes: rm.Bytes}
	proceed, err := r.mayRemove(ctx, rm, o, &res)
	if err != nil || !proceed {
		return res, err
	}
	for _, key := range rm.Keys {
		err := r.store.Delete(ctx, key)
		if errors.Is(err, store.Locked) {
			info, _ := r.store.Head(ctx, key)
			res.LockedUntil, res.Kept = info.RetainUntil, "locked by the store"
			return res, nil
		}
		if err != nil {
			return res, err
		}
	}
	if err := r.store.Delete(ctx, verifiedKey(rm.ID)); err != nil && !errors.Is(err, store.Locked) {
		return res, err
	}
	res.Gone = true
	return res, nil
}

// mayRemove looks at what is there now. In a bucket with versions a Delete succeeds also on a locked object (it only hides it), so locks are looked up
// before: in the manifest, and in what the store says of the object.
func (r *Repo) mayRemove(ctx context.Context, rm Removal, o ExecuteOptions, res *Removed) (bool, error) {
	e := Entry{Timeline: rm.Timeline, Revision: rm.Revision, ID: rm.ID}
	m, err := r.readManifest(ctx, e)
	switch {
	case errors.Is(err, store.NotFound): // the removal had begun, or this is an abandoned upload
		return r.unlocked(ctx, rm.Keys[len(rm.Keys)-1], o.Now, res)
	case err != nil && errors.Is(err, ErrNewerFormat):
		res.Kept = "a newer program has written it"
		return false, nil
	case err != nil && errors.Is(err, ErrDamaged):
		res.Kept = "its manifest is damaged"
		return false, nil
	case err != nil:
		return false, err
	case !rm.hasManifest():
		res.Kept = "the upload was finished since: it is a backup"
		return false, nil
	case o.BegunOnly:
		res.Kept = "its removal had not begun when the prune was interrupted"
		return false, nil
	case m.RetainUntil.After(o.Now.Add(-clockSkewMax)): // this clock may be ahead of the store's
		res.LockedUntil, res.Kept = m.RetainUntil, "locked by the store"
		return false, nil
	}
	for _, key := range rm.Keys {
		if ok, err := r.unlocked(ctx, key, o.Now, res); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (r *Repo) unlocked(ctx context.Context, key string, now time.Time, res *Removed) (bool, error) {
	info, err := r.store.Head(ctx, key)
	if errors.Is(err, store.NotFound) || errors.Is(err, store.Denied) { // a janitor may not look at data; the store's Delete asks for its lock
		return true, nil
	}
	if err == nil && info.RetainUntil.After(now.Add(-clockSkewMax)) {
		res.LockedUntil, res.Kept = info.RetainUntil, "locked by the store"
		return false, nil
	}
	return err == nil, err
}
