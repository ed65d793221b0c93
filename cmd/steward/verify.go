package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read backups again, every byte, and open them",
		UsageText: "steward backup verify [ID...|newest] [flags]",
		ArgsUsage: "[ID...|newest]",
		Description: `Without an ID, the newest backup. Reads every byte of it; with an identity, also decrypts it, checks etcd's own hash, opens the
database, runs bbolt's check and compares it with the manifest. Of the change log it reads what follows the backup and what was
never read before (with IDs: what follows each up to the next one; with --all: all), and checks that no revision is missing or told
in two ways. --deep restores the backup with stock etcdutl into a scratch etcd on loopback and reads it back, rebuilds the
database from a backup along the change log, and compares it with the hashes that members of the cluster gave meanwhile.
The result is kept for ` + "`steward backup list`" + `. Without an identity RESULT says "bytes only": what is encrypted was read, not opened.
Exits with 3 when anything is not as it was written.

   steward backup verify --identity steward-identity.txt
   steward backup verify --deep --last 3 --identity steward-identity.txt
   steward backup verify --all                       (bytes only: needs no identity)`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "every backup", DisableDefaultText: true},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "this `NUMBER` of the newest backups", DefaultText: "1"},
			&cli.BoolFlag{Name: "deep", Usage: "also restore it into a scratch etcd, and prove the change log by rebuilding along it", DisableDefaultText: true},
			spoolFlag(),
		},
		Action: action(verify),
	}
}

func verify(c *call) error {
	boundMemory()
	opts, err := c.verifyOptions()
	if err != nil {
		return err
	}
	progress, stop := c.bars()
	opts.Progress = progress
	rep, err := backup.Verify(c.ctx, opts)
	stop(err == nil)
	if err != nil {
		return err
	}
	if err := c.answer(rep, func(w io.Writer) error { return verifyTable(w, rep, time.Now()) }); err != nil {
		return err
	}
	looseNotes(c, rep.Unfinished, rep.Missing, rep.Strange)
	verifyNotes(c, rep)
	if rep.OK {
		return nil
	}
	return fail.New(fail.Wanting, answered(fmt.Errorf("%s not as written", term.Counted(findings(rep), "thing in "+rep.Store+" is", "things in "+rep.Store+" are"))),
		"delete nothing; take a good backup now: steward backup create")
}

func (c *call) verifyOptions() (backup.VerifyOptions, error) {
	args, err := c.args(0, -1, "")
	if err != nil {
		return backup.VerifyOptions{}, err
	}
	o := backup.VerifyOptions{IDs: ids(args), All: c.Bool("all"), Last: c.Int("last"), Host: hostname()}
	ways := 0
	for _, given := range []bool{len(args) > 0, o.All, c.IsSet("last")} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return o, usage(c.Context, "give IDs, or --last, or --all")
	case c.IsSet("last") && o.Last < 1:
		return o, usage(c.Context, "--last %d: want 1 or more", o.Last)
	}
	cfg, err := c.config()
	if err != nil {
		return o, err
	}
	if o.Identities, err = c.identities(cfg); err != nil {
		return o, err
	}
	if o.Scratch, err = c.spoolDir(cfg); err != nil {
		return o, err
	}
	if o.Repo, err = c.existing(cfg); err != nil {
		return o, err
	}
	if c.Bool("deep") {
		if len(o.Identities) == 0 && !cfg.Encryption.None {
			return o, fail.New(fail.Usage, fmt.Errorf("a deep verification decrypts, and no identity was given"), "--identity FILE, or --no-encryption when the backups are not encrypted")
		}
		o.Boot = deepBoot()
	}
	return o, nil
}
