package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// terminal is a pseudo-terminal: what is written to the second is read from the first.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 200}); err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

// watched is a terminal, and all that was ever written to it.
func watched(t *testing.T) (seen func() string, tty *os.File) {
	t.Helper()
	screen, tty := terminal(t)
	var mu sync.Mutex
	var drawn bytes.Buffer
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			drawn.Write(buf[:n])
			mu.Unlock()
		}
	}()
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return drawn.String()
	}, tty
}

// TestWatch: --watch draws one page again and again, sees what happens meanwhile, and gives the terminal back when it is interrupted.
func TestWatch(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{Members: 3, UnsafeNoFsync: true})
	seen, tty := watched(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "health", "--watch", "--endpoints", c.Endpoint(0))
	cmd.Args[0] = "steward" // testscript runs the program under its name
	cmd.Env = append(os.Environ(), "STEWARD_CONFIG=", "STEWARD_STORE=")
	cmd.Stdout, cmd.Stderr = tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	wait := func(what string, words ...string) {
		t.Helper()
		lab.Eventually(t, 20*time.Second, what, func() error {
			for _, w := range words {
				if !strings.Contains(seen(), w) {
					return fmt.Errorf("no %q in %q", w, seen())
				}
			}
			return nil
		})
	}
	wait("it draws", "\x1b[?1049h", "3 voters, 3 up, quorum 2: 1 more may fail")
	c.Kill(2)
	wait("it sees a member die", "it does not answer from here [unreachable]")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ended
	if code := cmd.ProcessState.ExitCode(); code != int(fail.Interrupted) {
		t.Errorf("exit code %d", code)
	}
	wait("the terminal is given back", "\x1b[?25h\x1b[?1049l")
	if after := seen()[strings.LastIndex(seen(), "\x1b[?1049l"):]; strings.Contains(after, "\x1b[H") {
		t.Errorf("it drew on: %q", after)
	}
}
