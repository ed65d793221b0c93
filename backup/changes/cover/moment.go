package cover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// Mark says that a revision had been seen by a time, by the clock of the host that saw it. Marks come from segments (time marks), from manifests
// (a snapshot's revision had been seen when its stream ended) and from the recorders' own notes (repo.Recorded).
type Mark struct {
	Timeline repo.Timeline `json:"timeline"`
	Revision repo.Revision `json:"revision"`
	Time     time.Time     `json:"time"`
}

// Moment is a time as a restore point: the last revision at or before it.
type Moment struct {
	Mark
	// Exact says that Revision was still the newest at the time asked for. Otherwise Next is the first that was seen after it, and what lies
	// between the two happened before it or after: marks are 100 ms apart while a cluster is busy, more when the recorder was catching up.
	Exact bool  `json:"exact"`
	Next  *Mark `json:"next,omitempty"`
}

// Resolve finds the last revision at or before a time. It refuses (fail.Unsafe) a time before the first mark, after the last, in a gap,
// or of more than one timeline, and names the nearest restore points; a time after now is wrong usage.
// A timeline may be given; its zero value means whichever was recorded then.
func Resolve(ws []Window, marks []Mark, t repo.Timeline, at, now time.Time) (Moment, error) {
	if at.After(now) {
		return Moment{}, fail.New(fail.Usage, fmt.Errorf("%s has not come yet", stamp(at)), "give a time in the past: --to-time 2006-01-02T15:04:05Z, or -15m")
	}
	lines := byTimeline(marks, t)
	var found []Moment
	for _, line := range lines {
		if m, ok := resolveOn(line, at); ok {
			found = append(found, m)
		}
	}
	switch {
	case len(found) > 1:
		return Moment{}, ambiguous(at, found)
	case len(found) == 0:
		return Moment{}, outside(ws, marks, t, at)
	}
	m := found[0]
	w, ok := windowOf(ws, m.Timeline, m.Revision)
	if !ok || !m.Exact && m.Next.Revision > w.To+1 {
		return Moment{}, outside(ws, marks, m.Timeline, at)
	}
	return m, nil
}

// resolveOn looks on one timeline; false when its marks do not lie on both sides of the time.
func resolveOn(marks []Mark, at time.Time) (Moment, bool) {
	var m Moment
	for _, k := range marks {
		if !k.Time.After(at) && (k.Revision > m.Revision || k.Revision == m.Revision && k.Time.After(m.Time)) {
			m.Mark = k
		}
	}
	if m.Revision == 0 {
		return m, false
	}
	for _, k := range marks {
		switch {
		case k.Time.Before(at) || k.Revision < m.Revision:
		case k.Revision == m.Revision:
			m.Exact, m.Next = true, nil
			return m, true
		case m.Next == nil || k.Time.Before(m.Next.Time) || k.Time.Equal(m.Next.Time) && k.Revision < m.Next.Revision:
			m.Next = &k
		}
	}
	return m, m.Next != nil
}

func byTimeline(marks []Mark, only repo.Timeline) [][]Mark {
	at := map[repo.Timeline]int{}
	var out [][]Mark
	for _, m := range marks {
		if only != (repo.Timeline{}) && m.Timeline != only {
			continue
		}
		i, ok := at[m.Timeline]
		if !ok {
			i = len(out)
			at[m.Timeline] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], m)
	}
	return out
}

func windowOf(ws []Window, t repo.Timeline, r repo.Revision) (Window, bool) {
	for _, w := range ws {
		if w.Timeline == t && w.From <= r && r <= w.To {
			return w, true
		}
	}
	return Window{}, false
}

func ambiguous(at time.Time, found []Moment) error {
	var names []string
	for _, m := range found {
		names = append(names, fmt.Sprintf("revision %d of timeline %s", m.Revision, m.Timeline))
	}
	slices.Sort(names)
	return fail.Refused(fmt.Errorf("%s is ambiguous: it was %s", stamp(at), strings.Join(names, ", or ")),
		"say which: --timeline "+found[0].Timeline.String()+" (`steward backup list` shows what each is)")
}

// outside names the nearest restore points on either side of a time that is none.
func outside(ws []Window, marks []Mark, t repo.Timeline, at time.Time) error {
	var before, after *Mark
	for _, m := range marks {
		if _, ok := windowOf(ws, m.Timeline, m.Revision); !ok || t != (repo.Timeline{}) && m.Timeline != t {
			continue
		}
		switch {
		case !m.Time.After(at) && (before == nil || m.Time.After(before.Time) || m.Time.Equal(before.Time) && m.Revision > before.Revision):
			before = &m
		case m.Time.After(at) && (after == nil || m.Time.Before(after.Time)):
			after = &m
		}
	}
	why := "lies where nothing was recorded"
	switch {
	case before == nil && after == nil:
		return fail.Refused(fmt.Errorf("%s: nothing was recorded", stamp(at)), "`steward backup list` shows what can be restored")
	case before == nil:
		why = "is before the first restore point"
	case after == nil:
		why = "is after the last restore point"
	}
	var hints []string
	for _, m := range []*Mark{before, after} {
		if m != nil {
			hints = append(hints, fmt.Sprintf("--timeline %s --to-revision %d (seen %s)", m.Timeline, m.Revision, stamp(m.Time)))
		}
	}
	return fail.Refused(fmt.Errorf("%s %s", stamp(at), why), "the nearest restore points: "+strings.Join(hints, ", or "))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

// near is how many segments on either side of a time are read: overlapping recorders, and their clocks, may disagree a little.
const near = 3

// Near are the segments whose time marks Resolve needs for a time: per timeline those that were closed last before it, and first
// after it. All others' marks say less.
func Near(segs []repo.Segment, at time.Time) []repo.Segment {
	byLine := map[repo.Timeline][]repo.Segment{}
	for _, s := range segs {
		byLine[s.Timeline] = append(byLine[s.Timeline], s)
	}
	var out []repo.Segment
	for _, line := range byLine {
		slices.SortFunc(line, func(a, b repo.Segment) int {
			return cmp.Or(a.ID.Time().Compare(b.ID.Time()), cmp.Compare(a.Last, b.Last))
		})
		i, _ := slices.BinarySearchFunc(line, at, func(s repo.Segment, at time.Time) int { return s.ID.Time().Compare(at) })
		out = append(out, line[max(0, i-near):min(len(line), i+near)]...)
	}
	repo.SortSegments(out)
	return out
}

// ParseTime reads a time as --to-time takes it: RFC 3339, or a negative duration before now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d > 0 {
		err = errors.New("it lies in the future")
	} else if err != nil {
		err = errors.New("neither RFC 3339 nor a duration")
	}
	if err != nil {
		return time.Time{}, fail.New(fail.Usage, fmt.Errorf("time %q: %w", s, err), "--to-time 2006-01-02T15:04:05Z, or -15m for a quarter of an hour ago")
	}
	return now.Add(d), nil
}
