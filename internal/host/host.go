// Package host finds out how etcd and the control plane run on this machine, and changes that: systemd units with their environment files, drop-ins and YAML
// files, and static pods. It promises that nothing is guessed (what is ambiguous is an error that names the candidates), that a file which it rewrites is
// kept beside the new one, that data directories are renamed and never deleted, and that it keeps its hands off distributions that own their etcd.
// It does not talk to etcd.
package host

// Kind is how a process is run here.
type Kind string

// The kinds.
const (
	Unit      Kind = "systemd unit"
	StaticPod Kind = "static pod"
)

// Settings are an etcd's, by the names of its flags without dashes ("initial-cluster"); what is not set is etcd's default.
type Settings map[string]Setting

// Setting is one value, and the file that says so.
type Setting struct {
	Value  string
	Source string // path of the file
}

// Etcd is one etcd that this machine runs, or is set up to run.
type Etcd struct {
	Name     string // of the instance: "etcd", "etcd-events"; its unit's or pod's name without suffix
	Kind     Kind
	Unit     string // etcd.service; "" for a static pod
	Manifest string // path; "" for a unit
	// Container: the unit runs a container, as kubespray's can.
	Container bool
	Settings  Settings
}
