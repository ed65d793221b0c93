package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/term"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show all that is known about one backup",
		UsageText: "steward backup show ID|newest [flags]",
		ArgsUsage: "ID|newest",
		Description: `Reads the backup's manifest and the result of its last verification, not its data.

   steward backup show newest
   steward backup show 01K3ABCDEFGHJKMNPQRSTVWXYZ -o json`,
		Action: action(show),
	}
}

func show(c *call) error {
	args, err := c.args(1, 1, "a backup's ID")
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	r, err := c.existing(cfg)
	if err != nil {
		return err
	}
	d, err := backup.Show(c.ctx, r, ids(args)[0])
	if err != nil {
		return err
	}
	return c.answer(d, func(w io.Writer) error { return term.Fields(w, describe(d, time.Now())) })
}

func describe(d *backup.Description, now time.Time) []term.Field {
	m := d.Manifest
	db, src := m.Database, m.Source
	locked := m.RetainUntil
	if locked.IsZero() {
		locked = d.Data.LockedUntil
	}
	fields := []term.Field{
		{Name: "ID", Value: string(m.ID)},
		{Name: "Cluster", Value: m.Cluster + " (" + m.Timeline.Cluster.String() + ")"},
		{Name: "Timeline", Value: m.Timeline.String()},
		{Name: "Moment", Value: momentOf(m, now)},
		{Name: "Taken", Value: taken(m, now)},
		{Name: "Revision", Value: fmt.Sprint(db.Revision)},
		{Name: "Compacted at", Value: fmt.Sprint(db.CompactRevision)},
		{Name: "Keys", Value: term.Count(db.Keys)},
		{Name: "Leases", Value: fmt.Sprint(db.Leases)},
		{Name: "HashKV", Value: fmt.Sprintf("%08x", db.HashKV)},
		{Name: "Database", Value: fmt.Sprintf("%s (%d bytes)", term.Bytes(db.Size), db.Size)},
		{Name: "SHA-256", Value: db.SHA256.String() + " (etcd's trailer)"},
		{Name: "Storage", Value: db.StorageVersion},
		{Name: "Authentication", Value: authentication(db)},
		{Name: "Alarms", Value: strings.Join(db.Alarms, ", ")},
		{Name: "Member", Value: member(src)},
		{Name: "etcd", Value: src.EtcdVersion},
		{Name: "Taken by", Value: fmt.Sprintf("steward %s on %s", src.Steward, src.Host)},
		{Name: "Made from", Value: madeFrom(m.MadeFrom)},
		{Name: "Proof", Value: madeProof(m)},
		{Name: "Stored", Value: fmt.Sprintf("%s (%d bytes) in %d blocks", term.Bytes(m.Object.Size), m.Object.Size, len(m.Object.Blocks))},
		{Name: "Object", Value: d.Data.Store + "/" + m.Object.Key},
		{Name: "Object SHA-256", Value: m.Object.SHA256.String()},
	}
	if len(m.Object.Recipients) == 0 {
		fields = append(fields, term.Field{Name: "Encrypted to", Value: "nobody: anybody with access to the store can read it"})
	}
	for i, key := range m.Object.Recipients {
		name := ""
		if i == 0 {
			name = "Encrypted to"
		}
		fields = append(fields, term.Field{Name: name, Value: key})
	}
	if !locked.IsZero() {
		fields = append(fields, term.Field{Name: "Locked until", Value: term.Time(locked)})
	}
	return append(append(fields, verification(d.Verified, now)...), follows(d.Log)...)
}

// follows is how far the change log leads on from the backup.
func follows(f *backup.Follows) []term.Field {
	if f == nil {
		return nil
	}
	verified := "never verified"
	if words := backup.ReachWords(f.Reach, f.To); len(words) > 0 {
		verified = "verified: " + strings.Join(words, ", ")
	}
	return []term.Field{{Name: "Change log", Value: fmt.Sprintf("leads on to revision %d in %s (%s), %s", f.To, term.Counted(f.Segments, "segment", "segments"), term.Bytes(f.Bytes), verified)}}
}

// taken is when a snapshot's stream began; one that was made offline has a moment instead.
func taken(m *repo.Manifest, now time.Time) string {
	if m.MadeFrom != nil {
		return ""
	}
	return fmt.Sprintf("%s (%s ago), in %s", term.Time(m.ID.Time()), term.Age(now.Sub(m.ID.Time())), term.Seconds(m.Source.Seconds))
}

func momentOf(m *repo.Manifest, now time.Time) string {
	if m.MadeFrom == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s ago)", term.Time(m.ID.Time()), term.Age(now.Sub(m.ID.Time())))
}

func madeFrom(f *repo.MadeFrom) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s (revision %d) and %d segments, at %s by steward %s on %s, in %s; users, roles, alarms and members are that one's",
		f.Snapshot, f.Revision, f.Segments, term.Time(f.Made), f.Steward, f.Host, term.Seconds(f.Seconds))
}

func madeProof(m *repo.Manifest) string {
	if m.MadeFrom == nil {
		return ""
	}
	return provenBy(m.MadeFrom.Proof, m.Database.Revision)
}

func authentication(db repo.Database) string {
	if db.AuthEnabled {
		return fmt.Sprintf("on (auth revision %d)", db.AuthRevision)
	}
	return "off"
}

func member(s repo.Source) string {
	role := "follower"
	if s.Leader {
		role = "leader"
	}
	text := fmt.Sprintf("%s (%s), %s at raft term %d, index %d", s.MemberName, s.MemberID, role, s.RaftTerm, s.RaftIndex)
	if !s.Quorum {
		text += "; the cluster had NO QUORUM: the last writes may be missing"
	}
	return text
}

func verification(v *repo.Verification, now time.Time) []term.Field {
	if v == nil {
		return []term.Field{{Name: "Verified", Value: "never"}}
	}
	fields := []term.Field{{Name: "Verified", Value: fmt.Sprintf("%s, at %s by %s", verified(v, now), term.Time(v.At), v.Host)}}
	if v.RestoreSeconds > 0 {
		fields = append(fields, term.Field{Name: "Restore took", Value: term.Seconds(v.RestoreSeconds)})
	}
	return append(fields, term.Field{Name: "Problem", Value: v.Problem})
}
