package machines

import (
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

// InstallSteward does `make install` for the machine, with its user, folders and units, as a package would. Nothing is configured or started.
func (m *Machine) InstallSteward(t lab.T) {
	t.Helper()
	// It builds first, when that is due: one at a time, also among test processes.
	lock, err := os.OpenFile(filepath.Join(slots, "make.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatalf("install steward on %s: %v", m.Name, err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("install steward on %s: %v", m.Name, err)
	}
	cmd := exec.Command("make", "--no-print-directory", "install", "DESTDIR="+m.Root)
	cmd.Dir = lab.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install steward on %s: %v\n%s", m.Name, err, out)
	}
	m.Script(t, "systemd-sysusers; systemd-tmpfiles --create steward.conf; systemctl daemon-reload")
}
