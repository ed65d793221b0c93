package machines

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

// Machine is one. Its methods that are given a t fail that test when they cannot do what they say.
type Machine struct {
	Name string // m1; also its host name, which all machines of the Net resolve
	IP   string
	IP6  string // with Options.IPv6
	Root string // where its disk is on this host, also while it is off; see Machine.ReadFile for /run and /tmp

	net   *Net
	index int
	ipv6  bool

	mu      sync.Mutex
	run     *run // of the current boot; nil before the first
	retired bool
}

func newMachine(n *Net, index int, ipv6 bool) *Machine {
	m := &Machine{Name: fmt.Sprintf("m%d", index), net: n, index: index, ipv6: ipv6}
	m.IP, m.Root = n.slot.ip(10+index), filepath.Join(n.slot.folder(index), "root")
	if ipv6 {
		m.IP6 = n.slot.ip6(0x10 + index)
	}
	return m
}

// link is the name of its end of the cable on the host, of its network namespace and of its control groups.
func (m *Machine) link() string { return m.net.slot.link(m.index) }

// masked are units that a machine without users, updates and a console does without.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "logrotate.timer", "man-db.timer",
	"motd-news.timer", "console-getty.service", "getty.target", "systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service",
	"systemd-resolved.service", "systemd-timesyncd.service", "systemd-homed.service", "systemd-userdbd.socket",
	"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-firstboot.service", "systemd-tmpfiles-clean.timer", "ldconfig.service", "systemd-hwdb-update.service",
}

// build makes its disk and its network.
func (m *Machine) build(base string) error {
	if err := m.disk(base); err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	for i := 1; i <= maxCount; i++ {
		hosts += fmt.Sprintf("%s m%d\n", m.net.slot.ip(10+i), i)
		if m.ipv6 {
			hosts += fmt.Sprintf("%s m%d\n", m.net.slot.ip6(0x10+i), i)
		}
	}
	files := map[string]string{
		"/etc/machine-id": hex.EncodeToString(id) + "\n", "/etc/hostname": m.Name + "\n", "/etc/hosts": hosts, "/etc/resolv.conf": "",
		"/etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n",
	}
	for name, text := range files {
		if err := m.write(name, []byte(text), 0o644, ""); err != nil {
			return err
		}
	}
	for _, unit := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(m.Root, "etc/systemd/system", unit)); err != nil {
			return fmt.Errorf("mask %s: %w", unit, err)
		}
	}
	return m.cable()
}

// disk lays an overlay over the root file system, or copies that where there is no overlayfs. What is written is never synced to the host's disk.
func (m *Machine) disk(base string) error {
	dir := filepath.Dir(m.Root)
	for _, name := range []string{"root", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, dir, dir)
	err := unix.Mount("overlay", m.Root, "overlay", 0, layers+",volatile")
	if errors.Is(err, unix.EINVAL) { // a kernel before 5.10
		err = unix.Mount("overlay", m.Root, "overlay", 0, layers)
	}
	if err == nil {
		return nil
	}
	out, cpErr := exec.Command("cp", "-a", "--reflink=auto", base+"/.", m.Root).CombinedOutput()
	if cpErr != nil {
		return fmt.Errorf("mount an overlay: %w; copy: %w: %s", err, cpErr, out)
	}
	return nil
}

// cable makes its network namespace, and the link from there to the bridge.
func (m *Machine) cable() error {
	ns := m.link()
	if err := ip(fmt.Sprintf("netns add %[1]s\nlink add %[1]s type veth peer name eth0 netns %[1]s\nlink set %[1]s master %[2]s up\n", ns, m.net.slot.name())); err != nil {
		return err
	}
	inside := fmt.Sprintf("addr add %s/24 dev eth0\nlink set lo up\nlink set eth0 up\n", m.IP)
	if m.ipv6 {
		inside += fmt.Sprintf("addr add %s/64 dev eth0 nodad\n", m.IP6)
	}
	cmd := exec.Command("ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(inside)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("give %s its addresses: %w: %s", m.Name, err, out)
	}
	return nil
}

// Boot starts a machine that is off, and waits until systemd has started everything.
func (m *Machine) Boot(t lab.T) {
	t.Helper()
	if err := m.boot(t.Context()); err != nil {
		t.Fatalf("boot %s: %v\n%s", m.Name, err, m.console(4<<10))
	}
}

// Reboot restarts the machine as its own administrator would, and waits until it is up again.
func (m *Machine) Reboot(t lab.T) {
	t.Helper()
	old := m.current()
	m.Run(t.Context(), "systemctl", "reboot")
	m.AwaitReboot(t, old)
}

// AwaitReboot waits until the machine has come up again after something made it reboot; since is what Generation was before.
func (m *Machine) AwaitReboot(t lab.T, since Generation) {
	t.Helper()
	lab.Eventually(t, 2*bootTimeout, m.Name+" reboots", func() error {
		now := m.current()
		switch {
		case now == since:
			return errors.New("it is still up")
		case now == nil || now.over():
			return errors.New("it is off")
		}
		return now.wait(t.Context())
	})
}

// Generation is one boot of a machine.
type Generation = *run

// Generation is the current boot; it differs after each.
func (m *Machine) Generation() Generation { return m.current() }

// PowerCut ends everything on the machine at once. It stays off until Boot. Its disk keeps what was written, synced or not.
func (m *Machine) PowerCut(t lab.T) {
	t.Helper()
	r := m.current()
	if r == nil || r.over() {
		t.Fatalf("cut the power of %s: it is off", m.Name)
	}
	if err := r.kill(); err != nil {
		t.Fatalf("cut the power of %s: %v", m.Name, err)
	}
}

// Shutdown stops the machine in order. It stays off until Boot.
func (m *Machine) Shutdown(t lab.T) {
	t.Helper()
	r := m.current()
	m.Run(t.Context(), "systemctl", "poweroff")
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-time.After(bootTimeout):
		t.Fatalf("%s does not stop\n%s", m.Name, m.console(4<<10))
	}
}

// Leader is the process id, here on the host, of the machine's first process; 0 while it is off.
func (m *Machine) Leader() int {
	if r := m.current(); r != nil && !r.over() {
		return r.leader()
	}
	return 0
}

func (m *Machine) current() *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run
}

// retire ends the machine for good.
func (m *Machine) retire() {
	m.mu.Lock()
	m.retired = true
	r := m.run
	m.mu.Unlock()
	if r != nil {
		_ = r.kill()
	}
}

func (m *Machine) boot(ctx context.Context) error {
	r, err := m.spawn(nil)
	if err != nil {
		return err
	}
	return r.wait(ctx)
}

// console is the end of what systemd and the kernel's messages on the machine's console were, in all boots.
func (m *Machine) console(n int) string {
	b, err := os.ReadFile(m.consoleFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

func (m *Machine) consoleFile() string { return filepath.Join(m.net.slot.folder(m.index), "console") }
