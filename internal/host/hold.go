package host

import "etcd-steward/internal/host/unit"

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
