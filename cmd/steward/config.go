package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/host"
	"etcd-steward/internal/term"
)

func configShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "print the effective configuration, where each value came from, and what etcd is on this machine",
		UsageText: "steward config show [flags]",
		Description: `Values come from flags, then the environment, then the configuration file, then what this machine runs (kubeadm, kubespray, systemd),
then defaults. Secrets are never printed. Below, what runs etcd and the control plane here: files, data directories, URLs, certificates. Run it as root: keys
of etcd and static pods are for root alone to read.

   steward config show
   steward config show -o json`,
		Action: action(configShow),
	}
}

// shownConfig is the answer of `config show`.
type shownConfig struct {
	File     string           `json:"file,omitempty"`
	Settings []config.Setting `json:"settings"`
	Machine  shownMachine     `json:"machine"`
}

func configShow(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	out := shownConfig{File: cfg.Path(), Settings: cfg.Effective(), Machine: showMachine(host.Detect("/"))}
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
		if err := term.Table(w, term.Columns("field", "value", "from"), rows); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		return out.Machine.write(w)
	})
}
