package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Point names a restore point: at most one of ID, Revision and Time; none is the newest that can be reached, with the change log behind the newest
// snapshot. ID with Revision is that revision, rebuilt from that snapshot and no other: what all members of one restored cluster must do.
type Point struct {
	ID       repo.SnapshotID
	Revision repo.Revision
	// Time is resolved to the last revision at or before it.
	Time time.Time
	// Timeline is needed only when Revision or Time exists on several; zero: the one that has it, or the newest.
	Timeline repo.Timeline
}

// LocateOptions help Locate. The zero value does for whatever is no time.
type LocateOptions struct {
	// Identities open the segments near a Time.
	Identities []age.Identity
	// Catalog is the listing to use; nil lists.
	Catalog *repo.Catalog
	// Now is what a Time may not be after; zero: now.
	Now time.Time
}

// Located is what a point came to, from names and manifests alone: nothing has been downloaded but manifests and, for a time, the segments near it.
type Located struct {
	Timeline repo.Timeline
	Revision repo.Revision
	// At is when the revision had been seen, as far as is known: zero for a revision that is not a snapshot's.
	At time.Time
	// Moment says how a Time was resolved; nil when none was given.
	Moment *cover.Moment
	// Snapshot is what the rebuild begins with. It may be newer than Revision: its history reaches back so far.
	Snapshot *repo.Manifest
	// Segments continue it, in the order in which they are applied; empty: the snapshot alone.
	Segments []repo.Segment
	// Behind are the next segments after Revision, at most two: they tell of leases that nothing else tells of.
	Behind []repo.Segment
	// Top is the highest revision of the timeline that can be reached.
	Top repo.Revision
	// Unreadable are the manifests that could not be read, and so were not considered.
	Unreadable map[repo.SnapshotID]error
	// Current is the timeline that goes on now, when the point is of another one; else zero.
	Current repo.Timeline
	// Notes are what a person should know of the way to it; more come when it is read.
	Notes []string

	segments []repo.Segment   // all of the timeline that may be used
	snaps    []cover.Snapshot // and all its snapshots
	settled  bool
}

// Resolved is what a person or a script is told of a restore point: what was meant came to this.
type Resolved struct {
	Timeline repo.Timeline `json:"timeline"`
	Revision repo.Revision `json:"revision"`
	// At is when the revision had been seen, as far as is known.
	At time.Time `json:"at,omitzero"`
	// Moment says how a time was resolved; nil when none was given.
	Moment           *cover.Moment   `json:"moment,omitempty"`
	Snapshot         repo.SnapshotID `json:"snapshot"`
	SnapshotRevision repo.Revision   `json:"snapshot_revision"`
	// Current is the timeline that goes on now, when the point is of another one.
	Current repo.Timeline `json:"current_timeline,omitzero"`
	// Segments is how many are applied; the snapshot is newer than Revision, or Revision itself, when there are none.
	Segments    int   `json:"segments"`
	StoredBytes int64 `json:"stored_bytes"`
	// Notes are what a person should know of the way to it.
	Notes []string `json:"notes,omitempty"`
}

// Resolved sums the point up.
func (l *Located) Resolved() Resolved {
	return Resolved{
		Timeline: l.Timeline, Revision: l.Revision, At: l.At, Moment: l.Moment, Snapshot: l.Snapshot.ID, SnapshotRevision: l.Snapshot.Database.Revision,
		Current: l.Current, Segments: len(l.Segments), StoredBytes: l.Stored(), Notes: slices.Clone(l.Notes),
	}
}

// Rebuilt says whether the point is another one than the snapshot's own.
func (l *Located) Rebuilt() bool { return l.Revision != l.Snapshot.Database.Revision }

// Stored is how many bytes are downloaded for it.
func (l *Located) Stored() int64 { return l.Snapshot.Object.Size + segmentBytes(l.Segments) }

func segmentBytes(segs []repo.Segment) (n int64) {
	for _, s := range segs {
		n += s.Size
	}
	return n
}

// seenAt is when a snapshot's revision had certainly been seen: when its stream had ended.
func seenAt(m *repo.Manifest) time.Time {
	return m.ID.Time().Add(time.Duration(m.Source.Seconds * float64(time.Second)))
}

