package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"etcd-steward/membership/health/doctor"
)

// TestDoctorNamesCommands: every command of ours that the doctor tells people to type exists.
func TestDoctorNamesCommands(t *testing.T) {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	find := func(commands []*cli.Command, name string) *cli.Command {
		for _, c := range commands {
			if c.HasName(name) {
				return c
			}
		}
		return nil
	}
	named := regexp.MustCompile(`steward ([a-z-]+)(?: ([a-z-]+))?`)
	n := 0
	for _, s := range doctor.Signatures {
		for _, next := range s.Next {
			for _, m := range named.FindAllStringSubmatch(next, -1) {
				n++
				c := find(app.Commands, m[1])
				if c == nil || len(c.Subcommands) > 0 && find(c.Subcommands, m[2]) == nil {
					t.Errorf("%s: there is no command in %q", s.ID, next)
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d commands are named", n)
	}
}
