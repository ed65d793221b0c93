package daemon

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"etcd-steward/internal/term"
)

// status is the page for people: each cluster's members and findings, and why backups cannot be relied on, when they cannot. It is text, and always 200:
// machines read /readyz and /metrics.
func (s *state) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	now := time.Now()
	clusters := s.all()
	for i, name := range slices.Sorted(maps.Keys(clusters)) {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		c := clusters[name]
		_, _ = fmt.Fprintf(w, "cluster %s\n", name)
		reasons := c.notReady(now)
		if len(reasons) == 0 {
			reasons = []string{"can be relied on"}
		}
		for _, why := range reasons {
			_, _ = fmt.Fprintf(w, "backups: %s\n", term.Clean(why))
		}
		if h := c.watched(); h != nil {
			var text bytes.Buffer // whoever reads slowly must not hold up the looks
			h.write(&text, now)
			_, _ = w.Write(text.Bytes())
		}
	}
	if !s.reloaded().ok {
		_, _ = fmt.Fprintln(w, "\nconfig: the file on disk is bad; an older one is still used")
	}
}

// write is one cluster's members and findings.
func (h *healthState) write(w io.Writer, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.view == nil {
		_, _ = fmt.Fprintln(w, "members: not looked at yet")
		return
	}
	agreed := h.view.Agreed()
	_, _ = fmt.Fprintf(w, "members: %s, looked at %s ago\n", h.view.Cluster().State(), now.Sub(h.view.At).Round(time.Second))
	switch {
	case h.hashed == nil && h.view.Cluster().State().Voters == 1:
		_, _ = fmt.Fprintln(w, "data: of one member, so there is nothing to compare")
	case h.hashed == nil:
		_, _ = fmt.Fprintln(w, "data: not compared yet by this daemon")
	case h.hashed.equal:
		_, _ = fmt.Fprintf(w, "data: equal, compared %s ago\n", now.Sub(h.hashed.at).Round(time.Second))
	default:
		_, _ = fmt.Fprintf(w, "data: DIFFERENT, compared %s ago\n", now.Sub(h.hashed.at).Round(time.Second))
	}
	var rows [][]string
	for _, m := range agreed.Members {
		row := []string{agreed.NameOf(m.ID), roleOf(m, agreed), "", "", "", "does not answer"}
		if a := h.view.ByID(m.ID); a != nil {
			row = []string{row[0], row[1], a.Version, term.Bytes(a.DBSize), fmt.Sprint(lag(a.Index, a.Applied)), ""}
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		_ = term.Table(w, term.Columns("member", "role", "version", ">size", ">lag", "note"), rows)
	}
	if len(h.found) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is wrong")
		return
	}
	for _, f := range h.found {
		who := ""
		if f.Member != "" {
			who = f.Member + ": "
		}
		_, _ = fmt.Fprintf(w, "%s: %s (%s, since %s)\n", f.Severity, term.Clean(who+f.Text), f.Kind, f.at.UTC().Format(time.RFC3339))
		if f.Evidence != "" {
			_, _ = fmt.Fprintf(w, "  seen: %s\n", term.Clean(f.Evidence))
		}
		if f.Next != "" {
			_, _ = fmt.Fprintf(w, "  next: %s\n", term.Clean(f.Next))
		}
	}
}