// Locate finds out how a restore point is reached, and refuses one that is not, with the nearest ones on either side (fail.Unsafe). What is not there, or
// damaged, is fail.Wanting.
func Locate(ctx context.Context, r *repo.Repo, p Point, o LocateOptions) (*Located, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if err := p.check(o.Now); err != nil {
		return nil, err
	}
	c := o.Catalog
	if c == nil {
		var err error
		if c, err = r.Catalog(ctx); err != nil {
			return nil, err
		}
	}
	l := locator{repo: r, catalog: c, point: p, LocateOptions: o}
	if p.ID == "" && len(c.Backups()) == 0 {
		return nil, fail.New(fail.Wanting, fmt.Errorf("%w in %s", errNothing, r.Store()), "see what there is with `steward backup list`")
	}
	if err := l.readLedgers(ctx); err != nil {
		return nil, err
	}
	out, err := l.locate(ctx)
	if err != nil {
		return nil, err
	}
	out.Current = l.otherCurrent(out.Timeline)
	return out, nil
}

func (l *locator) locate(ctx context.Context) (*Located, error) {
	if l.point.ID != "" {
		return l.byID(ctx)
	}
	if err := l.readManifests(ctx); err != nil {
		return nil, err
	}
	switch {
	case l.point.Revision != 0:
		return l.byRevision(ctx)
	case !l.point.Time.IsZero():
		return l.byTime(ctx)
	}
	return l.newest(ctx)
}

func (p Point) check(now time.Time) error {
	wrong := func(format string, a ...any) error {
		return fail.New(fail.Usage, fmt.Errorf(format, a...), "a restore point is one of --id, --to-revision and --to-time, or none of them for the newest")
	}
	switch {
	case p.Revision < 0:
		return wrong("there is no revision %d", p.Revision)
	case !p.Time.IsZero() && (p.Revision != 0 || p.ID != ""):
		return wrong("a time and another restore point do not go together")
	case p.ID != "" && p.Timeline != (repo.Timeline{}):
		return wrong("a backup is of one timeline: none can be chosen")
	case p.Time.After(now):
		_, err := cover.Resolve(nil, nil, p.Timeline, p.Time, now)
		return err
	}
	return nil
}

// locator is one search.
type locator struct {
	LocateOptions
	repo    *repo.Repo
	catalog *repo.Catalog
	point   Point

	manifests map[repo.SnapshotID]*repo.Manifest
	bad       map[repo.SnapshotID]error
	snaps     []cover.Snapshot // those whose manifests could be read, of the timelines in question
	windows   []cover.Window
	recorded  []repo.Recorded
	notes     []string
}

// byID is a snapshot, alone or as the base of one revision.
func (l *locator) byID(ctx context.Context) (*Located, error) {
	e, err := find(l.repo, l.catalog, l.point.ID)
	if err != nil {
		return nil, err
	}
	if e.Data.Key == "" {
		return nil, fail.New(fail.Wanting, fmt.Errorf("backup %s: %w", e.ID, repo.ErrNoData),
			"look for the object in the store's versions or in a copy of the repository, or choose another backup (`steward backup list`)")
	}
	m, err := l.repo.Manifest(ctx, e)
	if err != nil {
		return nil, l.unreadable(ctx, e.ID, err)
	}
	l.manifests = map[repo.SnapshotID]*repo.Manifest{e.ID: m}
	s := cover.Snapshot{Entry: e, Compact: m.Database.CompactRevision}
	l.snaps = []cover.Snapshot{s}
	l.windows = cover.Windows(l.snaps, l.catalog.Segments)
	if l.point.Revision == 0 {
		return l.located(cover.Plan{Timeline: e.Timeline, Revision: e.Revision, Snapshot: s}), nil
	}
	return l.cover(ctx, e.Timeline, l.point.Revision)
}

func (l *locator) unreadable(ctx context.Context, id repo.SnapshotID, err error) error {
	return fail.Hint(wanting(ctx, err), "verify the backup (`steward backup verify "+string(id)+"`), or take another one (`steward backup list`)")
}

// newest is the highest revision of the timeline that was backed up last.
func (l *locator) newest(ctx context.Context) (*Located, error) {
	t := l.timeline()
	w, ok := lastWindow(l.windows, t)
	// Without the newest snapshot, what only snapshots hold (users, alarms) would silently be older: that is for a person to choose.
	if e, err := l.newestBad(t); err != nil {
		hint := "verify the backup (`steward backup verify " + string(e.ID) + "`), or take another one (`steward backup list`)"
		if ok && w.To >= e.Revision {
			hint = fmt.Sprintf("--to-revision %d takes the way from an older snapshot (whose users and alarms it has)", w.To)
		}
		return nil, fail.New(fail.Wanting, err, hint)
	}
	if !ok {
		return nil, fail.New(fail.Wanting, fmt.Errorf("%w of timeline %s in %s", errNothing, t, l.repo.Store()), "steward backup list --all")
	}
	return l.cover(ctx, t, w.To)
}

