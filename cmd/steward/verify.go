package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
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
database, runs bbolt's check and compares it with the manifest. --deep restores it with stock etcdutl into a scratch etcd on
loopback and reads it back. The result is kept for ` + "`steward backup list`" + `.
Exits with 3 when anything is not as it was written.

   steward backup verify --identity steward-identity.txt
   steward backup verify --deep --last 3 --identity steward-identity.txt
   steward backup verify --all                       (bytes only: needs no identity)`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "every backup", DisableDefaultText: true},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "this `NUMBER` of the newest backups"},
			&cli.BoolFlag{Name: "deep", Usage: "also restore it into a scratch etcd and read it back", DisableDefaultText: true},
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
	for _, v := range rep.Backups {
		if v.Note != "" {
			c.note("%s: %s", v.ID, v.Note)
		}
	}
	if rep.OK {
		return nil
	}
	bad := len(rep.Missing) + len(rep.DamagedDocuments)
	for _, v := range rep.Backups {
		if !v.OK {
			bad++
		}
	}
	return fail.New(fail.Wanting, answered(fmt.Errorf("%d things in %s are not as they were written", bad, rep.Store)),
		"do not delete them; take a good backup now: steward backup create")
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

func verifyTable(w io.Writer, rep *backup.Report, now time.Time) error {
	var rows [][]string
	for _, v := range rep.Backups {
		result, restore := "ok", ""
		if !v.OK {
			result = "BAD"
		}
		if v.RestoreSeconds > 0 {
			restore = term.Seconds(v.RestoreSeconds)
		}
		rows = append(rows, []string{
			string(v.ID), term.Age(now.Sub(v.Time)), fmt.Sprint(v.Revision), v.Level, result, term.Bytes(v.Bytes), term.Seconds(v.Seconds), restore, v.Problem,
		})
	}
	for _, m := range rep.Missing {
		rows = append(rows, []string{string(m.ID), term.Age(now.Sub(m.Time)), fmt.Sprint(m.Revision), repo.LevelBytes, "LOST", "", "", "", "its data is missing"})
	}
	for _, d := range rep.DamagedDocuments {
		rows = append(rows, []string{d.Key, "", "", repo.LevelBytes, "BAD", "", "", "", d.Problem})
	}
	return term.Table(w, term.Columns("id", ">age", ">revision", "checked", "result", ">read", ">took", ">restore took", "problem"), rows)
}
