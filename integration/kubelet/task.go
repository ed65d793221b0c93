package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// task is a container's process, started here or by the kubelet before.
type task struct {
	Key   string // namespace, pod and container
	Hash  string // of the manifest that it was started from
	PID   int
	Since string // when the process was started, as the kernel has it: process ids are used again
	Grace time.Duration

	file    string // where the above is kept
	done    chan struct{}
	once    sync.Once
	stopped bool
	started time.Time
	endedAt time.Time     // after done
	pause   time.Duration // before it was started
	wake    func()
}

// containerArg makes this program be what execs a container's command, after it has mounted the volumes.
const containerArg = "in-a-container-of-the-stand-in"

func (t *task) spawn(p *pod, c container) error {
	mounts, err := p.mounts(c)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{containerArg, strings.Join(mounts, ",")}, c.Command...)
	cmd := exec.Command(self, append(args, c.Args...)...)
	cmd.Dir = c.WorkingDir
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range c.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	// Its output is this program's own: the journal of kubelet.service. A group of its own keeps signals that are meant for this program away.
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if len(mounts) > 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	t.PID = cmd.Process.Pid
	if t.Since, err = startTime(t.PID); err == nil {
		err = t.keep()
	}
	if err != nil {
		log.Printf("%s: it will not be known to a later kubelet: %v", t.Key, err)
	}
	go func() {
		_ = cmd.Wait()
		log.Printf("%s ended: %s", t.Key, cmd.ProcessState)
		t.finish()
	}()
	return nil
}

// enter runs in the child: it mounts FROM:TO,..., and becomes the command. It returns only with an error.
func enter(args []string) error {
	if args[0] != "" {
		// What is mounted here must not be seen outside.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		for _, pair := range strings.Split(args[0], ",") {
			from, to, _ := strings.Cut(pair, ":")
			if err := bind(from, to); err != nil {
				return fmt.Errorf("mount %s at %s: %w", from, to, err)
			}
		}
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	return unix.Exec(path, args[1:], os.Environ())
}

func bind(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else if _, err = os.Stat(to); errors.Is(err, os.ErrNotExist) {
		err = os.WriteFile(to, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
}

// adopt takes over what a kubelet before this one has started.
func (k *kubelet) adopt(file string) (*task, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := &task{file: file, done: make(chan struct{}), started: time.Now(), wake: k.wake}
	if err := json.Unmarshal(b, t); err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return nil, err
	}
	if since, err := startTime(t.PID); err != nil || since != t.Since {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%d is another process: %w", t.PID, err)
	}
	go func() {
		defer func() { _ = unix.Close(fd) }()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		log.Printf("%s ended", t.Key)
		t.finish()
	}()
	return t, nil
}

// stop ends it, in order and then by force; it returns at once.
func (t *task) stop(why string) {
	if t.stopped || t.gone() {
		return
	}
	t.stopped = true
	log.Printf("%s is stopped: %s", t.Key, why)
	_ = unix.Kill(t.PID, unix.SIGTERM)
	go func() {
		select {
		case <-t.done:
		case <-time.After(t.Grace):
			log.Printf("%s is killed: %v were not enough", t.Key, t.Grace)
			_ = unix.Kill(-t.PID, unix.SIGKILL)
		}
	}()
}

func (t *task) finish() {
	t.once.Do(func() {
		t.endedAt = time.Now()
		close(t.done)
		t.wake()
	})
}

func (t *task) gone() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// next is how long to wait after its end before it is started again: longer each time that it does not last. Only when it is gone.
func (t *task) next() time.Duration {
	switch {
	case t.stopped:
		return 0
	case t.pause == 0 || t.endedAt.Sub(t.started) > steady:
		return pauseFirst
	}
	return min(2*t.pause, pauseMax)
}

func (t *task) keep() error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(t.file+".new", t.file)
}

func (t *task) forget() { _ = os.Remove(t.file) }

// startTime is field 22 of /proc/PID/stat; the name before it may hold anything.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return f[19], nil
}
