package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// onTerminal starts steward on a terminal.
func onTerminal(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, seen func() string) {
	t.Helper()
	seen, tty := watched(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, args...)
	cmd.Args[0] = "steward" // testscript runs the program under its name
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, seen
}

// TestPlansOnATerminal: a plan is watched on a page of its own, and what it came to stays on the terminal. A question that is
// answered with Ctrl-C ends its line.
func TestPlansOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := "file://" + filepath.Join(dir, "store")
	if err := os.Mkdir(filepath.Join(dir, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"STEWARD_CONFIG=", "STEWARD_STORE=" + url, "STEWARD_CLUSTER=main", "STEWARD_STATE=" + filepath.Join(dir, "state"), "WORLD=" + dir}
	st, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	p, err := testPlan([]string{"m1/a", "m2/b<a"})
	if err != nil {
		t.Fatal(err)
	}
	runner := &plan.Runner{
		Board: r.Plans(plan.DocumentKind), Machine: plan.Machine{ID: "1", Host: "m1"}, Dir: filepath.Join(dir, "plans"),
		Lock: &planLock{store: st, machine: plan.Machine{ID: "1", Host: "m1"}, dir: dir, ttl: time.Minute},
	}
	if err := runner.Open(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	wait := func(seen func() string, what, word string) {
		t.Helper()
		lab.Eventually(t, 20*time.Second, what, func() error {
			if !strings.Contains(seen(), word) {
				return fmt.Errorf("no %q in %q", word, seen())
			}
			return nil
		})
	}

	cmd, seen := onTerminal(t, env, "plan", "run", p.ID, "--party", "m1")
	wait(seen, "it asks", "[y/N] ")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != int(fail.Interrupted) {
		t.Errorf("exit code %d", code)
	}
	wait(seen, "the line of the question ends", "[y/N] \r\nsteward: interrupted")

	cmd, seen = onTerminal(t, env, "plan", "status", "--watch")
	wait(seen, "it draws", "\x1b[?1049h")
	wait(seen, "it shows the plan", "possible until the plan is done")
	if err := runner.Close(t.Context(), p.ID, "seen enough"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	wait(seen, "the terminal is given back", "\x1b[?25h\x1b[?1049l")
	if after := seen()[strings.LastIndex(seen(), "\x1b[?1049l"):]; !strings.Contains(after, "abandoned") || strings.Contains(after, "\x1b[H") {
		t.Errorf("what it came to does not stay: %q", after)
	}
}
