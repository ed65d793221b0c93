package cover

import (
	"cmp"
	"slices"

	"etcd-steward/backup/repo"
)

// Window is a range of revisions of one timeline, each of which is a restore point.
type Window struct {
	Timeline repo.Timeline `json:"timeline"`
	From     repo.Revision `json:"from"`
	To       repo.Revision `json:"to"`
	// Snapshots that lie in the window, oldest revision first.
	Snapshots []repo.SnapshotID `json:"snapshots"`
	// Segments is how many segments lie in the window, and Bytes their size.
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
}

// Gap is a range of revisions between two windows of a timeline that cannot be restored.
type Gap struct {
	Timeline repo.Timeline `json:"timeline"`
	From     repo.Revision `json:"from"`
	To       repo.Revision `json:"to"`
}

// Windows are the ranges in which any moment can be restored, by timeline and revision. Segments that no snapshot leads to are in none.
func Windows(snaps []Snapshot, segs []repo.Segment) []Window {
	var out []Window
	for _, t := range timelines(snaps) {
		out = append(out, windowsOf(of(t, snaps, segs))...)
	}
	return out
}

// windowsOf is Windows for one timeline.
func windowsOf(snaps []Snapshot, segs []repo.Segment) []Window {
	rs := runs(segs)
	var out []Window
	// By their oldest revision, so that those which touch follow each other.
	byOldest := slices.Clone(snaps)
	slices.SortStableFunc(byOldest, func(a, b Snapshot) int { return cmp.Compare(a.oldest(), b.oldest()) })
	for _, s := range byOldest {
		from, to := s.oldest(), reach(rs, s.Revision)
		if n := len(out); n > 0 && from <= out[n-1].To+1 {
			out[n-1].To = max(out[n-1].To, to)
			continue
		}
		out = append(out, Window{Timeline: s.Timeline, From: from, To: to, Snapshots: []repo.SnapshotID{}})
	}
	for i := range out {
		out[i].fill(snaps, segs)
	}
	return out
}

func (w *Window) fill(snaps []Snapshot, segs []repo.Segment) {
	for _, s := range snaps {
		if s.Revision >= w.From && s.Revision <= w.To {
			w.Snapshots = append(w.Snapshots, s.ID)
		}
	}
	for _, s := range segs {
		if s.Last >= w.From && s.First <= w.To {
			w.Segments++
			w.Bytes += s.Size
		}
	}
}

// Gaps are the ranges between the windows of each timeline.
func Gaps(ws []Window) []Gap {
	var out []Gap
	for i := 1; i < len(ws); i++ {
		if ws[i].Timeline == ws[i-1].Timeline {
			out = append(out, Gap{ws[i].Timeline, ws[i-1].To + 1, ws[i].From - 1})
		}
	}
	return out
}

// Orphans are the segments that lead nowhere, since neither a snapshot nor a chain of segments from one ends right before them.
func Orphans(snaps []Snapshot, segs []repo.Segment) []repo.Segment {
	ws := Windows(snaps, segs)
	var out []repo.Segment
	for _, s := range segs {
		if !slices.ContainsFunc(ws, func(w Window) bool { return w.Timeline == s.Timeline && s.Last >= w.From && s.First <= w.To+1 }) {
			out = append(out, s)
		}
	}
	return out
}

// Holding are the windows that hold a revision: more than one when it exists on several timelines.
func Holding(ws []Window, r repo.Revision) []Window {
	var out []Window
	for _, w := range ws {
		if w.From <= r && r <= w.To {
			out = append(out, w)
		}
	}
	return out
}

func timelines(snaps []Snapshot) []repo.Timeline {
	var out []repo.Timeline
	for _, s := range snaps {
		if !slices.Contains(out, s.Timeline) {
			out = append(out, s.Timeline)
		}
	}
	slices.SortFunc(out, func(a, b repo.Timeline) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Cut, b.Cut))
	})
	return out
}
