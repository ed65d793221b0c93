package main

import "github.com/urfave/cli/v2"

func memberGroup() *cli.Command {
	return group("member", "see the members of a cluster", memberListCommand())
}
