package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

// Result is how a command on a machine ended.
type Result struct {
	Stdout, Stderr string
	Code           int // -1: it could not be started, or was killed
}

// Err is nil when the command succeeded.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("exit code %d: %s", r.Code, strings.TrimSpace(r.Stdout+r.Stderr))
}

// Run runs a command as root on the machine and waits for it. The end of ctx kills it.
func (m *Machine) Run(ctx context.Context, args ...string) Result {
	cmd, err := m.command(args)
	if err != nil {
		return Result{Stderr: err.Error(), Code: -1}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err = cmd.Start(); err == nil {
		stop := context.AfterFunc(ctx, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
		err = cmd.Wait()
		stop()
	}
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Stderr, r.Code = r.Stderr+err.Error(), -1
	}
	return r
}

// Must is Run for what has to succeed; it returns the standard output.
func (m *Machine) Must(t lab.T, args ...string) string {
	t.Helper()
	r := m.Run(t.Context(), args...)
	if err := r.Err(); err != nil {
		t.Fatalf("%s on %s: %v", strings.Join(args, " "), m.Name, err)
	}
	return r.Stdout
}

// Script runs a shell script, up to the first command that fails, and returns the standard output. It has to succeed.
func (m *Machine) Script(t lab.T, text string) string {
	t.Helper()
	return m.Must(t, "sh", "-euc", text)
}

// Systemctl runs systemctl, which has to succeed, and returns its standard output.
func (m *Machine) Systemctl(t lab.T, args ...string) string {
	t.Helper()
	return m.Must(t, append([]string{"systemctl", "--no-pager"}, args...)...)
}

// Property is one of a unit's, as systemctl show has it.
func (m *Machine) Property(t lab.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(m.Systemctl(t, "show", "--value", "-p", name, unit))
}

// Journal is what a unit has logged in all boots, without prefixes.
func (m *Machine) Journal(t lab.T, unit string) string {
	t.Helper()
	return m.Must(t, "journalctl", "--no-pager", "-o", "cat", "-u", unit)
}

// Process is a command that runs in the background on a machine.
type Process struct{ *lab.Process }

// Exec starts a command as root on the machine; its output goes to Process.Log. The end of the test kills it, and so does that of the machine.
func (m *Machine) Exec(t lab.T, args ...string) *Process {
	t.Helper()
	cmd, err := m.command(args)
	if err != nil {
		t.Fatalf("start %s on %s: %v", args[0], m.Name, err)
	}
	p := &Process{lab.Start(t, m.Name+"-"+strings.ReplaceAll(args[0], "/", "-"), cmd)}
	t.Cleanup(p.Kill)
	return p
}

// Signal sends sig to the command (and not only to the process that brought it into the machine).
func (p *Process) Signal(sig unix.Signal) error { return unix.Kill(-p.PID(), sig) }

// Kill ends the command at once, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.Signal(unix.SIGKILL)
	<-p.Done()
}

// command enters all of the machine's namespaces. Only what is given here of the environment gets in.
func (m *Machine) command(args []string) (*exec.Cmd, error) {
	leader := m.Leader()
	if leader == 0 {
		return nil, fmt.Errorf("%s is off", m.Name)
	}
	enter := []string{
		"-t", strconv.Itoa(leader), "-a", "env", "-i", "-C", "/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8",
	}
	cmd := exec.Command("nsenter", append(enter, args...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd, nil
}
