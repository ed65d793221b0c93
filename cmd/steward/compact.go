package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/config"
	"etcd-steward/internal/term"
	"etcd-steward/internal/version"
)

func compactCommand() *cli.Command {
	return &cli.Command{
		Name:      "compact",
		Usage:     "make a full snapshot from an older one and the change log",
		UsageText: "steward backup compact [--to-revision REVISION | --to-time TIME] [flags]",
		Description: `Makes the backup that ` + "`steward backup create`" + ` would have made, without asking etcd anything: on any machine that has an identity and may write to
the store. The new file is opened, walked and hashed, and compared with the hash that a member of the cluster gave, before there is a backup. Without a
restore point it is the newest that was recorded; when no change was recorded since the newest snapshot, there is nothing to do.
Nothing is removed. Users, roles, alarms and members are those of the older snapshot, since a change log carries none of them.

   steward backup compact --dry-run
   steward backup compact --identity steward-identity.txt
   steward backup compact --to-time 2026-11-20T06:00:00Z --identity steward-identity.txt`,
		Flags: append(momentFlags(),
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing", DisableDefaultText: true},
			spoolFlag(),
		),
		Action: action(compact),
	}
}

func compact(c *call) error {
	boundMemory()
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	o, err := c.compactOptions(cfg)
	if err != nil {
		return err
	}
	progress, stop := c.bars()
	o.Progress = progress
	out, err := backup.Compact(c.ctx, o)
	stop(err == nil)
	if err != nil {
		return err
	}
	if err := c.answer(out, func(w io.Writer) error { return compactText(w, out) }); err != nil {
		return err
	}
	for _, n := range out.Notes {
		c.note("%s", n)
	}
	if o.DryRun && out.Nothing == "" {
		c.note("dry run: nothing was changed")
	}
	return nil
}

// compactOptions decides on encryption before anything is asked over the network.
func (c *call) compactOptions(cfg *config.Config) (backup.CompactOptions, error) {
	o := backup.CompactOptions{Unencrypted: cfg.Encryption.None, DryRun: c.Bool("dry-run"), Host: hostname(), Program: version.Get().Version}
	var err error
	if o.Point, err = c.point(); err != nil {
		return o, err
	}
	if o.Recipients, err = cfg.Recipients(); err != nil {
		return o, err
	}
	if o.Identities, err = c.identities(cfg); err != nil {
		return o, err
	}
	if o.Scratch, err = c.spoolDir(cfg); err != nil {
		return o, err
	}
	o.Repo, err = c.existing(cfg)
	return o, err
}

func compactText(w io.Writer, out *backup.Compacted) error {
	if out.Nothing != "" {
		_, err := fmt.Fprintf(w, "nothing to do: %s\n", out.Nothing)
		return err
	}
	source := fmt.Sprintf("backup %s (revision %d) and %d segments, %s", out.From, out.FromRevision, out.Segments, term.Bytes(out.Stored))
	m := out.Backup
	if m == nil {
		_, err := fmt.Fprintf(w, "would make a backup of revision %d from %s\n", out.Revision, source)
		return err
	}
	_, err := fmt.Fprintf(w, "%s  revision %d, %s keys, %s stored as %s, made in %s from %s; %s\n", m.ID, m.Database.Revision, term.Count(m.Database.Keys),
		term.Bytes(m.Database.Size), term.Bytes(m.Object.Size), term.Seconds(m.MadeFrom.Seconds), source, provenBy(m.MadeFrom.Proof, m.Database.Revision))
	return err
}

// provenBy says how far a member of the cluster has confirmed what a snapshot of a revision holds.
func provenBy(p *repo.MemberProof, rev repo.Revision) string {
	switch {
	case p == nil:
		return "proven by checksums only: the change log holds no member's hash to compare with"
	case p.Revision < rev:
		behind := fmt.Sprintf("revisions %d to %d are", p.Revision+1, rev)
		if p.Revision+1 == rev {
			behind = fmt.Sprintf("revision %d is", rev)
		}
		return fmt.Sprintf("proven to revision %d, where it has the hash that member %s gave at %s; %s behind it: proven by checksums only",
			p.Revision, p.MemberID, p.Time.Format(time.RFC3339), behind)
	}
	return fmt.Sprintf("proven: at revision %d it has the hash that member %s gave at %s", p.Revision, p.MemberID, p.Time.Format(time.RFC3339))
}
