package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"etcd-steward/internal/fail"
)

// arrange puts a command line into the order that the flag parser wants: commands, flags, arguments. So flags are accepted
// anywhere, before the command and behind an argument: the parser itself would stop at the first argument. It also turns
// `help X` into `X --help`, and an unknown command into an error with a suggestion.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	takesValue := map[string]bool{}
	flagArity(takesValue, app.Flags, app.Commands)

	var path, flags, rest []string
	commands, help := app.Commands, false
	for i := 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-':
			flags = append(flags, arg)
			if takesValue[strings.TrimLeft(arg, "-")] && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		case len(commands) == 0:
			rest = append(rest, arg)
		case arg == "help":
			help = true
		default:
			c := find(commands, arg)
			if c == nil {
				return nil, unknownCommand(path, arg, commands)
			}
			path, commands = append(path, arg), c.Subcommands
		}
	}
	if help {
		flags, rest = []string{"--help"}, nil
	}
	out := append([]string{args[0]}, path...)
	out = append(out, flags...)
	if len(rest) > 0 {
		out = append(append(out, "--"), rest...)
	}
	return out, nil
}

// flagArity notes for every flag name whether it takes a value. A name means the same everywhere, which a test holds.
func flagArity(into map[string]bool, flags []cli.Flag, commands []*cli.Command) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			into[name] = ok && d.TakesValue()
		}
	}
	for _, c := range commands {
		flagArity(into, c.Flags, c.Subcommands)
	}
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func unknownCommand(path []string, name string, commands []*cli.Command) error {
	whole := strings.Join(append([]string{"steward"}, path...), " ")
	hint := whole + " --help"
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	if best := resembling(name, names); best != "" {
		hint = fmt.Sprintf("did you mean `%s %s`?", whole, best)
	}
	return fail.New(fail.Usage, errors.New("there is no command `"+whole+" "+name+"`"), hint)
}

// resembling is the candidate that name was probably meant to be, or "". The numbers are those with which Jaro and Winkler's measure is
// commonly used: a bonus for up to 4 equal letters at the start.
func resembling(name string, candidates []string) string {
	best, like := "", 0.8
	for _, c := range candidates {
		if d := smetrics.JaroWinkler(name, c, 0.7, 4); d > like {
			best, like = c, d
		}
	}
	return best
}
