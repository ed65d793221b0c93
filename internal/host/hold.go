package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/host/unit"
)

// The drop-in that holds a unit. An assertion fails loudly where a condition would pass over the start in silence, and a drop-in works above a unit file in
// /etc as well, where a mask cannot be put.
const (
	holdFile = "zz-steward-hold.conf"
	// holdPath is what the assertion asks for. It does not exist, and is shown by systemctl status.
	holdPath = "/run/steward/no-longer-held"
)

const holdText = `# Written by steward: this unit is kept from starting until steward releases it.
# To undo it by hand, when you are sure: remove this file and run systemctl daemon-reload.
[Unit]
AssertPathExists=` + holdPath + `
`

// held says whether a unit has the drop-in.
func held(s *unit.Service) bool {
	for _, e := range unit.List(s.Entries, "Unit", "AssertPathExists") {
		if e.Value == holdPath {
			return true
		}
	}
	return false
}

func (m *Machine) holdPath(unitName string) string {
	return m.Path(path.Join("/etc/systemd/system", unitName+".d", holdFile))
}

// holdUnit writes the drop-in.
func (m *Machine) holdUnit(unitName string) error {
	file := m.holdPath(unitName)
	if text, err := os.ReadFile(file); err == nil && bytes.Equal(text, []byte(holdText)) {
		return errors.Join(settleNames(file), settleNames(filepath.Dir(file))) // it may have been written right before a crash
	}
	if err := makeDirs(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("hold %s: %w", unitName, err)
	}
	if err := atomicfile.Write(file, []byte(holdText), 0o644); err != nil {
		return fmt.Errorf("hold %s: %w", unitName, err)
	}
	return nil
}

// releaseUnit takes the drop-in away: only steward writes it, and it says nothing but that.
func (m *Machine) releaseUnit(unitName string) error {
	file := m.holdPath(unitName)
	if err := os.Remove(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("release %s: %w", unitName, err)
	}
	return settleNames(file)
}
