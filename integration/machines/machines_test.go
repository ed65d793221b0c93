package machines

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

func TestMain(m *testing.M) {
	// These tests wait most of the time.
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestMachines: machines boot without a failed unit, differ in what must differ, reach each other by name and the test, and hold files.
func TestMachines(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	n := Start(t, Options{Count: 2, IPv6: true})
	t.Logf("2 machines were up after %v", time.Since(begin))
	ids := map[string]bool{}
	for i, m := range n.Machines {
		if got := strings.TrimSpace(m.Must(t, "systemctl", "is-system-running")); got != "running" {
			t.Errorf("%s is %s:\n%s", m.Name, got, m.Systemctl(t, "--failed"))
		}
		if got, want := strings.TrimSpace(m.Must(t, "hostname")), fmt.Sprintf("m%d", i+1); got != want || m.Name != want {
			t.Errorf("%s says that it is %s, want %s", m.Name, got, want)
		}
		ids[m.ReadFile(t, "/etc/machine-id")] = true
	}
	if len(ids) != 2 {
		t.Errorf("the machines' IDs are %v, want two", ids)
	}
	m1, m2 := n.Machine("m1"), n.Machine("m2")
	for _, to := range []string{m1.IP, m1.IP6} {
		if err := reach(m2, m1, to); err != nil {
			t.Errorf("from m2 to m1 by %s: %v", to, err)
		}
	}
	if hosts := m2.Must(t, "getent", "ahosts", "m1"); !strings.Contains(hosts, m1.IP) || !strings.Contains(hosts, m1.IP6) {
		t.Errorf("m2 resolves m1 to\n%s", hosts)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(n.HostIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	m1.Must(t, "bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(l.Addr().String(), ":", "/", 1))

	m1.Script(t, "useradd --system --user-group lab")
	m1.WriteFile(t, "/srv/a/b/secret", "x\n", 0o640, "lab")
	m1.WriteFile(t, "/run/in-memory", "y\n", 0o644, "")
	if got := m1.Must(t, "stat", "-c", "%a %U %G %s", "/srv/a/b/secret"); got != "640 lab lab 2\n" {
		t.Errorf("the file is %q", got)
	}
	if got := m1.Must(t, "cat", "/run/in-memory") + m1.ReadFile(t, "/run/in-memory"); got != "y\ny\n" {
		t.Errorf("the file in memory holds %q", got)
	}
	if r := m1.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 7"); r != (Result{"out\n", "err\n", 7}) {
		t.Errorf("a command ended with %+v", r)
	}
}

// reach connects from a machine to an address of another, on which something listens.
func reach(from, to *Machine, addr string) error {
	const port = "7777"
	cmd, err := to.command([]string{"timeout", "20", "systemd-socket-activate", "-l", port, "--accept", "--inetd", "/bin/echo", "hello"})
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", net.JoinHostPort(addr, port), time.Second); err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// TestTrouble: a machine that is cut off, in front of a black hole, without power or rebooting is so, and comes back.
func TestTrouble(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{Count: 2})
	m1, m2 := n.Machine("m1"), n.Machine("m2")
	ping := func(target string) error {
		return m1.Run(t.Context(), "timeout", "0.3", "bash", "-c", "exec 3<>/dev/tcp/"+target).Err()
	}
	m2.Exec(t, "systemd-socket-activate", "-l", "7777", "-l", "7778", "--accept", "--inetd", "/bin/echo", "hello")
	up := func(what string) {
		t.Helper()
		lab.Eventually(t, 5*time.Second, what+": m1 reaches m2", func() error { return ping(m2.IP + "/7777") })
	}
	up("at first")
	m2.Cut(t)
	if ping(m2.IP+"/7777") == nil {
		t.Error("m1 reaches m2, which is cut off")
	}
	m2.Heal(t)
	up("healed")
	for _, hole := range []string{n.slot.ip(12), ":7777", n.slot.ip(12) + ":7777"} {
		m1.Blackhole(t, hole)
		if ping(m2.IP+"/7777") == nil {
			t.Errorf("m1 reaches m2 through the black hole %s", hole)
		}
		if err := ping(m2.IP + "/7778"); (err == nil) != strings.Contains(hole, ":") {
			t.Errorf("with the black hole %s, another port of m2: %v", hole, err)
		}
		m1.Heal(t)
		up("out of " + hole)
	}

	m2.Must(t, "touch", "/var/kept", "/run/lost")
	was := m2.Generation()
	m2.PowerCut(t)
	if m2.Leader() != 0 || m2.Run(t.Context(), "true").Code != -1 {
		t.Error("m2 runs without power")
	}
	m2.WriteFile(t, "/var/written-while-off", "", 0o644, "")
	m2.Boot(t)
	if m2.Generation() == was || !m2.Exists(t, "/var/kept") || !m2.Exists(t, "/var/written-while-off") || m2.Exists(t, "/run/lost") {
		t.Error("after the power cut, m2 does not have what a disk has")
	}
	m2.Reboot(t)
	if got := strings.TrimSpace(m2.Must(t, "systemctl", "is-system-running")); got != "running" {
		t.Errorf("rebooted, m2 is %s", got)
	}
	if boots := strings.Count(m2.Must(t, "journalctl", "--list-boots", "--no-pager"), "\n"); boots < 3 {
		t.Errorf("the journal knows %d boots, want 3", boots)
	}
	m2.Shutdown(t)
	m2.Boot(t)
}

// TestLeftovers: what a killed owner left is cleared by the next who starts machines, and what a living one has is not touched.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{})
	m := n.Machine("m1")
	dir, leader := n.slot.dir, m.Leader()
	// The lock goes with its owner; what ran goes on.
	n.slot.release()
	other := Start(t, Options{})
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root", leader)); err == nil {
		t.Errorf("the machine of %s still runs as %d", dir, leader)
	}
	if other.Machine("m1").Must(t, "hostname") != "m1\n" {
		t.Error("the new machine does not run")
	}
	left, err := filepath.Glob(filepath.Join("/run/netns", m.link()))
	if err != nil || len(left) > 0 && other.Machine("m1").link() != m.link() {
		t.Errorf("left: %v %v", left, err)
	}
}
