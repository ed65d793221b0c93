package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/membership/maintain"
)

func compactHistoryCommand() *cli.Command {
	return &cli.Command{
		Name:      "compact",
		Usage:     "remove old history from etcd",
		UsageText: "steward compact [flags]",
		Description: `Removes what keys were before a revision, from every member; what they are now stays. Without --revision and --keep, the last 10,000
revisions stay. The file does not become smaller by it: its free pages are used again, and ` + "`steward defrag`" + ` gives them back.
(Kubernetes' API servers compact every five minutes by themselves. ` + "`steward backup compact`" + ` is about backups, not about etcd.)

What the change log has not recorded yet is never removed: without --revision, less is; with it, it is refused. Whoever watches from an older revision
must list again.

   steward compact
   steward compact --keep 1000
   steward compact --keep 30m         (by the times in the change log)
   steward compact --revision 123456`,
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "revision", Usage: "remove the history before `REVISION`"},
			&cli.StringFlag{Name: "keep", Usage: "how much stays: a number of `REVISIONS`, or a duration as in 30m", DefaultText: "10000"},
			rehearseFlag(), reasonFlag(),
		},
		Action: action(compactHistory),
	}
}

// compactAnswer is what was, or would be, done.
type compactAnswer struct {
	DryRun bool `json:"dry_run"`
	maintain.Compact
	Recorded int64 `json:"recorded_through,omitempty"`
	// Done is false when etcd had been compacted so far before.
	Done bool `json:"done"`
}

func compactHistory(c *call) error {
	if c.IsSet("revision") && c.IsSet("keep") {
		return usage(c.Context, "--revision and --keep: give one of the two")
	}
	if c.IsSet("revision") && c.Int64("revision") < 1 {
		return usage(c.Context, "--revision %d: want a revision, which is at least 1", c.Int64("revision"))
	}
	rule := maintain.CompactRule{Revision: c.Int64("revision"), Keep: maintain.DefaultKeep}
	age := time.Duration(0)
	if text := c.String("keep"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			if age, err = time.ParseDuration(text); err != nil || age <= 0 {
				return usage(c.Context, "--keep %s: want a number of revisions or a duration, as in 10000 or 30m", text)
			}
		} else if n < 0 {
			return usage(c.Context, "--keep %d: want 0 or more", n)
		}
		rule.Keep = n
	}
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
	rule.Recorded = recorded
	if age > 0 {
		if rule.Revision, err = c.revisionAt(cfg, v.Agreed().ClusterID, time.Now().Add(-age)); err != nil {
			return err
		}
	}
	p, gates := maintain.PlanCompact(v, rule)
	if err := c.passed(gates); err != nil {
		return err
	}
	out := compactAnswer{DryRun: c.Bool("dry-run"), Compact: p, Recorded: recorded}
	if p.Revision > 0 && !out.DryRun {
		if out.Done, err = cluster.Compact(c.ctx, v, p.Revision); err != nil {
			return err
		}
	}
	return c.answer(out, out.table)
}

// revisionAt is the revision that was the newest at a moment, as the change log knows it.
func (c *call) revisionAt(cfg *config.Config, cluster uint64, at time.Time) (int64, error) {
	if cfg.Store == "" {
		return 0, fail.New(fail.Usage, fmt.Errorf("--keep %s: which revision that was is known from the change log alone, and no store is configured", c.String("keep")), "--keep REVISIONS")
	}
	r, err := c.existing(cfg)
	if err != nil {
		return 0, err
	}
	ids, err := c.identities(cfg)
	if err != nil {
		return 0, err
	}
	l, err := backup.Locate(c.ctx, r, backup.Point{Time: at}, backup.LocateOptions{Identities: ids})
	if err == nil && uint64(l.Timeline.Cluster) != cluster {
		err = fmt.Errorf("the change log of that time is another cluster's, %s", l.Timeline.Cluster)
	}
	if err != nil {
		return 0, fail.Hint(fmt.Errorf("find the revision of %s: %w", at.UTC().Format(time.RFC3339), err), "--keep REVISIONS")
	}
	return int64(l.Revision), nil
}

func (a compactAnswer) table(w io.Writer) error {
	capped := ""
	if a.Capped {
		capped = "; more would be, but the change log has recorded only up to there (beyond: --revision and --force)"
	}
	var err error
	switch {
	case a.Revision == 0:
		_, err = fmt.Fprintf(w, "nothing to remove: the newest revision is %d\n", a.Current)
	case a.DryRun:
		_, err = fmt.Fprintf(w, "history before revision %d of %d would be removed%s\n", a.Revision, a.Current, capped)
	case a.Done:
		_, err = fmt.Fprintf(w, "history before revision %d of %d is removed%s\n", a.Revision, a.Current, capped)
	default:
		_, err = fmt.Fprintf(w, "history before revision %d of %d was removed before%s\n", a.Revision, a.Current, capped)
	}
	return err
}
