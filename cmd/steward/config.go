package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/term"
)

func configShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print the effective configuration, and where each value came from",
		UsageText: "steward config show [flags]",
		Description: `Values come from flags, then the environment, then the configuration file, then what this machine runs (kubeadm, kubespray, systemd),
then defaults. Secrets are never printed.

   steward config show
   steward config show -o json`,
		Action: action(configShow),
	}
}

// shownConfig is the answer of `config show`.
type shownConfig struct {
	File     string           `json:"file,omitempty"`
	Settings []config.Setting `json:"settings"`
}

func configShow(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	out := shownConfig{File: cfg.Path(), Settings: cfg.Effective()}
	return c.answer(out, func(w io.Writer) error {
		var rows [][]string
		for _, s := range out.Settings {
			value := s.Value
			if value == "" {
				value = "-"
			}
			rows = append(rows, []string{s.Field, value, s.From})
		}
		if out.File == "" {
			c.note("there is no configuration file (%s)", config.DefaultPath)
		}
		if cfg.Store == "" {
			c.note("no store is configured: --store URL, or store: in the file")
		}
		return term.Table(w, term.Columns("field", "value", "from"), rows)
	})
}
