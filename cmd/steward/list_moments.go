package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/term"
)

// silentAfter is when a recorder that has not moved its mark is worth a word: it moves it every minute.
const silentAfter = 5 * time.Minute

// momentsTable shows the windows of any-moment recovery, the newest first, with their gaps, and how far the log has come. Without a change log there is nothing to show.
func momentsTable(w io.Writer, a *backup.AnyMoment, timelines int, now time.Time) error {
	if a == nil || a.Segments == 0 && len(a.Recorded) == 0 {
		return nil
	}
	columns := term.Columns("any moment", ">from revision", ">to revision", "from", "until", ">segments", ">stored", "timeline", "verified", "why")
	var rows [][]string
	for _, m := range a.Windows {
		if m.Segments == 0 && !bounds(m, a.Gaps) {
			continue // one snapshot, which has its row above
		}
		row := []string{"yes", fmt.Sprint(m.From), fmt.Sprint(m.To), term.Time(m.FromTime), term.Time(m.Until), fmt.Sprint(m.Segments), term.Bytes(m.Bytes), "", verifiedReach(m, now), ""}
		if timelines > 1 {
			row[7] = m.Timeline.String()
		}
		for _, g := range a.Gaps {
			if g.Timeline == m.Timeline && g.To == m.From-1 {
				rows = append(rows, gapRow(g, timelines))
			}
		}
		rows = append(rows, row)
	}
	for _, g := range a.Gaps {
		if !slices.ContainsFunc(a.Windows, func(m backup.MomentWindow) bool { return m.Timeline == g.Timeline && m.From == g.To+1 }) {
			rows = append(rows, gapRow(g, timelines)) // behind the last window
		}
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := term.Table(w, columns, rows); err != nil {
			return err
		}
	}
	for _, line := range recordedLines(a, now) {
		if _, err := fmt.Fprintln(w, term.Clean(line)); err != nil {
			return err
		}
	}
	return nil
}

// bounds says whether a gap begins or ends at a window.
func bounds(m backup.MomentWindow, gaps []backup.MomentGap) bool {
	return slices.ContainsFunc(gaps, func(g backup.MomentGap) bool {
		return g.Timeline == m.Timeline && (g.To == m.From-1 || g.From == m.To+1)
	})
}

// verifiedReach is how far a window's change log was verified, and when that was last looked at.
func verifiedReach(m backup.MomentWindow, now time.Time) string {
	switch {
	case m.Segments == 0:
		return ""
	case len(m.Verified) == 0:
		return "never"
	}
	var at, failed time.Time
	for _, v := range m.Verified {
		if v.At.After(at) {
			at = v.At
		}
		if !v.OK && v.At.After(failed) {
			failed = v.At
		}
	}
	if !failed.IsZero() {
		return fmt.Sprintf("FAILED %s ago", term.Age(now.Sub(failed)))
	}
	return strings.Join(append(backup.ReachWords(m.Reach, m.To), term.Age(now.Sub(at))+" ago"), ", ")
}

func gapRow(g backup.MomentGap, timelines int) []string {
	reason := g.Reason
	if reason == "" {
		reason = "not recorded"
	}
	row := []string{"GAP", fmt.Sprint(g.From), fmt.Sprint(g.To), "", "", "", "", "", "", reason}
	if timelines > 1 {
		row[7] = g.Timeline.String()
	}
	return row
}

// reaches is the last revision of a timeline that can be restored: a recorder that has just stored it says so a little later.
func reaches(a *backup.AnyMoment, t repo.Timeline) (to repo.Revision) {
	for _, w := range a.Windows {
		if w.Timeline == t {
			to = max(to, w.To)
		}
	}
	return to
}

// recordedLines say whether somebody records, so that an idle cluster and a dead recorder can be told apart, and what a change log does not carry.
func recordedLines(a *backup.AnyMoment, now time.Time) []string {
	lines := []string{""}
	for _, r := range a.Recorded {
		age := now.Sub(r.Time)
		line := fmt.Sprintf("Recorded through revision %d of timeline %s as of %s, %s ago, by %s", r.Through, r.Timeline, term.Time(r.Time), term.Age(age), r.Host)
		switch {
		case r.Ended != "":
			line += "; this timeline has ended: " + r.Ended
		case age > silentAfter:
			line += ". NOBODY RECORDS since then: what came after is in no change log (journalctl -u stewardd on the masters)"
		case r.Highest > max(r.Through, reaches(a, r.Timeline)):
			line += fmt.Sprintf("; revision %d has been seen and is not stored yet", r.Highest)
		}
		lines = append(lines, line+".")
	}
	if a.Orphans > 0 {
		lines = append(lines, fmt.Sprintf("%d segments lead nowhere: there is no snapshot before them.", a.Orphans))
	}
	return append(lines, "Users, roles, alarms and members are in full snapshots only.")
}
