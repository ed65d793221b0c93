package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write a backup, or any restore point, as a plain file that etcdutl restores",
		UsageText: "steward backup export ID|newest|--to-revision R|--to-time TIME --to FILE|- [flags]",
		ArgsUsage: "ID|newest",
		Description: `The file is what ` + "`etcdctl snapshot save`" + ` would have written: decrypted, decompressed, every byte checked, with etcd's hash at its
end. It appears whole or not at all, and never replaces another. It holds the cluster's secrets in the clear.
A revision, or a time, is rebuilt from a snapshot and the change log; "newest" is the newest snapshot alone.

   steward backup export newest --to /root/snapshot.db --identity steward-identity.txt
   steward backup export --to-time -15m --to /root/snapshot.db --identity steward-identity.txt
   etcdutl snapshot restore /root/snapshot.db --data-dir /var/lib/etcd ...`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "the `FILE` to make, or - for standard output"},
			spoolFlag(),
		}, momentFlags()...),
		Action: action(export),
	}
}

func export(c *call) error {
	boundMemory()
	point, err := c.exported()
	if err != nil {
		return err
	}
	o := backup.ExportOptions{Point: point, To: c.String("to")}
	switch {
	case o.To == "":
		return usage(c.Context, "--to FILE is missing")
	case o.To == "-" && c.json():
		return usage(c.Context, "--to - and -o json both want standard output")
	case o.To == "-" && term.IsTerminal(c.stdout):
		return fail.Refused(fmt.Errorf("a database does not belong on a terminal"), "--to FILE, or redirect the output")
	case o.To == "-":
		o.Stream, o.To = c.stdout, ""
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if o.Identities, err = c.identities(cfg); err != nil {
		return err
	}
	if o.Scratch, err = c.spoolDir(cfg); err != nil {
		return err
	}
	if o.Repo, err = c.existing(cfg); err != nil {
		return err
	}
	progress, stop := c.bars()
	o.Progress = progress
	out, err := backup.Export(c.ctx, o)
	stop(err == nil)
	if err != nil {
		return err
	}
	c.note("%s", out.Point)
	c.noteRebuilt(out.Point, out.Rebuilt)
	if o.Stream != nil {
		c.note("%s: %d bytes written, revision %d", out.ID, out.Bytes, out.Revision)
		return nil
	}
	return c.answer(out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s  %s, revision %d, in %s\n", out.ID, term.Bytes(out.Bytes), out.Revision, out.File)
		return err
	})
}

// exported is the restore point of the argument and the flags; one of them must be given.
func (c *call) exported() (backup.Point, error) {
	moment := c.IsSet("to-revision") || c.IsSet("to-time")
	least := 1
	if moment {
		least = 0
	}
	args, err := c.args(least, 1, "a backup's ID, --to-revision or --to-time")
	if err != nil {
		return backup.Point{}, err
	}
	return c.pointFrom(strings.Join(args, ""))
}

// noteRebuilt says of a rebuilt point what was proven and what is not known.
func (c *call) noteRebuilt(p backup.Resolved, r *backup.Rebuilt) {
	if doubt := p.Doubt(); doubt != "" {
		c.note("%s", doubt)
	}
	for _, n := range p.Notes {
		c.note("%s", n)
	}
	if r == nil {
		return
	}
	for _, line := range r.Lines(p) {
		c.note("%s", line)
	}
}
