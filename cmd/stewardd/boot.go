package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/restore"
	"etcd-steward/restore/datadir"
)

// A deep verification starts a real etcd on a database that may be damaged, which may end the process that does it. So it is done by a
// child: this same program with a hidden command.
const bootName = "boot"

// startWithin bounds etcd's start on a restored database.
const startWithin = 10 * time.Minute

// bootOutputMax bounds what is read of the child's answer and of its complaints.
const bootOutputMax = 64 << 10

// bootElsewhere is backup.Boot in a child process.
func bootElsewhere(ctx context.Context, file string, m *repo.Manifest) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, bootName, "--revision", fmt.Sprint(m.Database.Revision), file)
	cmd.Env = bootEnvironment()
	cmd.WaitDelay = 10 * time.Second
	answer, complaint := &tail{}, &tail{}
	cmd.Stdout, cmd.Stderr = answer, complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("boot a scratch etcd: %w: %s", err, complaint)
	}
	var served datadir.Served
	if err := json.Unmarshal(answer.b, &served); err != nil {
		return 0, fmt.Errorf("boot a scratch etcd: %w", err)
	}
	return served.Seconds, restore.CompareServed(served, m.Database)
}

// bootEnvironment keeps systemd's sockets and secrets, and the memory limit of a process that holds no etcd, from the child.
func bootEnvironment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR"), "GOMEMLIMIT=off"}
}

func bootCommand() *cli.Command {
	return &cli.Command{
		Name: bootName, Hidden: true, Usage: "start a scratch etcd on a snapshot file, and print what it serves",
		Flags: []cli.Flag{&cli.StringFlag{Name: "revision", Required: true}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("want one file")
			}
			rev, err := strconv.ParseInt(c.String("revision"), 10, 64)
			if err != nil {
				return fmt.Errorf("revision: %w", err)
			}
			file := c.Args().First()
			served, err := datadir.Boot(c.Context, file, filepath.Dir(file), revision.Revision(rev), startWithin)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.App.Writer).Encode(served)
		},
	}
}

// tail keeps the last bytes that were written, within bootOutputMax.
type tail struct{ b []byte }

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - bootOutputMax; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
