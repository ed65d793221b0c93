package restore

import (
	"fmt"
	"io"
	"strings"
	"time"

	"etcd-steward/backup"
	"etcd-steward/internal/term"
)

// Write describes the plan for people.
func (p *Plan) Write(w io.Writer) error {
	fields := append(p.Source.fields(time.Now()),
		term.Field{Name: "Into", Value: p.DataDir}, term.Field{Name: "WAL", Value: p.WALDir},
		term.Field{Name: "Owner", Value: p.Owner.String() + ", mode " + p.Mode},
		term.Field{Name: "Disk", Value: fmt.Sprintf("%s needed, %s free", term.Bytes(p.DiskNeed), term.Bytes(p.DiskFree))},
		term.Field{Name: "Member", Value: p.Name + " " + hexID(p.MemberID.String(), p.MemberID == 0)},
		term.Field{Name: "Cluster", Value: p.InitialCluster},
		term.Field{Name: "Token", Value: orLater(p.Token, p.tokenFrom())},
		term.Field{Name: "Cluster ID", Value: p.clusterID()},
		term.Field{Name: "Revision", Value: p.revisions()},
	)
	for _, dir := range p.Leftovers {
		fields = append(fields, term.Field{Name: "Removed first", Value: dir + ", left by a restore that was interrupted"})
	}
	return term.Fields(w, append(fields, notes(p.Notes)...))
}

func (s Source) fields(now time.Time) []term.Field {
	what, when := s.Where, "File of"
	if s.ID != "" {
		what, when = fmt.Sprintf("backup %s in %s", s.ID, s.Where), "Taken"
	}
	point := ""
	if s.Point != nil {
		point = s.Point.String()
	}
	taken := term.Time(s.Taken) + ", " + term.Age(now.Sub(s.Taken)) + " ago"
	size := ""
	if s.Size > 0 {
		size = fmt.Sprintf("%s, %s to read", term.Bytes(s.Size), term.Bytes(s.Stored))
	}
	if s.Keys > 0 {
		size += fmt.Sprintf(", %s keys", term.Count(s.Keys))
	}
	return []term.Field{{Name: "Restore", Value: what}, {Name: when, Value: taken}, {Name: "etcd", Value: s.EtcdVersion}, {Name: "Size", Value: size}, {Name: "Point", Value: point}}
}

func hexID(id string, unknown bool) string {
	if unknown {
		return ""
	}
	return "(" + id + ")"
}

func orLater(value, from string) string {
	if value == "" {
		return "known when the file is read: " + from
	}
	return value + " (" + from + ")"
}

// tokenFrom says of a random token that it is this run's only: a dry run shows one that the real run will not have.
func (p *Plan) tokenFrom() string {
	if p.TokenFrom != tokenRandom {
		return p.TokenFrom
	}
	return "random; every run makes a new one, and so another cluster ID, unless --initial-cluster-token gives one"
}

func (p *Plan) clusterID() string {
	switch {
	case p.ClusterID == 0:
		return ""
	case p.OldClusterID == 0:
		return p.ClusterID.String()
	}
	return fmt.Sprintf("%s (was %s)", p.ClusterID, p.OldClusterID)
}

func (p *Plan) revisions() string {
	bump := "no bump: the exact history"
	if p.Bump > 0 {
		bump = fmt.Sprintf("bumped by %d", p.Bump)
	}
	bump += " (" + p.BumpFrom + ")"
	if p.Revision == 0 {
		return bump
	}
	return fmt.Sprintf("%d -> %d, %s", p.Revision, p.NewRevision, bump)
}

func notes(all []string) (fields []term.Field) {
	for _, n := range all {
		fields = append(fields, term.Field{Name: "Note", Value: n})
	}
	return fields
}

// asBackedUp says what a HashKV was compared with; of a rebuilt revision, the notes say it.
func asBackedUp(r *backup.Rebuilt) string {
	if r == nil {
		return " as backed up"
	}
	return ""
}

// Write describes the result for people, with what to do next.
func (r Result) Write(w io.Writer) error {
	fields := append(r.Source.fields(time.Now()),
		term.Field{Name: "Restored to", Value: fmt.Sprintf("%s in %s, owner %d:%d", r.DataDir, term.Seconds(r.Seconds), r.Owner.UID, r.Owner.GID)},
		term.Field{Name: "WAL", Value: r.WALDir},
		term.Field{Name: "Member", Value: fmt.Sprintf("%s (%s) of cluster %s", r.Name, r.MemberID, r.ClusterID)},
		term.Field{Name: "Token", Value: r.Token},
		term.Field{Name: "Revision", Value: fmt.Sprintf("%d, HashKV %08x%s", r.Revision, r.HashKV, asBackedUp(r.Rebuilt))},
	)
	if r.Bump > 0 {
		fields = append(fields, term.Field{Name: "Bumped to", Value: fmt.Sprintf("%d", r.NewRevision)})
	}
	for _, c := range r.Cleared {
		fields = append(fields, term.Field{Name: "Cleared", Value: c})
	}
	for _, k := range r.Kept {
		fields = append(fields, term.Field{Name: "Kept", Value: k})
	}
	if err := term.Fields(w, append(fields, notes(r.Notes)...)); err != nil {
		return err
	}
	var b strings.Builder
	for i, c := range r.Others {
		if i == 0 {
			b.WriteString("\nOn the hosts of the other members:\n")
		}
		fmt.Fprintf(&b, "  %s\n", c)
	}
	fmt.Fprintf(&b, "\nThen start etcd on all of them, with:\n  %s\n", shell(r.EtcdFlags))
	_, err := io.WriteString(w, b.String())
	return err
}
