package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/maintain"
)

func nospaceCommand() *cli.Command {
	return &cli.Command{
		Name:      "nospace",
		Usage:     "the way out when etcd is full and refuses writes",
		UsageText: "steward nospace [flags]",
		Description: `Shows what it is going to do, asks, and does it: a backup; removal of old history (never of what the change log lacks); defragmentation of one member
after the other; then, when every database is below 90 % of its quota, it takes the NOSPACE alarm away; and last it proves that writes are accepted, by a
lease that it grants and revokes. No key is removed. Interrupted or failed, it can be asked for again at any moment.

When the data themselves are near the quota, it says so and which keys are the most: then only deleting some, or a larger --quota-backend-bytes, helps.
Exit code 0 says that writes are accepted and the alarm is gone.

   steward nospace --dry-run
   steward nospace --yes`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-backup", Usage: "take no backup before", DisableDefaultText: true},
			&cli.DurationFlag{Name: "pause", Usage: "`DURATION` between two members: no writes are served anyway", DefaultText: "none"},
			spoolFlag(), rehearseFlag(), reasonFlag(),
		},
		Action: action(nospace),
	}
}

// nospaceAnswer is what was, or would be, done.
type nospaceAnswer struct {
	DryRun bool             `json:"dry_run"`
	Plan   maintain.Nospace `json:"plan"`
	Backup string           `json:"backup,omitempty"`
	Result *maintain.Freed  `json:"result,omitempty"`
}

func nospace(c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cluster, v, err := c.maintenance(cfg)
	if err != nil {
		return err
	}
	recorded, err := c.recordedOrForced(cfg, v)
	if err != nil {
		return err
	}
	p, gates := maintain.PlanNospace(v, recorded)
	out := nospaceAnswer{DryRun: c.Bool("dry-run"), Plan: p}
	if err := c.passed(gates); err != nil {
		return err
	}
	for _, g := range cluster.Rooms().Narrow(v, p.Defrag) { // when history is gone, less may be in use
		c.note("warning: %s: without room it is not defragmented, and the alarm stays; %s", g, g.Safe)
	}
	backup := cfg.Store != "" && !c.Bool("no-backup")
	if out.DryRun {
		return c.answer(out, func(w io.Writer) error { return nospacePlan(w, p, backup) })
	}
	if p.Needed {
		if err := nospacePlan(c.stderr, p, backup); err != nil {
			return err
		}
		if err := c.confirm("Do this?"); err != nil {
			return err
		}
	}
	if p.Needed && backup {
		c.note("taking a backup before anything is removed")
		out.Backup, err = c.backupNow(cfg)(c.ctx, c.note)
		if err != nil {
			return fail.Hint(fmt.Errorf("the backup before anything is removed: %w", err), hintOr(err, "--no-backup does without"))
		}
	}
	var result maintain.Freed
	err = c.alone(cfg, func() error {
		result, err = cluster.Free(c.ctx, p, maintain.NospaceOptions{Pause: c.Duration("pause"), Force: c.String("force"), Known: gates})
		return err
	})
	out.Result = &result
	if err != nil {
		if text := result.FullText; text != "" {
			c.note("%s", text)
			_ = prefixTable(c.stderr, result.Full)
		}
		if c.ctx.Err() != nil {
			return fail.Hint(err, "the same again goes on: steward nospace")
		}
		return err
	}
	return c.answer(out, func(w io.Writer) error { return nospaceTable(w, p, result) })
}

// nospacePlan is the plan for people.
func nospacePlan(w io.Writer, p maintain.Nospace, backup bool) error {
	var all []error
	say := func(format string, a ...any) {
		_, err := fmt.Fprintf(w, format+"\n", a...)
		all = append(all, err)
	}
	if !p.Needed {
		say("no NOSPACE alarm is raised: only whether writes are accepted would be looked at")
		return errors.Join(all...)
	}
	for _, a := range p.Alarms {
		say("alarm NOSPACE, raised by %s", term.Clean(a.Name))
	}
	all = append(all, term.Table(w, term.Columns("member", ">size", ">in use", ">quota", ">of it"), sizeRows(p.Sizes)))
	n := 1
	if backup {
		say("%d. take a backup", n)
		n++
	}
	switch {
	case p.Compact.Capped:
		say("%d. remove the history before revision %d of %d: up to there the change log has it", n, p.Compact.Revision, p.Compact.Current)
	default:
		say("%d. remove the history before revision %d, the newest", n, p.Compact.Revision)
	}
	for _, s := range p.Defrag.Steps {
		n++
		leader := ""
		if s.Leader && !p.Defrag.Single {
			leader = ", the leader, after another one leads"
		}
		say("%d. defragment %s%s", n, term.Clean(s.Name), leader)
	}
	say("%d. take the alarm away, when every database is below 90 %% of its quota", n+1)
	say("%d. prove that writes are accepted", n+2)
	return errors.Join(all...)
}

func nospaceTable(w io.Writer, p maintain.Nospace, r maintain.Freed) error {
	all := []error{term.Table(w, term.Columns("member", ">size", ">in use", ">quota", ">of it"), sizeRows(r.Sizes))}
	what := "writes are accepted, and the alarm is gone"
	if !p.Needed {
		what = "writes are accepted, and no NOSPACE alarm was raised"
	}
	_, err := fmt.Fprintln(w, what)
	all = append(all, err)
	if r.FullText != "" {
		_, err := fmt.Fprintf(w, "warning: %s\n", term.Clean(r.FullText))
		all = append(all, err, prefixTable(w, r.Full))
	}
	return errors.Join(all...)
}

func prefixTable(w io.Writer, all []maintain.Prefix) error {
	var rows [][]string
	for _, p := range all {
		rows = append(rows, []string{p.Prefix, term.Count(p.Keys), "about " + term.Bytes(p.Bytes)})
	}
	return term.Table(w, term.Columns("keys that begin with", ">keys", ">size"), rows)
}
