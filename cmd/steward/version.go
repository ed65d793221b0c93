package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/version"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print which build this is",
		Action: action(func(c *call) error {
			v := version.Get()
			return c.answer(v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, v)
				return err
			})
		}),
	}
}
