package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/internal/version"
)

const description = `Backups are taken by stewardd on schedule; steward looks at them, takes one now, proves them, and restores.

At 3 a.m. with a dead control plane, in this order:
   steward backup list
   steward restore data-dir --dry-run --data-dir /var/lib/etcd ...

Flags may stand anywhere. What is not given as a flag comes from /etc/steward/steward.yaml, then from what this machine runs;
` + "`steward config show`" + ` prints all of it and where it came from.

Exit codes: 0 done and verified; 1 failed; 2 wrong usage; 3 checked and found wanting; 4 refused as unsafe; 130 interrupted.
Results go to standard output, all else to standard error.`

// newApp builds the command line. Nothing of it is global, so a test can have its own.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                 "steward",
		Usage:                "keep etcd recoverable",
		UsageText:            "steward COMMAND [flags] [arguments]",
		Description:          description,
		Version:              version.Get().Version,
		Reader:               stdin,
		Writer:               stdout,
		ErrWriter:            stderr,
		Flags:                globalFlags(all),
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		ExitErrHandler:       func(*cli.Context, error) {}, // run prints it, and chooses the exit code
		Commands: []*cli.Command{
			group("backup", "take, list, prove, prune, compact, export and copy backups",
				createCommand(), listCommand(), showCommand(), verifyCommand(), pruneCommand(), compactCommand(), exportCommand(), copyCommand()),
			group("restore", "bring a member back from a backup", dataDirCommand()),
			memberGroup(),
			healthCommand(),
			keysGroup(),
			planGroup(),
			doctorCommand(),
			defragCommand(),
			compactHistoryCommand(),
			group("alarm", "what etcd itself has raised", alarmListCommand(), alarmDisarmCommand()),
			nospaceCommand(),
			group("config", "what steward and stewardd would use", configShowCommand()),
			versionCommand(), completionCommand(), manCommand(),
		},
	}
	equip("", app.Commands)
	return app
}

// group is a command that only holds others.
func group(name, usage string, commands ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "steward " + name + " COMMAND [flags] [arguments]", Subcommands: commands,
		Action: func(c *cli.Context) error {
			return fail.New(fail.Usage, fmt.Errorf("`steward %s` needs a command", name), "steward "+name+" --help")
		},
	}
}

// equip gives every command the global flags, and errors instead of help texts for wrong usage.
func equip(path string, commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		c.OnUsageError = func(ctx *cli.Context, err error, _ bool) error { return wrongFlag(ctx, err) }
		if len(c.Subcommands) > 0 {
			equip(path+c.Name+" ", c.Subcommands)
			continue
		}
		c.Flags = append(c.Flags, globalFlags(uses[path+c.Name])...)
	}
}

// uses says which global flags a command's help shows.
var uses = map[string]part{
	"backup create":      everywhere | anyStore | anyEtcd | sealing,
	"backup list":        everywhere | anyStore,
	"backup show":        everywhere | anyStore,
	"backup verify":      everywhere | anyStore | opening,
	"backup prune":       everywhere | anyStore | asking,
	"backup compact":     everywhere | anyStore | sealing | opening,
	"backup export":      everywhere | anyStore | opening,
	"backup copy":        everywhere | anyStore,
	"restore data-dir":   everywhere | anyStore | opening | asking,
	"member list":        everywhere | anyEtcd,
	"member add":         everywhere | anyStore | anyEtcd | sealing | asking,
	"member join":        everywhere | anyStore | anyEtcd | asking,
	"member replace":     everywhere | anyStore | anyEtcd | sealing | asking,
	"member remove":      everywhere | anyStore | anyEtcd | sealing | asking,
	"member promote":     everywhere | anyStore | anyEtcd | sealing | asking,
	"member update":      everywhere | anyStore | anyEtcd | sealing | asking,
	"member move-leader": everywhere | anyEtcd,
	"health":             everywhere | anyStore | anyEtcd,
	"keys get":           everywhere | anyStore | opening,
	"keys history":       everywhere | anyStore | opening,
	"keys diff":          everywhere | anyStore | anyEtcd | opening,
	"doctor":             everywhere,
	"defrag":             everywhere | anyStore | anyEtcd | asking,
	"compact":            everywhere | anyStore | anyEtcd,
	"alarm list":         everywhere | anyEtcd,
	"alarm disarm":       everywhere | anyEtcd,
	"nospace":            everywhere | anyStore | anyEtcd | sealing | asking,
	"plan list":          everywhere | anyStore,
	"plan show":          everywhere | anyStore,
	"plan status":        everywhere | anyStore,
	"plan run":           everywhere | anyStore | anyEtcd | asking,
	"plan rollback":      everywhere | anyStore | anyEtcd | asking,
	"plan close":         everywhere | anyStore,
}

