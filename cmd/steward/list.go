package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

// shownByDefault is how many backups list shows: as many as a person reads.
const shownByDefault = 50

func listCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "show what can be restored",
		UsageText: "steward backup list [flags]",
		Description: `One line per backup, the newest first. VERIFIED says how far the last check went (bytes, database, deep) and how
long ago. Uploads that did not finish are no backups, and are counted below the table. When there is a change log, a second table shows in which
ranges every revision, and so every moment, can be restored (--to-revision, --to-time), and the gaps between them; below it stands how far the log has come.
Exits with 3 when there is nothing to restore from.

   steward backup list
   steward backup list --all -o json`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "show this `NUMBER` of the newest backups", Value: shownByDefault},
			&cli.BoolFlag{Name: "all", Usage: "show every backup", DisableDefaultText: true},
		},
		Action: action(listBackups),
	}
}

func listBackups(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	last := c.Int("last")
	switch {
	case c.Bool("all") && c.IsSet("last"):
		return usage(c.Context, "--all and --last do not go together")
	case c.Bool("all"):
		last = 0
	case last < 1:
		return usage(c.Context, "--last %d: want 1 or more", last)
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	r, err := c.existing(cfg)
	if err != nil {
		return err
	}
	l, err := backup.List(c.ctx, backup.ListOptions{Repo: r, Last: last})
	if err != nil {
		return err
	}
	if err := c.answer(l, func(w io.Writer) error {
		return errors.Join(listTable(w, l, time.Now()), momentsTable(w, l.AnyMoment, l.Timelines, time.Now()))
	}); err != nil {
		return err
	}
	listNotes(c, l)
	return nothingToRestore(l)
}

// nothingToRestore is the answer that nobody wants: exit code 3.
func nothingToRestore(l *backup.Listing) error {
	if slices.ContainsFunc(l.Backups, backup.Row.Good) || l.Older > 0 {
		return nil
	}
	hint := "take one now: steward backup create"
	err := fmt.Errorf("there is nothing to restore from in %s", l.Store)
	switch {
	case len(l.Backups) > 0:
		err = fmt.Errorf("none of the backups in %s is good", l.Store)
		hint = "see what is wrong: steward backup verify --all"
	case l.ClusterID == "" && l.Objects == 0:
		hint = "check --store and --cluster (steward config show), or take the first one: steward backup create"
	}
	return fail.New(fail.Wanting, answered(err), hint)
}

// answered marks an error as the answer of a check.
func answered(err error) error { return &answer{err} }

type answer struct{ error }

func (a *answer) Unwrap() []error { return []error{a.error, errAnswered} }

func listTable(w io.Writer, l *backup.Listing, now time.Time) error {
	if len(l.Backups) == 0 {
		return nil
	}
	columns := term.Columns("id", "time", ">age", ">revision", ">size", ">stored", ">keys", "etcd", "timeline", "verified", "locked until", "problem", "made from")
	var rows [][]string
	var below problems
	for _, b := range l.Backups {
		row := []string{
			string(b.ID), term.Time(b.Time), term.Age(now.Sub(b.Time)), fmt.Sprint(b.Revision), "", term.Bytes(b.Stored), "", b.EtcdVersion, "",
			verified(b.Verified, now), "", "", string(b.MadeFrom),
		}
		if b.Problem != "" {
			row[11] = "BAD"
			below.add(string(b.ID), b.Problem)
		}
		if b.Size > 0 {
			row[4], row[6] = term.Bytes(b.Size), term.Count(b.Keys)
		}
		if l.Timelines > 1 {
			row[8] = b.Timeline.String()
		}
		if !b.LockedUntil.IsZero() {
			row[10] = term.Time(b.LockedUntil)
		}
		if b.NoQuorum && b.Problem == "" {
			row[11] = "taken without quorum"
		}
		rows = append(rows, row)
	}
	if err := term.Table(w, columns, rows); err != nil {
		return err
	}
	return below.write(w)
}

// verified is how far the last check went, and when.
func verified(v *repo.Verification, now time.Time) string {
	switch {
	case v == nil:
		return "never"
	case v.OK:
		return fmt.Sprintf("%s, %s ago", v.Level, term.Age(now.Sub(v.At)))
	}
	return fmt.Sprintf("FAILED %s ago", term.Age(now.Sub(v.At)))
}

// listNotes says below the table what is not in it.
func listNotes(c *call, l *backup.Listing) {
	if l.Older > 0 {
		c.note("%s not shown: --all, or --last N", term.Counted(l.Older, "older one is", "older ones are"))
	}
	looseNotes(c, l.Unfinished, l.Missing, l.Strange)
}

// looseNotes reports objects that lack their other half.
func looseNotes(c *call, unfinished, missing []backup.Loose, strange []string) {
	if n := len(unfinished); n > 0 {
		newest := unfinished[n-1]
		c.note("%s, the newest %s old (%s): not a backup; prune removes such after a day", term.Counted(n, "unfinished upload", "unfinished uploads"), term.Age(time.Since(newest.Time)), newest.ID)
	}
	for i, m := range missing {
		if i == 5 {
			c.note("and %d more whose data is missing", len(missing)-i)
			break
		}
		c.note("backup %s of %s is LOST: its manifest is there, its data is not", m.ID, term.Time(m.Time))
	}
	if n := len(strange); n > 0 {
		c.note("%s none of steward's, such as %s", term.Counted(n, "object is", "objects are"), strange[0])
	}
}
