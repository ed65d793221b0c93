// Command stewardd takes, prunes and verifies backups of etcd clusters on schedule. It runs on every master and shares the work with
// the others through the store. It also records every change between the snapshots. It takes its settings
// from one file, and keeps no state but what was recorded and is not in the store yet.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/daemon"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/version"
)

// What a daemon beside a control plane may take. GOMEMLIMIT and GOGC, which the unit sets, have precedence.
const (
	gcPercent   = 50
	memoryLimit = 100 << 20
)

func main() { os.Exit(int(execute(os.Args, os.Stdout, os.Stderr))) }

// execute is main with its streams given: it returns the exit code.
func execute(args []string, stdout, stderr io.Writer) fail.Code {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	err := app(stdout, stderr).RunContext(context.Background(), args)
	if err == nil {
		return fail.OK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(stderr, "stewardd: "+line)
	}
	if hint := fail.HintOf(err); hint != "" {
		_, _ = fmt.Fprintln(stderr, "hint: "+hint)
	}
	return fail.ExitCode(err)
}

func app(stdout, stderr io.Writer) *cli.App {
	file := &cli.StringFlag{Name: "config", Usage: "configuration `FILE`", Value: config.DefaultPath}
	return &cli.App{
		Name: "stewardd", Usage: "take, prune and verify backups of etcd on schedule", Version: version.Get().String(),
		UsageText: "stewardd [--config FILE]\nstewardd check-config [--config FILE]",
		Description: "SIGHUP reads the configuration again, and keeps the old one when the new one is bad. SIGTERM ends within 35 s.\n" +
			"The file must belong to root or to the user that runs this, and must not be readable by others.\n" +
			"Exit codes: 0 stopped as asked, 1 failed, 2 bad configuration or usage, 4 refused as unsafe, 130 interrupted.",
		Writer: stdout, ErrWriter: stderr, HideHelpCommand: true, HideVersion: true,
		Flags:          []cli.Flag{file},
		ExitErrHandler: func(*cli.Context, error) {}, // execute says what failed and decides on the code
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return fail.New(fail.Usage, err, "stewardd --help") },
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fail.New(fail.Usage, fmt.Errorf("unknown command %q", c.Args().First()), "stewardd --help")
			}
			// The daemon reads its signals while it runs. Until the process is over, one more must not end it by force: it would look like a crash.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			return daemon.Run(c.Context, daemon.Options{Config: c.String("config"), Log: stderr, Boot: bootElsewhere})
		},
		Commands: []*cli.Command{
			{
				Name: "check-config", Usage: "check the configuration, and the files that it names, without doing anything",
				Flags: []cli.Flag{file}, Action: checkConfig, OnUsageError: func(_ *cli.Context, err error, _ bool) error {
					return fail.New(fail.Usage, err, "stewardd check-config --help")
				},
			},
			{
				Name: "version", Usage: "print the version",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
				Action: printVersion,
			},
			bootCommand(),
		},
	}
}

// checkConfig is for people and for deployment tools: exit code 0 means that the daemon would start with this file.
func checkConfig(c *cli.Context) error {
	path := c.String("config")
	if err := daemon.Check(path); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s is good\n", path)
	return err
}

func printVersion(c *cli.Context) error {
	v := version.Get()
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(v)
	}
	_, err := fmt.Fprintln(c.App.Writer, v)
	return err
}