// call is one command's run.
type call struct {
	*cli.Context
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// progress is where an operation that was prepared before its bars were drawn reports to; nil: nowhere.
	progress backup.Progress
}

// action wraps a command: --timeout bounds it, -o is checked before anything is done.
func action(f func(c *call) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if out := c.String("output"); out != "table" && out != "json" {
			return usage(c, "-o %s: want table or json", out)
		}
		ctx := c.Context
		if d := c.Duration("timeout"); d > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, d, errTimeout)
			defer cancel()
		} else if d < 0 {
			return usage(c, "--timeout %v: want a positive duration, as in 30m", d)
		}
		err := f(&call{Context: c, ctx: ctx, stdin: c.App.Reader, stdout: c.App.Writer, stderr: c.App.ErrWriter})
		if err != nil && errors.Is(context.Cause(ctx), errTimeout) && !errors.Is(err, errAnswered) {
			return fail.New(fail.Failed, fmt.Errorf("not done within --timeout %v: %w", c.Duration("timeout"), err), "give it more time with --timeout")
		}
		return err
	}
}

var errTimeout = errors.New("--timeout is over")

// json says whether the answer is wanted as one JSON document.
func (c *call) json() bool { return c.String("output") == "json" }

// answer writes the command's result to standard output: v as one JSON document, or the table.
func (c *call) answer(v any, table func(io.Writer) error) error {
	if !c.json() {
		return table(c.stdout)
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// note writes one line for people.
func (c *call) note(format string, a ...any) {
	_, _ = fmt.Fprintf(c.stderr, "%s\n", term.Clean(fmt.Sprintf(format, a...)))
}

// bars draws progress until stop is called; with -o json, and where there is no terminal, nothing is drawn.
func (c *call) bars() (progress backup.Progress, stop func(ok bool)) {
	b := &term.Bars{}
	if !c.json() {
		b = term.NewBars(c.stderr)
	}
	return b.Update, b.Close
}

// confirm asks before something is removed. Without a terminal only --yes will do.
func (c *call) confirm(question string) error {
	if c.Bool("yes") {
		return nil
	}
	if c.json() || !term.IsTerminal(c.stdin) || !term.IsTerminal(c.stderr) {
		return fail.New(fail.Usage, errors.New("nobody is there to say yes"), "add --yes to do it, or --dry-run to see what would be done")
	}
	type answer struct {
		ok  bool
		err error
	}
	answers := make(chan answer, 1)
	// A read from a terminal cannot be broken off, so after Ctrl-C this goroutine ends with the process.
	go func() {
		ok, err := term.Confirm(c.stdin, c.stderr, question)
		answers <- answer{ok, err}
	}()
	select {
	case <-c.ctx.Done():
		_, _ = fmt.Fprintln(c.stderr) // the question's line has no end yet
		return c.ctx.Err()
	case a := <-answers:
		switch {
		case a.err != nil:
			return fmt.Errorf("read the answer: %w", a.err)
		case !a.ok:
			return fail.New(fail.Failed, errors.New("not confirmed: nothing was done"), "")
		}
		return nil
	}
}

// hostname names this machine in what is written; "" when it has no name.
func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}

// args wants between least and most arguments.
func (c *call) args(least, most int, what string) ([]string, error) {
	a := c.Args().Slice()
	switch {
	case len(a) < least:
		return nil, usage(c.Context, "%s is missing", what)
	case most >= 0 && len(a) > most:
		return nil, usage(c.Context, "unexpected argument %q", a[most])
	}
	return a, nil
}
