package machines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootTimeout is many times what a boot takes here, since tests share the processors.
const bootTimeout = 90 * time.Second

// rebooted is how systemd-nspawn says, with --keep-unit, that the machine wants to be started again.
const rebooted = 133

// run is one boot: a systemd-nspawn process, and what it tells over its notification socket.
type run struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when systemd has started everything
	known chan struct{} // closed when the leader's process id is known
	done  chan struct{} // closed when the machine is off
	pid   int           // of the leader, after known
}

// spawn starts the machine, unless it is on, or a run other than after was the last: two at once cannot both start it.
func (m *Machine) spawn(after *run) (*run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.retired:
		return nil, errors.New("the test has ended")
	case m.run != nil && !m.run.over() && m.run != after:
		return nil, errors.New("it is on already")
	}
	groups, err := makeCgroups(m.link())
	if err != nil {
		return nil, err
	}
	dir := m.net.slot.folder(m.index)
	socket := filepath.Join(dir, "notify")
	_ = os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	console, err := os.OpenFile(m.consoleFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	// The shell enters the machine's control groups before systemd-nspawn looks which are its own.
	enter := `while [ "$1" != -- ]; do echo $$ >"$1" || exit; shift; done; shift; exec "$@"`
	args := append(append([]string{"-c", enter, "sh"}, groups...), "--",
		"systemd-nspawn", "-q", "-b", "-D", m.Root, "-M", m.link(), "--hostname="+m.Name, "--register=no", "--keep-unit",
		"--network-namespace-path=/run/netns/"+m.link(), "--notify-ready=yes", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe")
	r := &run{cmd: exec.Command("sh", args...), ready: make(chan struct{}), known: make(chan struct{}), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = console, console
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + socket}
	r.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	err = r.cmd.Start()
	_ = console.Close()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	m.run = r
	go r.listen(conn)
	go func() {
		_ = r.cmd.Wait()
		_ = conn.Close()
		if r.cmd.ProcessState.ExitCode() == rebooted {
			_ = removeCgroups(m.link())
			close(r.done)
			_, _ = m.spawn(r) // a machine that cannot be started again is one that is off
			return
		}
		close(r.done)
	}()
	return r, nil
}

// listen follows the notifications until the socket is closed.
func (r *run) listen(conn *net.UnixConn) {
	var ready, known sync.Once
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch {
			case name == "X_NSPAWN_LEADER_PID":
				known.Do(func() {
					r.pid, _ = strconv.Atoi(value)
					close(r.known)
				})
			case name == "READY" && value == "1":
				ready.Do(func() { close(r.ready) })
			}
		}
	}
}

// wait waits until systemd has started everything.
func (r *run) wait(ctx context.Context) error {
	deadline := time.After(bootTimeout)
	for _, event := range []chan struct{}{r.known, r.ready} {
		select {
		case <-event:
		case <-r.done:
			return fmt.Errorf("it ended: %s", r.cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("not up within %v", bootTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// leader is 0 until it is known.
func (r *run) leader() int {
	select {
	case <-r.known:
		return r.pid
	default:
		return 0
	}
}

// kill ends the machine: the kernel ends all processes of a process namespace with the first.
func (r *run) kill() error {
	pid := r.leader()
	if pid == 0 {
		pid = r.cmd.Process.Pid
	}
	if r.over() {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-time.After(20 * time.Second):
		return errors.New("it does not end")
	}
}
