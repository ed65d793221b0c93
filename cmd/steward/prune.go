package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

// keepFlags override the configured retention, field by field.
var keepFlags = []struct{ flag, field, usage string }{
	{"keep-last", "cluster.retention.last", "keep this `NUMBER` of the newest backups"},
	{"keep-hourly", "cluster.retention.hourly", "keep the newest of each of the last `N` hours that have one"},
	{"keep-daily", "cluster.retention.daily", "keep the newest of each of the last `N` days that have one"},
	{"keep-weekly", "cluster.retention.weekly", "keep the newest of each of the last `N` ISO weeks that have one"},
	{"keep-monthly", "cluster.retention.monthly", "keep the newest of each of the last `N` months that have one"},
	{"keep-within", "cluster.retention.within", "keep all that are younger than this `DURATION`, as in 14d"},
	{"keep-any-moment", "cluster.retention.any_moment", "keep what any moment of the last `DURATION` needs, as in 72h"},
}

func pruneCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would be removed and why, and change nothing", DisableDefaultText: true},
		&cli.BoolFlag{Name: "allow-large", Usage: "the policy was changed on purpose, or prune has not run for long: remove it all", DisableDefaultText: true},
	}
	for _, k := range keepFlags {
		flags = append(flags, &cli.StringFlag{Name: k.flag, Usage: k.usage + " (default: as configured)"})
	}
	return &cli.Command{
		Name:      "prune",
		Usage:     "remove the backups that the retention policy does not keep",
		UsageText: "steward backup prune [--dry-run] [flags]",
		Description: `A backup stays when one rule keeps it. Whatever the policy says, the newest good backups and the newest proven one stay. Of the
change log stays what any moment of the window (any_moment, --keep-any-moment) needs, and what follows the newest backup. The plan is
stored before anything is removed, and an interrupted prune is resumed by the next one. Locked backups stay until their lock ends.

   steward backup prune --dry-run
   steward backup prune --keep-daily 14 --yes`,
		Flags:  flags,
		Action: action(prune),
	}
}

func prune(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	o, err := c.pruneOptions(cfg)
	if err != nil {
		return err
	}
	progress, stop := c.bars()
	stop(true)
	shown := false
	o.Confirm = func(res *backup.PruneResult) error {
		if !c.json() {
			shown = true
			if err := pruneTable(c.stdout, res, time.Now()); err != nil {
				return err
			}
		}
		if err := c.confirm(removeQuestion(res)); err != nil {
			return err
		}
		progress, stop = c.bars()
		return nil
	}
	o.Progress = func(stage string, done, total int64) { progress(stage, done, total) }
	res, err := backup.Prune(c.ctx, o)
	stop(err == nil)
	if err != nil {
		return err
	}
	return c.answer(res, func(w io.Writer) error { return pruneReport(w, res, shown, time.Now()) })
}

func (c *call) pruneOptions(cfg *config.Config) (backup.PruneOptions, error) {
	o := backup.PruneOptions{DryRun: c.Bool("dry-run"), AllowLarge: c.Bool("allow-large"), Host: hostname()}
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return o, fail.New(fail.Usage, err, "--cluster NAME")
	}
	o.Policy, o.Location = cl.Policy(), cl.Location()
	if o.Repo, err = c.existing(cfg); err != nil {
		return o, err
	}
	if _, ok := o.Repo.Identity(); !ok {
		return o, fail.New(fail.Wanting, fmt.Errorf("there is no repository in %s", o.Repo.Store()), "check --store and --cluster: steward config show")
	}
	return o, nil
}

func pruneTable(w io.Writer, res *backup.PruneResult, now time.Time) error {
	var rows [][]string
	add := func(what string, f backup.Fate) {
		if !f.LockedUntil.IsZero() {
			what = "locked"
			f.Why = append([]string{"until " + term.Time(f.LockedUntil)}, f.Why...)
		}
		rows = append(rows, []string{what, string(f.ID), term.Time(f.Time), term.Age(now.Sub(f.Time)), fmt.Sprint(f.Revision), term.Bytes(f.Bytes), strings.Join(f.Why, ", ")})
	}
	for _, f := range res.Remove {
		add("remove", f)
	}
	for _, f := range res.Keep {
		add("keep", f)
	}
	if err := term.Table(w, term.Columns("what", "id", "time", ">age", ">revision", ">stored", "why"), rows); err != nil {
		return err
	}
	return segmentsTable(w, res.Segments)
}

// segmentsTable has one row for each stretch of the change log that shares its fate.
func segmentsTable(w io.Writer, fates []backup.SegmentsFate) error {
	if len(fates) == 0 {
		return nil
	}
	var rows [][]string
	for _, f := range fates {
		what := "remove"
		if f.Keep {
			what = "keep"
		}
		rows = append(rows, []string{
			what, f.Timeline.String(), fmt.Sprintf("%d-%d", f.First, f.Last), term.Count(int64(f.Segments)), term.Bytes(f.Bytes), term.Time(f.Oldest), term.Time(f.Newest), f.Why,
		})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return term.Table(w, term.Columns("what", "change log", "revisions", ">segments", ">stored", "from", "to", "why"), rows)
}

// removeQuestion says what is about to go.
func removeQuestion(res *backup.PruneResult) string {
	segments := 0
	for _, f := range res.Segments {
		if !f.Keep {
			segments += f.Segments
		}
	}
	text := "Remove " + term.Counted(len(res.Remove), "backup", "backups")
	if segments > 0 {
		text += " and " + term.Counted(segments, "segment of the change log", "segments of the change log")
	}
	return text + "?"
}

// pruneReport says what was done; the table only when it was not shown before.
func pruneReport(w io.Writer, res *backup.PruneResult, shown bool, now time.Time) error {
	if !shown {
		if err := pruneTable(w, res, now); err != nil {
			return err
		}
	}
	var lines []string
	for _, l := range res.Left {
		line := fmt.Sprintf("%s stays: %s", l.ID, l.Kept)
		if !l.LockedUntil.IsZero() {
			line += " until " + term.Time(l.LockedUntil)
		}
		lines = append(lines, line)
	}
	if n := len(res.Resumed); n > 0 && !res.DryRun {
		lines = append(lines, term.Counted(n, "interrupted prune was", "interrupted prunes were")+" ended first")
	}
	if res.SegmentsRemoved > 0 {
		lines = append(lines, term.Counted(res.SegmentsRemoved, "segment", "segments")+" of the change log removed")
	}
	if res.SegmentsLocked > 0 {
		line := term.Counted(res.SegmentsLocked, "segment of the change log stays", "segments of the change log stay") + ": locked by the store"
		if !res.SegmentsLockedUntil.IsZero() {
			line += ", the last until " + term.Time(res.SegmentsLockedUntil)
		}
		lines = append(lines, line)
	}
	switch {
	case res.DryRun && res.Refused != "":
		lines = append(lines, "dry run: nothing was removed; a real run would refuse: "+res.Refused)
	case res.DryRun:
		lines = append(lines, fmt.Sprintf("dry run: nothing was removed; policy: %s", res.Policy))
	default:
		lines = append(lines, fmt.Sprintf("%d removed, %s freed, %d kept; policy: %s", res.Removed, term.Bytes(res.Freed), len(res.Keep), res.Policy))
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}
