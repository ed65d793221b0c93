// Command steward looks at backups of etcd, takes them, proves them and restores them. It is what a person types, so every failure
// is one sentence and, where there is one, the next command to type. It holds no state: the repository does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
)

func main() { os.Exit(int(run(os.Args, os.Stdin, os.Stdout, os.Stderr))) }

// run is main with its streams given: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) fail.Code {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The first signal asks for an orderly end, the second one is not caught.
	defer context.AfterFunc(ctx, stop)()

	app := newApp(stdin, stdout, stderr)
	args, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil {
		return fail.OK
	}
	return explain(stderr, err, ctx.Err() != nil)
}

// explain says what failed, and what to type next, and returns the exit code.
func explain(w io.Writer, err error, interrupted bool) fail.Code {
	if interrupted && !errors.Is(err, errAnswered) {
		what := ": " + sentence(err)
		if err == context.Canceled { //nolint:errorlint // alone it says nothing more
			what = ""
		}
		_, _ = fmt.Fprintf(w, "steward: interrupted%s\n", what)
		return fail.Interrupted
	}
	code := fail.ExitCode(err)
	_, _ = fmt.Fprintf(w, "steward: %s\n", sentence(err))
	if hint := hintFor(err); hint != "" {
		_, _ = fmt.Fprintf(w, "hint: %s\n", term.Clean(hint))
	}
	return code
}

// sentence is an error's text, harmless for a terminal. The problems of a configuration have a line each.
func sentence(err error) string {
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		lines = append(lines, term.Clean(line))
	}
	return strings.Join(lines, "\n  ")
}

// errAnswered marks an error that is the answer of a check, not a failure to check.
var errAnswered = errors.New("answered")

// hintFor is the hint that the error carries, or the one that its kind deserves.
func hintFor(err error) string {
	if hint := fail.HintOf(err); hint != "" {
		return hint
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "give it more time with --timeout, or see what is slow with --timeout 0"
	}
	if ps := config.Problems(nil); errors.As(err, &ps) {
		return "correct it; `steward config show` shows what applies and where each value comes from"
	}
	return store.HintFor(err)
}

// usage is an error of wrong flags or arguments.
func usage(c *cli.Context, format string, a ...any) error {
	return fail.New(fail.Usage, fmt.Errorf(format, a...), c.Command.HelpName+" --help")
}
