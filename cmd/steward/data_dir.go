package main

import (
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"etcd-steward/restore"
)

func dataDirCommand() *cli.Command {
	return &cli.Command{
		Name:      "data-dir",
		Usage:     "restore one member's data directory, offline",
		UsageText: "steward restore data-dir [--id ID|--to-revision R|--to-time TIME] --data-dir DIR --name NAME --initial-cluster LIST --initial-advertise-peer-urls URLS [flags]",
		Description: `Run it on each master, with etcd and kube-apiserver stopped on all of them, and with the same --initial-cluster. It restores the newest
revision that can be reached, out of the newest snapshot and the change log behind it; or the one that --to-revision or --to-time names; or, with --id, a
snapshot alone. It checks every byte, and puts a complete data directory into place; it prints the flags for etcd's first start,
and the commands for the other members. Nothing is overwritten: a directory that is not empty is refused, move it aside first.
The new cluster gets a token and an ID of its own, and a revision above all that were seen, so that Kubernetes' caches notice.
docs/RUNBOOK-3AM.md has the whole procedure.

   steward restore data-dir --dry-run --data-dir /var/lib/etcd --name m1 \
      --initial-cluster m1=https://10.0.0.1:2380 --initial-advertise-peer-urls https://10.0.0.1:2380`,
		Flags:  dataDirFlags(),
		Action: action(dataDir),
	}
}

func dataDirFlags() []cli.Flag {
	return append(pointFlags(), []cli.Flag{
		&cli.StringFlag{Name: "from-file", Usage: "restore this snapshot `FILE`: etcd's own, or a downloaded object (.zst, .age)"},
		&cli.BoolFlag{Name: "skip-hash-check", Usage: "accept a --from-file without etcd's hash, such as a db file copied from a disk", DisableDefaultText: true},
		&cli.StringFlag{Name: "data-dir", Usage: "`DIR` to restore into; it must not exist, or be empty"},
		&cli.StringFlag{Name: "wal-dir", Usage: "`DIR` for the write-ahead log (default: inside the data directory)"},
		&cli.StringFlag{Name: "name", Usage: "this member's `NAME`"},
		&cli.StringFlag{Name: "initial-cluster", Usage: "all members, the same `LIST` on every host: m1=https://10.0.0.1:2380,m2=..."},
		&cli.StringFlag{Name: "initial-cluster-token", Usage: "`TOKEN` of the new cluster (default: a new one; for several members the same on every host)"},
		&cli.GenericFlag{Name: "initial-advertise-peer-urls", Value: &words{}, Usage: "this member's peer `URLS`"},
		&cli.StringFlag{Name: "bump-revision", Usage: "add this `NUMBER` to the revision; 0 keeps the exact history", DefaultText: "above every revision that the repository has seen"},
		&cli.BoolFlag{Name: "mark-compacted", Usage: "as etcdutl has it; a bump implies it", DisableDefaultText: true},
		&cli.StringFlag{Name: "server-version", Usage: "`MINOR` version of the etcd that will run, when it is older than the one that was backed up (3.5)"},
		&cli.BoolFlag{Name: "allow-same-cluster-id", Usage: "accept a cluster ID that was in use before: old members that still run would join", DisableDefaultText: true},
		&cli.StringFlag{Name: "owner", Usage: "`USER:GROUP` of the result", DefaultText: "whoever owned the directory before, or its parent"},
		&cli.StringFlag{Name: "mode", Usage: "octal `MODE` of the data directory", DefaultText: "0700"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing", DisableDefaultText: true},
	}...)
}

func dataDir(c *call) error {
	boundMemory()
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	o, err := c.restoreOptions()
	if err != nil {
		return err
	}
	plan, err := restore.Prepare(c.ctx, o)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		if err := c.answer(plan, plan.Write); err != nil {
			return err
		}
		c.note("dry run: nothing was changed")
		return nil
	}
	if !c.Bool("yes") && !c.json() {
		if err := plan.Write(c.stderr); err != nil {
			return err
		}
	}
	if err := c.confirm("Restore into " + plan.DataDir + "?"); err != nil {
		return err
	}
	progress, stop := c.bars()
	c.progress = progress
	res, err := plan.Execute(c.ctx)
	stop(err == nil)
	if err != nil {
		return err
	}
	return c.answer(res, res.Write)
}

func (c *call) restoreOptions() (restore.Options, error) {
	o := restore.Options{
		File: c.String("from-file"), SkipHashCheck: c.Bool("skip-hash-check"),
		DataDir: c.String("data-dir"), WALDir: c.String("wal-dir"),
		Name: c.String("name"), InitialCluster: c.String("initial-cluster"), InitialClusterToken: c.String("initial-cluster-token"),
		InitialAdvertisePeerURLs: wordsOf(c.Context, "initial-advertise-peer-urls"),
		MarkCompacted:            c.Bool("mark-compacted"), ServerVersion: c.String("server-version"), AllowSameClusterID: c.Bool("allow-same-cluster-id"),
		Owner: c.String("owner"),
		// The bars are made after the plan was shown.
		Progress: func(stage string, done, total int64) {
			if c.progress != nil {
				c.progress(stage, done, total)
			}
		},
	}
	if err := c.restoreNumbers(&o); err != nil {
		return o, err
	}
	var err error
	if o.Point, err = c.point(); err != nil {
		return o, err
	}
	cfg, err := c.config()
	if err != nil {
		return o, err
	}
	if o.Identities, err = c.identities(cfg); err != nil {
		return o, err
	}
	o.CommonArgs = c.commonArgs()
	if o.File != "" {
		return o, nil
	}
	o.Repo, err = c.existing(cfg)
	return o, err
}

// restoreNumbers reads --bump-revision and --mode.
func (c *call) restoreNumbers(o *restore.Options) error {
	if c.IsSet("bump-revision") {
		n, err := strconv.ParseInt(c.String("bump-revision"), 10, 64)
		if err != nil || n < 0 {
			return usage(c.Context, "--bump-revision %q: want a number from 0", c.String("bump-revision"))
		}
		o.BumpRevision = &n
	}
	if c.IsSet("mode") {
		n, err := strconv.ParseUint(c.String("mode"), 8, 32)
		if err != nil || n == 0 || n > 0o777 {
			return usage(c.Context, "--mode %q: want an octal mode as 0700", c.String("mode"))
		}
		o.Mode = os.FileMode(n)
	}
	return nil
}

// commonArgs are what this run was told about store, cluster and identity, by flags or by the environment, for the commands that are
// printed for the other hosts. None of it is a secret.
func (c *call) commonArgs() []string {
	var args []string
	for _, s := range []struct{ flag, env string }{{"config", "STEWARD_CONFIG"}, {"cluster", "STEWARD_CLUSTER"}} {
		if v := c.flagOr(s.flag, s.env); v != "" {
			args = append(args, "--"+s.flag, v)
		}
	}
	for _, s := range settings {
		if s.part != everywhere && s.part != anyStore {
			continue
		}
		switch v := c.flagOr(s.flag, s.env); {
		case s.kind == toggle && c.Bool(s.flag):
			args = append(args, "--"+s.flag)
		case s.kind == text && v != "":
			args = append(args, "--"+s.flag, v)
		}
	}
	for _, f := range c.identityFiles() {
		args = append(args, "--identity", f)
	}
	return args
}
