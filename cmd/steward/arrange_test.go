package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
)

func testApp() *cli.App { return newApp(strings.NewReader(""), io.Discard, io.Discard) }

// TestArrange: flags may stand anywhere, and an argument that looks like a flag stays an argument behind --.
func TestArrange(t *testing.T) {
	for in, want := range map[string]string{
		"steward":                                      "steward",
		"steward --store s3://b/p backup list":         "steward backup list --store s3://b/p",
		"steward backup --cluster x show ID -o json":   "steward backup show --cluster x -o json -- ID",
		"steward backup show ID --store=file:///x -y":  "steward backup show --store=file:///x -y -- ID",
		"steward backup verify A --deep B --last 3":    "steward backup verify --deep --last 3 -- A B",
		"steward backup show -- -ID --store x":         "steward backup show -- -ID --store x",
		"steward backup export X --to -":               "steward backup export --to - -- X",
		"steward help":                                 "steward --help",
		"steward help backup show":                     "steward backup show --help",
		"steward backup help":                          "steward backup --help",
		"steward backup list --unknown value":          "steward backup list --unknown -- value",
		"steward backup list --store":                  "steward backup list --store",
		"steward --version":                            "steward --version",
		"steward backup ls --generate-bash-completion": "steward backup ls --generate-bash-completion",
	} {
		got, err := arrange(testApp(), strings.Fields(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	_, err := arrange(testApp(), []string{"steward", "bakup"})
	if fail.ExitCode(err) != fail.Usage || fail.HintOf(err) != "did you mean `steward backup`?" {
		t.Errorf("got %v, hint %q", err, fail.HintOf(err))
	}
}

// TestFlagsMeanOneThing: arrange decides by a flag's name alone whether a value follows, so a name must not mean two things.
func TestFlagsMeanOneThing(t *testing.T) {
	takes := map[string]bool{}
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			seen := map[string]bool{}
			for _, f := range c.Flags {
				value := f.(cli.DocGenerationFlag).TakesValue()
				for _, name := range f.Names() {
					if was, ok := takes[name]; ok && was != value {
						t.Errorf("%s %s: --%s takes a value here and none elsewhere, or the other way round", path, c.Name, name)
					}
					if seen[name] {
						t.Errorf("%s %s: two flags are called --%s", path, c.Name, name)
					}
					takes[name], seen[name] = value, true
				}
				if secret := strings.Join(f.Names(), " "); strings.Contains(secret, "secret") || strings.Contains(secret, "password ") {
					t.Errorf("%s %s: --%s would show a secret to every user of the machine", path, c.Name, secret)
				}
			}
			walk(path+" "+c.Name, c.Subcommands)
		}
	}
	walk("steward", testApp().Commands)
	if len(takes) < 40 {
		t.Errorf("only %d flags were looked at", len(takes))
	}
}

// TestHelpOfEveryCommand: each command has an example that this program understands as far as its flags go.
func TestHelpOfEveryCommand(t *testing.T) {
	n := 0
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			here := append(append([]string{}, path...), c.Name)
			if len(c.Subcommands) > 0 {
				walk(here, c.Subcommands)
				continue
			}
			if c.Hidden || c.Name == "version" {
				continue
			}
			n++
			for line := range strings.Lines(strings.ReplaceAll(c.Description, "\\\n", "")) {
				example, ok := strings.CutPrefix(strings.TrimSpace(line), strings.Join(here, " "))
				if !ok {
					continue
				}
				example, _, _ = strings.Cut(example, " (")
				for _, word := range strings.Fields(example) {
					if name, ok := strings.CutPrefix(word, "--"); ok && !strings.Contains(helpOf(t, here), "--"+name) {
						t.Errorf("%v: its example uses --%s, its help does not show it", here, name)
					}
				}
			}
			if !strings.Contains(c.Description, "\n   "+strings.Join(here, " ")) {
				t.Errorf("%v has no example", here)
			}
		}
	}
	walk([]string{"steward"}, testApp().Commands)
	if n < 9 {
		t.Errorf("only %d commands were looked at", n)
	}
}

// TestUses: every command says which global flags its help shows, and nothing is said of commands that there are not.
func TestUses(t *testing.T) {
	leaves := map[string]bool{}
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			if len(c.Subcommands) > 0 {
				walk(path+c.Name+" ", c.Subcommands)
				continue
			}
			leaves[path+c.Name] = true
		}
	}
	walk("", testApp().Commands)
	for name := range leaves {
		switch name {
		case "config show", "version", "completion", "man": // about all flags, or none
		default:
			if uses[name] == 0 {
				t.Errorf("%s: its help shows no global flags", name)
			}
		}
	}
	for name := range uses {
		if !leaves[name] {
			t.Errorf("%s is no command", name)
		}
	}
}

func helpOf(t *testing.T, path []string) string {
	t.Helper()
	var out bytes.Buffer
	app := newApp(strings.NewReader(""), &out, io.Discard)
	if err := app.Run(append(path, "--help")); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
