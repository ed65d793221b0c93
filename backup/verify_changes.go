package backup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
)

// ChangesVerdict is the outcome for the change log of one timeline, as far as it was read.
type ChangesVerdict struct {
	Timeline repo.Timeline `json:"timeline"`
	// First and Last are the oldest and the newest revision that was read; Segments and Bytes how many objects, and their size.
	First    repo.Revision `json:"first"`
	Last     repo.Revision `json:"last"`
	Segments int           `json:"segments"`
	Bytes    int64         `json:"bytes"`
	// Level is how far everything that was read was checked: repo.LevelBytes, repo.LevelContent, or where hashes prove all of it repo.LevelRebuilt or
	// repo.LevelProven. Reach is up to which revision each level goes, of what can be restored, the strongest first.
	Level string          `json:"level"`
	Reach []VerifiedReach `json:"reach,omitempty"`
	OK    bool            `json:"ok"`
	// Result is ok, bytes only or bad, as in a Verdict.
	Result string `json:"result"`
	// Proofs is how many hashes, of members and of later streamed snapshots, what was rebuilt was found to have.
	Proofs int `json:"proofs"`
	// Ranges are the revisions that were found good, and how far.
	Ranges   []repo.VerifiedRange `json:"ranges,omitempty"`
	Findings []ChangesFinding     `json:"findings,omitempty"`
	// Notes are no findings: gaps that the recorder told of, segments that lead nowhere, proofs that could not be compared.
	Notes   []string `json:"notes,omitempty"`
	Seconds float64  `json:"seconds"`
}

// ChangesFinding is something that is wrong with a change log.
type ChangesFinding struct {
	// Key is the segment; empty when no single object is to blame.
	Key     string        `json:"key,omitempty"`
	First   repo.Revision `json:"first"`
	Last    repo.Revision `json:"last"`
	Problem string        `json:"problem"`

	level string // the level that it denies; empty: nothing is there that a mark could be about
}

// span is a range of revisions, both ends included.
type span struct{ first, last repo.Revision }

const endless = repo.Revision(1<<63 - 2)

func (s span) meets(first, last repo.Revision) bool { return first <= s.last && last >= s.first }

// logCheck checks the change log of one timeline.
type logCheck struct {
	o         *VerifyOptions
	timeline  repo.Timeline
	snaps     []cover.Snapshot // with their manifests read, and nothing known against them
	manifests map[repo.SnapshotID]*repo.Manifest
	all       []repo.Segment // of the timeline
	want      []span         // what is to be read
	chosen    []repo.Segment
	bad       map[string]bool // segments with a finding
	proofs    []changes.Proof
	opened    bool // an identity was seen to be one of those that the timeline's backups are encrypted to
	verdict   ChangesVerdict
	limits    rollLimits
}

// changeLogs verifies the change log: with All all of it; otherwise what follows each chosen backup up to the next one, and, unless backups
// were named, also what was never verified as far as this run can.
func (o *VerifyOptions) changeLogs(ctx context.Context, c *repo.Catalog, entries []repo.Entry, verdicts []Verdict) ([]ChangesVerdict, error) {
	var out []ChangesVerdict
	for _, t := range logTimelines(c) {
		l, err := o.newLogCheck(ctx, c, t, verdicts)
		if err != nil {
			return nil, err
		}
		if err := l.choose(ctx, entries); err != nil {
			return nil, err
		}
		if len(l.chosen) == 0 {
			continue
		}
		begun := time.Now()
		if err := l.run(ctx); err != nil {
			return nil, err
		}
		l.verdict.Seconds = time.Since(begun).Seconds()
		l.mark(ctx)
		out = append(out, l.verdict)
	}
	return out, nil
}

func logTimelines(c *repo.Catalog) []repo.Timeline {
	var out []repo.Timeline
	for _, s := range c.Segments { // in order of their timelines
		if len(out) == 0 || out[len(out)-1] != s.Timeline {
			out = append(out, s.Timeline)
		}
	}
	return out
}

func (o *VerifyOptions) newLogCheck(ctx context.Context, c *repo.Catalog, t repo.Timeline, verdicts []Verdict) (*logCheck, error) {
	l := &logCheck{o: o, timeline: t, all: c.SegmentsOf(t), manifests: map[repo.SnapshotID]*repo.Manifest{}, bad: map[string]bool{}, limits: o.limits}
	l.verdict = ChangesVerdict{Timeline: t, Level: repo.LevelContent}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, e := range c.Backups() {
		bad := slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.ID == e.ID && !v.OK })
		l.opened = l.opened || e.Encrypted && slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.ID == e.ID && v.OK && v.Level != repo.LevelBytes })
		if e.Timeline != t || bad {
			continue
		}
		g.Go(func() error {
			m, err := o.Repo.Manifest(gctx, e)
			if err != nil {
				if _, about := aboutObject(gctx, err); about {
					return nil // its own verdict says so
				}
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			l.manifests[e.ID] = m
			l.snaps = append(l.snaps, cover.Snapshot{Entry: e, Compact: m.Database.CompactRevision})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(l.snaps, func(a, b cover.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.ID, b.ID))
	})
	return l, nil
}

