package main

import (
	"context"
	"fmt"

	"etcd-steward/backup"
	"etcd-steward/internal/config"
	"etcd-steward/internal/term"
)

// backupNow is what membership and maintenance are given to take a backup before they change anything: there is one when it returns, proven from its own bytes.
func (c *call) backupNow(cfg *config.Config) func(ctx context.Context, say func(format string, a ...any)) (string, error) {
	return func(ctx context.Context, say func(format string, a ...any)) (string, error) {
		opts, err := c.createOptions(cfg)
		if err != nil {
			return "", err
		}
		m, err := backup.Create(ctx, opts)
		if err != nil {
			return "", err
		}
		say("backup %s: revision %d, %s, proven", m.ID, m.Database.Revision, term.Bytes(m.Database.Size))
		return fmt.Sprint(m.ID), nil
	}
}
