package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/internal/version"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "take one backup now",
		UsageText: "steward backup create [flags]",
		Description: `Streams one snapshot from the healthiest member (a follower before the leader; what is left of a cluster without
quorum, and then it says so), compresses and encrypts it on the way, proves it from its own bytes, and stores it.
There is a backup when this command has printed its ID, not before.

   steward backup create
   steward backup create --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert etcd.crt --key etcd.key \
      --store s3://backups/prod --recipient age1...`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "local", Usage: "from the member of the first endpoint, not from the best one", DisableDefaultText: true},
			&cli.BoolFlag{Name: "adopt", Usage: "this cluster was restored from this repository by other means: accept its cluster ID from now on", DisableDefaultText: true},
			spoolFlag(),
		},
		Action: action(create),
	}
}

func create(c *call) error {
	boundMemory()
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	opts, err := c.createOptions(cfg)
	if err != nil {
		return err
	}
	progress, stop := c.bars()
	opts.Progress = progress
	begun := time.Now()
	m, err := backup.Create(c.ctx, opts)
	stop(err == nil)
	if err != nil {
		return err
	}
	return c.answer(m, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s  revision %d, %s keys, %s stored as %s, proven, in %s\n", m.ID, m.Database.Revision,
			term.Count(m.Database.Keys), term.Bytes(m.Database.Size), term.Bytes(m.Object.Size), term.Seconds(time.Since(begun).Seconds()))
		return err
	})
}

// createOptions decides on encryption before anything is asked over the network.
func (c *call) createOptions(cfg *config.Config) (backup.CreateOptions, error) {
	o := backup.CreateOptions{Unencrypted: cfg.Encryption.None, Adopt: c.Bool("adopt"), Host: hostname(), Program: version.Get().Version}
	var err error
	if o.Spool.Recipients, err = cfg.Recipients(); err != nil {
		return o, err
	}
	if o.Spool.Dir, err = c.spoolDir(cfg); err != nil {
		return o, err
	}
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return o, fail.New(fail.Usage, err, "--cluster NAME")
	}
	if o.Cluster, err = cl.Etcd(); err != nil {
		return o, err
	}
	o.Cluster.Local = o.Cluster.Local || c.Bool("local")
	o.Spool.StallTimeout = time.Duration(cl.Snapshot.StallTimeout)
	if err := snapshot.CleanSpool(o.Spool.Dir); err != nil {
		c.note("the spool folder: %v", err)
	}
	st, err := c.store(cfg)
	if err != nil {
		return o, err
	}
	if o.Repo, err = repo.Open(c.ctx, st, cl.Name); err != nil {
		return o, err
	}
	o.Chosen = func(m snapshot.Member) {
		c.note("snapshot from %s (%s): %s", m.Name, m.Endpoint, m.Note)
		if !m.Quorum {
			c.note("warning: the cluster has no quorum: this backup may lack its last writes, or hold some that were never acknowledged")
		}
	}
	return o, nil
}