// choose decides which segments are read.
func (l *logCheck) choose(ctx context.Context, entries []repo.Entry) error {
	switch {
	case l.o.All:
		l.want = []span{{1, endless}}
	default:
		for _, e := range entries {
			if e.Timeline == l.timeline {
				l.want = append(l.want, span{e.Revision + 1, l.nextSnapshot(e.Revision)})
			}
		}
		if len(l.want) > 0 && !l.o.named() {
			unread, err := l.unverified(ctx)
			if err != nil {
				return err
			}
			l.want = append(l.want, unread...)
		}
	}
	for _, s := range l.all {
		if l.wanted(s.First, s.Last) {
			l.chosen = append(l.chosen, s)
		}
	}
	return nil
}

func (l *logCheck) wanted(first, last repo.Revision) bool {
	return slices.ContainsFunc(l.want, func(w span) bool { return w.meets(first, last) })
}

// nextSnapshot is the revision of the next snapshot above r: from there on, restore points begin with that one.
func (l *logCheck) nextSnapshot(r repo.Revision) repo.Revision {
	for _, s := range l.snaps {
		if s.Revision > r {
			return s.Revision
		}
	}
	return endless
}

// unverified are the revisions that no verification has found good as far as this one can look.
func (l *logCheck) unverified(ctx context.Context) ([]span, error) {
	marks, err := l.o.Repo.VerifiedRanges(ctx, l.timeline)
	if err != nil {
		return nil, err
	}
	level := repo.LevelContent
	switch {
	case l.o.Boot != nil:
		level = repo.LevelRebuilt
	case len(l.o.Identities) == 0 && slices.ContainsFunc(l.all, func(s repo.Segment) bool { return s.Encrypted }):
		level = repo.LevelBytes
	}
	var out []span
	next := repo.Revision(1)
	for _, m := range marks {
		if !m.OK || !repo.AtLeast(m.Level, level) {
			continue
		}
		if m.First > next {
			out = append(out, span{next, m.First - 1})
		}
		next = m.Last + 1
	}
	return append(out, span{next, endless}), nil
}

// run reads, compares and, for a deep verification, rebuilds.
func (l *logCheck) run(ctx context.Context) error {
	v := &l.verdict
	v.Segments = len(l.chosen)
	v.First, v.Last = l.chosen[0].First, l.chosen[0].Last
	for _, s := range l.chosen {
		v.Bytes += s.Size
		v.Last = max(v.Last, s.Last)
	}
	if err := l.read(ctx); err != nil {
		return err
	}
	if v.Level != repo.LevelBytes {
		if err := l.agree(ctx); err != nil {
			return err
		}
	}
	if err := l.holes(ctx); err != nil {
		return err
	}
	l.readRanges()
	if l.o.Boot != nil && v.Level != repo.LevelBytes {
		if err := l.prove(ctx); err != nil {
			return err
		}
	}
	v.OK = len(v.Findings) == 0
	v.Result = result(v.OK, v.Level)
	return nil
}

func (l *logCheck) find(f ChangesFinding) {
	l.verdict.Findings = append(l.verdict.Findings, f)
	if f.Key != "" {
		l.bad[f.Key] = true
	}
}

func (l *logCheck) note(format string, a ...any) {
	l.verdict.Notes = append(l.verdict.Notes, fmt.Sprintf(format, a...))
}

// good are the segments against which nothing was found; those that were not read count.
func (l *logCheck) good() []repo.Segment {
	return slices.DeleteFunc(slices.Clone(l.all), func(s repo.Segment) bool { return l.bad[s.Key] })
}

// readRanges are the stretches that were read and found good.
func (l *logCheck) readRanges() {
	var runs []span
	for _, s := range l.chosen {
		if l.bad[s.Key] {
			continue
		}
		if n := len(runs); n > 0 && s.First <= runs[n-1].last+1 {
			runs[n-1].last = max(runs[n-1].last, s.Last)
		} else {
			runs = append(runs, span{s.First, s.Last})
		}
	}
	for _, r := range runs {
		l.proven(r.first, r.last, l.verdict.Level)
	}
}

// proven notes that a range was found good at a level.
func (l *logCheck) proven(first, last repo.Revision, level string) {
	if first > last {
		return
	}
	l.verdict.Ranges = append(l.verdict.Ranges, repo.VerifiedRange{First: first, Last: last, Level: level, OK: true, At: l.o.Now(), Host: l.o.Host})
}

// mark writes what was found into the repository, and leaves in the verdict one statement for each revision. That it cannot be written changes
// nothing about it.
func (l *logCheck) mark(ctx context.Context) {
	checks := slices.Clone(l.verdict.Ranges)
	for _, f := range l.verdict.Findings {
		if f.level == "" {
			continue
		}
		checks = append(checks, repo.VerifiedRange{First: f.First, Last: f.Last, Level: f.level, Problem: f.Problem, At: l.o.Now(), Host: l.o.Host})
	}
	from := l.all[0].First
	for _, s := range l.snaps {
		from = min(from, s.Revision)
	}
	if err := l.o.Repo.PutVerifiedRanges(ctx, l.timeline, from, checks); err != nil {
		l.note("the marks of verified ranges could not be written: %v", err)
	}
	l.reach(checks)
	l.verdict.Ranges = repo.Strongest(l.verdict.Ranges)
}
