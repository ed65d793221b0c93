package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/health/doctor"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "read a log of etcd, and say what is wrong and what to do",
		UsageText: "steward doctor [flags] LOGFILE | - | -u UNIT",
		Description: `Reads a log once, whatever its size, and names every known trouble that it shows: what it means, how often and when, its cause,
and the next command; the worst and most recent first. It reads etcd's own lines (JSON or text), what clients were told (an API server's log),
and either of them in a container runtime's or journald's wrapping. It asks no etcd and changes nothing: ` + "`steward health`" + ` does the asking.

   steward doctor -u etcd
   steward doctor /var/log/pods/kube-system_etcd-*/etcd/0.log
   kubectl logs -n kube-system etcd-m1 | steward doctor -

Exit code 0 says that nothing that is known was found, 3 that something was.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "unit", Aliases: []string{"u"}, Usage: "read the journal of this systemd `UNIT`"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 100_000, Usage: "how many of the journal's last `LINES`"},
		},
		Action: action(runDoctor),
	}
}

// diagnosis is the answer.
type diagnosis struct {
	Log string `json:"log"`
	*doctor.Report
}

func runDoctor(c *call) error {
	unit := c.String("unit")
	args, err := c.args(0, -1, "")
	switch {
	case err != nil:
		return err
	case unit == "" && len(args) == 0:
		return usage(c.Context, "a log file is missing")
	case unit != "" && len(args) > 0:
		return usage(c.Context, "-u %s and %q: give one of the two", unit, args[0])
	case len(args) > 1:
		return usage(c.Context, "unexpected argument %q: one log at a time", args[1])
	case unit != "" && strings.HasPrefix(unit, "-"):
		return usage(c.Context, "-u %s: want the name of a unit, as in etcd.service", unit)
	case c.Int("lines") < 1:
		return usage(c.Context, "--lines %d: want at least 1", c.Int("lines"))
	case c.IsSet("lines") && unit == "":
		return usage(c.Context, "--lines is for -u UNIT; a file is read whole")
	}
	d := diagnosis{Log: "journal of " + unit}
	if unit != "" {
		d.Report, err = c.readJournal(unit)
	} else {
		d.Log = args[0]
		d.Report, err = c.readLog(args[0])
	}
	if err != nil {
		return err
	}
	if err := c.answer(d, d.table); err != nil {
		return err
	}
	if len(d.Found) > 0 {
		return fail.New(fail.Wanting, answered(fmt.Errorf("%s shows %s", d.Log, term.Counted(len(d.Found), "known trouble", "known troubles"))), d.Found[0].Next[0])
	}
	if d.Lines == 0 {
		c.note("%s is empty", d.Log)
	}
	return nil
}

// readLog reads a file, or standard input for "-".
func (c *call) readLog(path string) (*doctor.Report, error) {
	in := c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fail.New(fail.Usage, fmt.Errorf("open the log: %w", err), "steward doctor -u etcd reads the journal")
		}
		defer func() { _ = f.Close() }()
		if st, err := f.Stat(); err == nil && st.IsDir() {
			return nil, fail.New(fail.Usage, fmt.Errorf("%s is a folder", path), "name a file in it")
		}
		in = f
	}
	return doctor.Read(c.ctx, in, time.Now())
}

// readJournal asks journalctl, which knows where the journal is, for the unit's last lines.
func (c *call) readJournal(unit string) (*doctor.Report, error) {
	cmd := exec.CommandContext(c.ctx, "journalctl", "--unit", unit, "--no-pager", "--output", "short-iso", "--lines", strconv.Itoa(c.Int("lines")))
	cmd.WaitDelay = 5 * time.Second
	var said strings.Builder
	cmd.Stderr = &limited{&said, 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	const elsewhere = "steward doctor LOGFILE; of a static pod: steward doctor /var/log/pods/kube-system_etcd-*/etcd/0.log"
	if err := cmd.Start(); err != nil {
		return nil, fail.Hint(fmt.Errorf("read the journal: %w", err), elsewhere)
	}
	r, readErr := doctor.Read(c.ctx, out, time.Now())
	if readErr != nil {
		_ = cmd.Process.Kill()
	}
	switch err := cmd.Wait(); {
	case readErr != nil:
		return nil, readErr
	case err != nil:
		return nil, fail.Hint(fmt.Errorf("read the journal of %s: journalctl: %w: %s", unit, err, strings.TrimSpace(said.String())), elsewhere)
	case r.Lines <= 1: // journalctl says in one line that it has none, and that is no error to it
		return nil, fail.Hint(fmt.Errorf("the journal holds nothing of unit %s", unit), elsewhere)
	}
	return r, nil
}

// limited keeps the beginning of what is written.
type limited struct {
	to   *strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.to.Write(p[:n])
	l.left -= n
	return len(p), nil
}

func (d diagnosis) table(w io.Writer) error {
	if len(d.Found) == 0 {
		_, err := fmt.Fprintf(w, "nothing that is known was found in %s\n", term.Counted(int(d.Lines), "line", "lines"))
		return err
	}
	for i, f := range d.Found {
		severity := f.Severity.String()
		if f.Over {
			severity += ", over since: etcd went on"
		}
		fields := []term.Field{
			{Name: "cause", Value: f.Cause}, {Name: "seen", Value: howOften(f)}, {Name: "line", Value: f.Example},
		}
		for j, next := range f.Next {
			name := "next"
			if j > 0 {
				name = ""
			}
			fields = append(fields, term.Field{Name: name, Value: next})
		}
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintf(w, "%s: %s (%s)\n", f.ID, f.Means, severity); err != nil {
			return err
		}
		if err := term.Fields(w, fields); err != nil {
			return err
		}
	}
	if d.Cut > 0 {
		_, err := fmt.Fprintf(w, "\n%s so long that only the beginning was read\n", term.Counted(int(d.Cut), "line was", "lines were"))
		return err
	}
	return nil
}

// howOften says how often, and when.
func howOften(f doctor.Found) string {
	moment := func(m doctor.Moment) string {
		if m.Time == nil {
			return fmt.Sprintf("in line %d", m.Line)
		}
		return fmt.Sprintf("%s in line %d", m.Time.UTC().Format(time.RFC3339), m.Line)
	}
	if f.Lines == 1 {
		return "once, " + moment(f.Last)
	}
	return fmt.Sprintf("%d times, first %s, last %s", f.Lines, moment(f.First), moment(f.Last))
}
