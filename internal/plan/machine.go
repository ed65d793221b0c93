package plan

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"etcd-steward/internal/fail"
)

var machineIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ThisMachine is the machine that this process runs on: systemd's machine ID, and the host name. Both are compared, since copied disks have the same ID.
func ThisMachine() (Machine, error) {
	host, err := os.Hostname()
	if err != nil {
		return Machine{}, fmt.Errorf("find out this machine's host name: %w", err)
	}
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		text, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(text)); err == nil && machineIDForm.MatchString(id) {
			return Machine{ID: id, Host: host}, nil
		}
	}
	return Machine{}, fail.New(fail.Failed, errors.New("this machine has no machine ID in /etc/machine-id"), "systemd-machine-id-setup")
}
