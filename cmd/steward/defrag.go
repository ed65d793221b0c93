package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/maintain"
)

func defragCommand() *cli.Command {
	return &cli.Command{
		Name:      "defrag",
		Usage:     "give free pages back to the disk, one member after the other",
		UsageText: "steward defrag [flags]",
		Description: `Defragments the members that are worth it, one at a time: followers first, the most fragmented before the others; the leader last, after
another one leads. Before each, all must be well; after each, it waits until the member is, and then for --pause. It stops at the first failure.
Worth it is a file of at least --min-size with at least --min-fragmentation of it free, or one at more than 80 % of its quota.

A member answers nobody while it is defragmented (about a second for 50 MB of data). A cluster of one member stands still meanwhile: that needs --yes.
A new file is written beside the old one: on each host the disk must have room for the data in use, and a tenth more. Of this host's etcd that is looked
at; of the others it cannot be seen from here.

   steward defrag --dry-run
   steward defrag
   steward defrag --all --pause 1m`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "every voter, whatever its size", DisableDefaultText: true},
			&cli.StringFlag{Name: "min-size", Value: "100MiB", Usage: "smallest `SIZE` of a file that is worth it"},
			&cli.StringFlag{Name: "min-fragmentation", Value: "45%", Usage: "smallest free `SHARE` of a file that is worth it"},
			pauseFlag(), rehearseFlag(), reasonFlag(),
		},
		Action: action(defrag),
	}
}

// defragAnswer is what was, or would be, done.
type defragAnswer struct {
	DryRun bool `json:"dry_run"`
	maintain.Defrag
	Unseen []string        `json:"disk_not_seen,omitempty"` // members whose disk cannot be looked at from here
	Done   []maintain.Done `json:"done"`
}

func (c *call) defragRule() (r maintain.Rule, err error) {
	var size config.Size
	if size, err = config.ParseSize(c.String("min-size")); err != nil || size < 1 {
		return r, usage(c.Context, "--min-size %s: want a size, as in 100MiB", c.String("min-size"))
	}
	if r.MinFree, err = percent(c.String("min-fragmentation")); err != nil || r.MinFree == 0 {
		return r, usage(c.Context, "--min-fragmentation %s: want a share of the file, as in 45%%", c.String("min-fragmentation"))
	}
	if c.Bool("all") && (c.IsSet("min-size") || c.IsSet("min-fragmentation")) {
		return r, usage(c.Context, "--all and --min-size or --min-fragmentation contradict each other")
	}
	r.All, r.MinSize = c.Bool("all"), int64(size)
	return r, nil
}

func defrag(c *call) error {
	rule, err := c.defragRule()
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cluster, v, err := c.maintenance(cfg)
	if err != nil {
		return err
	}
	out := defragAnswer{DryRun: c.Bool("dry-run"), Defrag: maintain.PlanDefrag(v, rule), Done: []maintain.Done{}}
	rooms := cluster.Rooms()
	gates := maintain.GatesOfDefrag(v, out.Defrag, rooms)
	if len(out.Steps) > 0 {
		if err := c.passed(gates); err != nil {
			return err
		}
	}
	if out.Unseen = rooms.Unseen(out.Defrag); len(out.Unseen) > 0 && !c.json() {
		c.note("whether the disk has room for the data in use cannot be seen from here: %s", strings.Join(out.Unseen, ", "))
	}
	if out.DryRun || len(out.Steps) == 0 {
		return c.answer(out, out.table)
	}
	if out.Single && !c.Bool("yes") {
		limit := out.Steps[0].Limit.Round(time.Second)
		c.note("the cluster is one member: it answers nobody while it is defragmented, for up to %v", limit)
		if err := c.confirm("Stop answering for so long?"); err != nil {
			return err
		}
	}
	err = c.alone(cfg, func() error {
		out.Done, err = cluster.Defrag(c.ctx, out.Defrag, maintain.DefragOptions{Pause: c.Duration("pause"), Force: c.String("force"), Known: gates})
		return err
	})
	if out.Done == nil {
		out.Done = []maintain.Done{}
	}
	if err != nil {
		for _, d := range out.Done {
			c.note("done before: %s, %s before, %s after", d.Name, term.Bytes(d.Before), term.Bytes(d.After))
		}
		return fail.Hint(err, hintOr(err, "steward health; then the same again: what is done is not worth it any more"))
	}
	return c.answer(out, out.table)
}

// hintOr is the error's own hint, or another.
func hintOr(err error, other string) string {
	if h := hintFor(err); h != "" {
		return h
	}
	return other
}

func (a defragAnswer) table(w io.Writer) error {
	if len(a.Steps) == 0 {
		_, err := fmt.Fprintln(w, "no member is worth a defragmentation")
		if err != nil {
			return err
		}
	}
	var rows [][]string
	for _, s := range a.Steps {
		row := []string{s.Name, "", term.Bytes(s.Size), term.Bytes(s.InUse), "", "", s.Why}
		if s.Leader {
			row[1] = "leader"
		}
		for _, d := range a.Done {
			if d.Name == s.Name {
				row[4], row[5] = term.Bytes(d.After), term.Seconds(d.Seconds)
			}
		}
		rows = append(rows, row)
	}
	for _, l := range a.Left {
		rows = append(rows, []string{l.Name, "left out", "", "", "", "", l.Why})
	}
	if len(rows) == 0 {
		return nil
	}
	return term.Table(w, term.Columns("member", "role", ">size", ">in use", ">size after", ">took", "why"), rows)
}