// newestBad is the newest snapshot of a timeline, and why it cannot be read; nil if it can.
func (l *locator) newestBad(t repo.Timeline) (newest repo.Entry, why error) {
	for _, e := range l.catalog.Backups() {
		if e.Timeline == t && cmp.Or(cmp.Compare(e.Revision, newest.Revision), cmp.Compare(e.ID, newest.ID)) > 0 {
			newest = e
		}
	}
	return newest, l.bad[newest.ID]
}

// timeline is the one that was asked for, or the newest.
func (l *locator) timeline() repo.Timeline {
	if l.point.Timeline != (repo.Timeline{}) {
		return l.point.Timeline
	}
	e, _ := l.catalog.Newest()
	return e.Timeline
}

func lastWindow(ws []cover.Window, t repo.Timeline) (last cover.Window, ok bool) {
	for _, w := range ws {
		if w.Timeline == t && w.To > last.To {
			last, ok = w, true
		}
	}
	return last, ok
}

func (l *locator) byRevision(ctx context.Context) (*Located, error) {
	t, rev := l.timeline(), l.point.Revision
	if l.point.Timeline == (repo.Timeline{}) {
		switch on := cover.Holding(l.windows, rev); {
		case len(on) == 1:
			t = on[0].Timeline
			if err := l.refuseGap(ctx, t, rev); err != nil {
				return nil, err
			}
		case len(on) > 1:
			return nil, ambiguous(rev, on)
		}
	}
	return l.cover(ctx, t, rev)
}

func ambiguous(r repo.Revision, on []cover.Window) error {
	var names []string
	for _, w := range on {
		names = append(names, w.Timeline.String())
	}
	return fail.Refused(fmt.Errorf("revision %d is ambiguous: it exists on the timelines %s, with different data", r, strings.Join(names, ", ")),
		"say which: --timeline "+names[len(names)-1]+" (`steward backup list` shows what each is)")
}

// cover chooses the way to a revision.
func (l *locator) cover(ctx context.Context, t repo.Timeline, rev repo.Revision) (*Located, error) {
	plan, err := cover.Cover(l.snaps, l.catalog.Segments, t, rev)
	if err == nil {
		return l.located(plan), nil
	}
	var u *cover.Unreachable
	if !errors.As(err, &u) {
		return nil, err
	}
	hint := fail.HintOf(err)
	if gap, ok := l.gap(ctx, t, rev); ok {
		err = fmt.Errorf("%w (%s)", err, gap.Reason)
	}
	for id, why := range l.bad { // one of them might have led there
		return nil, fail.New(fail.Wanting, fmt.Errorf("%w; and %d manifests cannot be read, as that of %s: %w", err, len(l.bad), id, why), hint)
	}
	return nil, fail.Refused(err, hint)
}

// gap is why a recorder did not record a revision, as far as it noted it.
func (l *locator) gap(ctx context.Context, t repo.Timeline, rev repo.Revision) (repo.RecordedGap, bool) {
	rec, _, err := l.repo.Recorded(ctx, t)
	if err != nil {
		return repo.RecordedGap{}, false
	}
	for _, g := range rec.Gaps {
		if g.From <= rev && rev <= g.To {
			return g, true
		}
	}
	return repo.RecordedGap{}, false
}

// behindMax is how many segments behind the target rebuild reads for leases.
const behindMax = 2

func (l *locator) located(p cover.Plan) *Located {
	out := &Located{
		Timeline: p.Timeline, Revision: p.Revision, Snapshot: l.manifests[p.Snapshot.ID], Segments: p.Segments, Unreadable: l.bad,
		Notes: l.notes, snaps: l.snaps, segments: l.catalog.SegmentsOf(p.Timeline),
	}
	if w, ok := lastWindow(l.windows, p.Timeline); ok {
		out.Top = w.To
	}
	if !out.Rebuilt() {
		out.At = seenAt(out.Snapshot)
		return out
	}
	for _, s := range out.segments {
		if s.First > p.Revision && len(out.Behind) < behindMax {
			out.Behind = append(out.Behind, s)
		}
	}
	slices.SortStableFunc(out.Segments, func(a, b repo.Segment) int { return cmp.Compare(a.First, b.First) })
	return out
}
