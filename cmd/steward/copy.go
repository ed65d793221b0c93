package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name:      "copy",
		Usage:     "fill a second store with the same backups",
		UsageText: "steward backup copy [ID...] --to URL [flags]",
		ArgsUsage: "[ID...]",
		Description: `Copies all backups and the change log, or the named backups alone, byte for byte: nothing is decrypted, no identity is needed. Each object is checked before it
counts there and after it arrived. It can be interrupted and repeated; what is there and equal is skipped.
A second S3 server that needs other settings is described with the --to-s3-... flags; keys come from its profile.

   steward backup copy --to file:///mnt/usb/backups
   steward backup copy --to s3://elsewhere/backups --to-s3-endpoint https://s3.example.org --to-s3-profile elsewhere`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`URL` of the store to fill"},
			&cli.BoolFlag{Name: "all", Usage: "every backup (the default when no ID is given)", DisableDefaultText: true},
			&cli.StringFlag{Name: "to-s3-endpoint", Usage: "`URL` of that S3 server"},
			&cli.StringFlag{Name: "to-s3-region", Usage: "`REGION` of that bucket"},
			&cli.StringFlag{Name: "to-s3-ca-file", Usage: "`FILE` with the only authorities to trust for that S3 server"},
			&cli.StringFlag{Name: "to-s3-profile", Usage: "`PROFILE` of the shared AWS files to take its keys from"},
		},
		Action: action(copyBackups),
	}
}

func copyBackups(c *call) error {
	boundMemory()
	args, err := c.args(0, -1, "")
	if err != nil {
		return err
	}
	switch {
	case c.String("to") == "":
		return usage(c.Context, "--to URL is missing")
	case c.Bool("all") && len(args) > 0:
		return usage(c.Context, "give IDs or --all")
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	o := backup.CopyOptions{IDs: ids(args)}
	if o.From, err = c.existing(cfg); err != nil {
		return err
	}
	target, err := c.target(cfg)
	if err != nil {
		return err
	}
	if target.String()+"/"+o.From.Cluster() == o.From.Store().String() {
		return usage(c.Context, "--to %s is the store that is copied", target)
	}
	if o.To, err = repo.Open(c.ctx, target, o.From.Cluster()); err != nil {
		return err
	}
	progress, stop := c.bars()
	o.Progress = progress
	out, err := backup.Copy(c.ctx, o)
	stop(err == nil)
	if err != nil {
		return err
	}
	if err := c.answer(out, func(w io.Writer) error { return copyTable(w, out) }); err != nil {
		return err
	}
	if out.OK {
		return nil
	}
	return fail.New(fail.Wanting, answered(fmt.Errorf("%s and %s were not copied", term.Counted(out.Failed, "backup", "backups"), term.Counted(out.Changes.Failed, "segment of the change log", "segments of the change log"))),
		"see what is wrong with them: steward backup verify --all")
}

// target is the second store. When it is on the same server it takes the first one's settings, but for what is given.
func (c *call) target(cfg *config.Config) (store.Store, error) {
	sc := store.Config{URL: c.String("to")}
	if first, err := cfg.StoreConfig(); err == nil && !c.IsSet("to-s3-endpoint") && !c.IsSet("to-s3-profile") {
		sc.S3 = first.S3
	}
	if len(sc.URL) >= 5 && sc.URL[:5] == "file:" {
		sc.S3 = store.S3Options{}
	}
	for flag, field := range map[string]*string{
		"to-s3-endpoint": &sc.S3.Endpoint, "to-s3-region": &sc.S3.Region, "to-s3-ca-file": &sc.S3.CAFile, "to-s3-profile": &sc.S3.Profile,
	} {
		if c.IsSet(flag) {
			*field = c.String(flag)
		}
	}
	st, err := store.Open(c.ctx, sc)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	return st, nil
}

func copyTable(w io.Writer, out *backup.Copied) error {
	var rows [][]string
	for _, b := range out.Backups {
		if b.Problem != "" {
			rows = append(rows, []string{string(b.ID), b.Action, b.Problem})
		}
	}
	for _, p := range out.Changes.Problems {
		rows = append(rows, []string{p.Key, "failed", p.Problem})
	}
	if len(rows) > 0 {
		if err := term.Table(w, term.Columns("id", "result", "problem"), rows); err != nil {
			return err
		}
	}
	if c := out.Changes; c.Copied+c.Skipped+c.Failed > 0 {
		if _, err := fmt.Fprintf(w, "change log: %s copied (%s), %d were there already, %d failed\n", term.Counted(c.Copied, "segment", "segments"), term.Bytes(c.Bytes), c.Skipped, c.Failed); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d copied (%s), %d were there already, %d failed; now in %s\n", out.Copied, term.Bytes(out.Bytes), out.Skipped, out.Failed, out.To)
	return err
}
