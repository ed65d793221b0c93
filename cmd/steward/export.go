package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write a backup as a plain file that etcdutl restores",
		UsageText: "steward backup export ID|newest --to FILE|- [flags]",
		ArgsUsage: "ID|newest",
		Description: `The file is what ` + "`etcdctl snapshot save`" + ` would have written: decrypted, decompressed, every byte checked, with etcd's hash at its
end. It appears whole or not at all, and never replaces another. It holds the cluster's secrets in the clear.

   steward backup export newest --to /root/snapshot.db --identity steward-identity.txt
   etcdutl snapshot restore /root/snapshot.db --data-dir /var/lib/etcd ...`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "the `FILE` to make, or - for standard output"},
			spoolFlag(),
		},
		Action: action(export),
	}
}

func export(c *call) error {
	boundMemory()
	args, err := c.args(1, 1, "a backup's ID")
	if err != nil {
		return err
	}
	o := backup.ExportOptions{ID: ids(args)[0], To: c.String("to")}
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
	if o.Stream != nil {
		c.note("%s: %d bytes written, revision %d", out.ID, out.Bytes, out.Revision)
		return nil
	}
	return c.answer(out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s  %s, revision %d, in %s\n", out.ID, term.Bytes(out.Bytes), out.Revision, out.File)
		return err
	})
}
