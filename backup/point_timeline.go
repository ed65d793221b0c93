package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// otherCurrent is the timeline that goes on now, when it is another one than t: that of the newest backup, or the one that was recorded last. Zero when t is both.
func (l *locator) otherCurrent(t repo.Timeline) repo.Timeline {
	e, ok := l.catalog.Newest()
	newest := e.Timeline
	if cut := l.catalog.CutOf(newest.Cluster); cut > newest.Cut { // begun by a recorder, and not backed up yet
		newest.Cut = cut
	}
	if ok && newest != t {
		return newest
	}
	last, at := t, time.Time{}
	for _, rec := range l.recorded {
		if rec.Time.After(at) {
			last, at = rec.Timeline, rec.Time
		}
	}
	if last != t && at.After(e.ID.Time()) {
		return last
	}
	return repo.Timeline{}
}

// readLedgers reads the recorders' marks, whole or not: what a recorder has seen counts also before it has stored anything.
func (l *locator) readLedgers(ctx context.Context) (err error) {
	l.recorded, err = readMarks(ctx, l.repo, l.catalog)
	return err
}

// known is the highest revision that anything says a timeline had, also what cannot be reached.
func (l *locator) known(t repo.Timeline) (top repo.Revision) {
	for _, e := range l.catalog.Entries {
		if e.Timeline == t {
			top = max(top, e.Revision)
		}
	}
	for _, s := range l.catalog.Segments {
		if s.Timeline == t {
			top = max(top, s.Last)
		}
	}
	for _, rec := range l.recorded {
		if rec.Timeline == t {
			top = max(top, rec.Highest, rec.Through)
		}
	}
	return top
}

// timelines are all that left a trace.
func (l *locator) timelines() (all []repo.Timeline) {
	add := func(t repo.Timeline) {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	for _, e := range l.catalog.Entries {
		add(e.Timeline)
	}
	for _, s := range l.catalog.Segments {
		add(s.Timeline)
	}
	for _, rec := range l.recorded {
		add(rec.Timeline)
	}
	return all
}

// began is the revision with which each cluster that was restored from here began: what it wrote itself came after. Without the record of it, a
// cluster may have written any revision.
func (l *locator) began(ctx context.Context) (map[repo.Timeline]repo.Revision, error) {
	all, err := l.repo.Successors(ctx)
	if _, about := aboutObject(ctx, err); about || store.KindOf(err) == store.Denied {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := map[repo.Timeline]repo.Revision{}
	for _, s := range all {
		if s.From != "" {
			at[repo.Timeline{Cluster: s.ClusterID, Cut: 1}] = s.NewRevision
		}
	}
	return at, nil
}

// refuseGap refuses a revision that only another timeline than the current one reaches, when a further timeline had a revision of that number too: what was meant may
// lie in a gap, and the other history must not be given for it.
func (l *locator) refuseGap(ctx context.Context, found repo.Timeline, rev repo.Revision) error {
	if l.otherCurrent(found) == (repo.Timeline{}) {
		return nil
	}
	began, err := l.began(ctx)
	if err != nil {
		return err
	}
	rival := repo.Timeline{}
	for _, t := range l.timelines() {
		if t != found && began[t] < rev && rev <= l.known(t) && (rival == (repo.Timeline{}) || t == l.otherCurrent(found)) {
			rival = t
		}
	}
	if rival == (repo.Timeline{}) {
		return nil
	}
	_, err = l.cover(ctx, rival, rev)
	if err == nil {
		return nil // it is no gap: Holding would have found it
	}
	take := []string{fmt.Sprintf("--timeline %s --to-revision %d is that of the other history", found, rev)}
	var u *cover.Unreachable
	if errors.As(err, &u) {
		for _, r := range []repo.Revision{u.Below, u.Above} {
			if r > 0 {
				take = append(take, fmt.Sprintf("--timeline %s --to-revision %d", rival, r))
			}
		}
	}
	hint := take[0]
	if len(take) > 1 {
		hint += "; the nearest restore points of " + rival.String() + ": " + strings.Join(take[1:], ", or ")
	}
	return fail.New(fail.ExitCode(err), fmt.Errorf("%w; timeline %s has a revision %d as well, of another history", err, found, rev), hint+" (`steward backup list` shows what each is)")
}
