package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestNextExists: every command that health tells people to type is one.
func TestNextExists(t *testing.T) {
	files, err := filepath.Glob("../../membership/health/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../../docs/HEALTH.md")
	command := regexp.MustCompile(`\bsteward ([a-z-]+)(?: ([a-z-]+))?`)
	n := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			n++
			c := named(newApp(nil, io.Discard, io.Discard).Commands, m[1])
			if c == nil || len(c.Subcommands) > 0 && named(c.Subcommands, m[2]) == nil {
				t.Errorf("%s: %q is no command", filepath.Base(path), m[0])
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d commands were found", n)
	}
}

func named(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
