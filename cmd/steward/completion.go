package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
)

// The shells ask the program itself, through the hidden flag --generate-bash-completion of urfave/cli.
const bashCompletion = `# bash completion for steward: source it, or put it into /usr/share/bash-completion/completions/steward
_steward() {
  local cur words
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _steward steward
`

const zshCompletion = `#compdef steward
# zsh completion for steward: put it into a folder of $fpath as _steward
_steward() {
  local -a opts
  local cur="${words[CURRENT]}"
  local -a asked=("${(@)words[1,CURRENT-1]}")
  [[ "$cur" == -* ]] && asked+=("$cur")
  opts=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${opts[1]}" ]]; then _describe 'values' opts; else _files; fi
}
if [[ "${funcstack[1]}" == _steward ]]; then _steward "$@"; else compdef _steward steward; fi
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		UsageText: "steward completion bash|zsh|fish",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			var script string
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				var err error
				if script, err = documented().ToFishCompletion(); err != nil {
					return fmt.Errorf("make the fish completion: %w", err)
				}
			default:
				return fail.New(fail.Usage, errors.New("which shell? bash, zsh or fish"), "steward completion bash")
			}
			_, err := io.WriteString(c.App.Writer, script)
			return err
		},
	}
}

func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the man page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			page, err := documented().ToManWithSection(8)
			if err != nil {
				return fmt.Errorf("make the man page: %w", err)
			}
			_, err = io.WriteString(c.App.Writer, page)
			return err
		},
	}
}

// documented is the command line as a document wants it: global flags once, each command's explanation with it.
func documented() *cli.App {
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	var describe func(commands []*cli.Command)
	describe = func(commands []*cli.Command) {
		for _, c := range commands {
			var own []cli.Flag
			for _, f := range c.Flags {
				if cat, ok := f.(cli.CategorizableFlag); !ok || cat.GetCategory() == "" {
					own = append(own, f)
				}
			}
			c.Flags = own
			if c.UsageText == "" {
				c.UsageText = "steward " + c.Name
			}
			c.UsageText += "\n\n" + c.Description
			describe(c.Subcommands)
		}
	}
	describe(app.Commands)
	app.Setup()
	return app
}
