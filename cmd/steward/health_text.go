package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"etcd-steward/internal/term"
	"etcd-steward/membership/health"
)

// write is the report for people: the members, what is known of backups, and the findings, the worst first.
func (r healthReport) write(w io.Writer, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Cluster %s", term.Clean(r.Cluster))
	if r.ClusterID != "" {
		fmt.Fprintf(&b, " (%s)", r.ClusterID)
	}
	fmt.Fprintf(&b, ": %s.\n", r.State)
	if len(r.Members) > 0 {
		b.WriteString("\n")
		if err := healthTable(&b, r.Members, now); err != nil {
			return err
		}
	}
	if r.Backup != nil {
		b.WriteString("\n" + r.Backup.line(now) + "\n")
	}
	for _, f := range r.Findings {
		b.WriteString("\n" + findingText(f))
	}
	if len(r.Findings) == 0 {
		b.WriteString("\nNothing is wrong.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func healthTable(w io.Writer, members []memberRow, now time.Time) error {
	columns := term.Columns("name", "role", "answers", "version", ">db", ">in use", ">quota", ">revision", ">lag", "hash", "certificate")
	var rows [][]string
	for _, m := range members {
		rows = append(rows, []string{
			m.label(), m.Role, m.status(), m.Version, sizeOrNothing(m.DBSize), sizeOrNothing(m.DBInUse), sizeOrNothing(m.Quota), m.number(uint64(max(m.Revision, 0))), m.number(m.Lag), m.Hash, m.certificate(now),
		})
	}
	return term.Table(w, columns, rows)
}

// findingText is a finding in two or three lines.
func findingText(f health.Finding) string {
	who := ""
	if f.Member != "" {
		who = f.Member + ": "
	}
	sure := ""
	if f.Confidence != health.Certain {
		sure = " (" + string(f.Confidence) + ")"
	}
	const indent = "          "
	text := fmt.Sprintf("%-8s  %s\n", strings.ToUpper(f.Severity.String()), term.Clean(fmt.Sprintf("%s%s%s [%s]", who, f.Text, sure, f.Kind)))
	if f.Evidence != "" {
		text += indent + term.Clean(f.Evidence) + "\n"
	}
	return text + indent + "next: " + term.Clean(f.Next) + "\n"
}
