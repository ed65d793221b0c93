package host

// Operation is what somebody wants to do to an etcd.
type Operation string

// The operations that a distribution has its own command for.
const (
	Add      Operation = "add a member"
	Remove   Operation = "remove a member"
	Replace  Operation = "replace a member"
	Restore  Operation = "restore"
	Snapshot Operation = "take a snapshot"
	Defrag   Operation = "defragment"
	Rotate   Operation = "change certificates"
	Other    Operation = "change etcd"
)

// Distribution is a Kubernetes that owns its etcd.
type Distribution struct {
	Name     string // k3s, RKE2, Talos, OpenShift
	Evidence string // the file by which it was recognised
	native   map[Operation]string
}

// Native is the distribution's own command for an operation.
func (d *Distribution) Native(op Operation) string { return d.native[op] }

// Refuse is nil on a machine whose etcd is nobody's, else a refusal (exit 4) whose hint is the owner's own command.
func (m *Machine) Refuse(op Operation) error { panic("unreachable: not built yet") }
