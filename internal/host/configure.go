package host

// Edit is one file that was changed. It can be written into a journal and undone later.
type Edit struct {
	Path string `json:"path"`
	// Kept is the file as it was; "" when there was none.
	Kept string `json:"kept,omitempty"`
	// New: Path did not exist. Undo renames it to Path + ".undone-" + Tag.
	New bool   `json:"new,omitempty"`
	Tag string `json:"tag"`
}

// Configure changes settings of an etcd where that etcd takes them from: its environment file, its YAML file, its manifest, else a drop-in of its unit
// (zz-steward.conf, which systemd reads last). An empty value takes a setting away. What else the files say stays as it is, in its order, with comments. Files that it
// changes are kept as they were (beside, with ".steward-" + tag in their names; those of static pods in a folder beside the kubelet's). The edits are the same
// when it is called again with the same tag, also after a crash in the middle. What it wrote is read back: when etcd would not see the changes, everything is undone and
// it is an error. e.Settings are brought up to date. systemd needs to be told of changed units: Control.Reload.
func (m *Machine) Configure(e *Etcd, changes map[string]string, tag string) ([]Edit, error) {
	panic("unreachable: not built yet")
}

// Undo brings files back to what they were before the edits, the last first. It can be repeated.
func (m *Machine) Undo(edits []Edit) error { panic("unreachable: not built yet") }
