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

// Machine is what Detect found.
type Machine struct {
	// Root is "/", or the folder that stands for it. All other paths in this package are without it: Path puts it in front.
	Root string
	// Manifests is the folder of the kubelet's static pods.
	Manifests string
	// Etcds are in order of their names.
	Etcds []Etcd
	// Parts are what else of a Kubernetes control plane runs here.
	Parts []Part
	// Owner is the distribution that owns this machine's etcd; nil: nobody does. Ask Refuse before anything is changed.
	Owner *Distribution
	// Problems are files that matter and could not be read or understood. What they say is not in here.
	Problems []Problem
}

// Workload is one process that systemd or the kubelet keeps running here.
type Workload struct {
	// Name tells it from others of its kind: its unit's name without suffix, or its pod's.
	Name    string
	Program string // etcd, kube-apiserver
	Kind    Kind
	Unit    string // etcd.service; "" for a static pod
	// Manifest is where the kubelet reads a static pod; "" for a unit. While the pod is held, the file lies elsewhere: File says where.
	Manifest string
	// Held: it is kept from starting, also by the next boot (Control.Hold, or a mask).
	Held bool
	// Container: the unit runs a container, as kubespray's can. A static pod always does.
	Container bool
	// Image is the container's.
	Image string
	// Mounts map what the process sees to this machine's files.
	Mounts []Mount
	// Files are what was read to find out all this, the weakest first.
	Files []string
	// Unread is the error of a file that belongs to them and could not be read.
	Unread error
	// User and Group are whom the unit runs as; "" is root.
	User, Group string

	unit   *unitState
	parked string // where the manifest lies while it is held
	at     podPlace
}

// Mount makes one of this machine's files or folders visible to a process under another name.
type Mount struct{ Host, Inside string }

// Settings are an etcd's, by the names of its flags without dashes ("initial-cluster"); what is not set is etcd's default.
type Settings map[string]Setting

// Setting is one value, and the file that says so. Paths in values are as the process sees them: Workload.HostPath.
type Setting struct {
	Value  string
	Source string // path of the file

	place place
}

// Etcd is one etcd that this machine runs, or is set up to run.
type Etcd struct {
	Workload
	Settings Settings
	// Etcdctl are variables that are meant for etcdctl and stand among etcd's own, as kubespray puts them, by name: ETCDCTL_CERT.
	Etcdctl Settings
	// Ignored are flags and variables that etcd does not look at, because it is given a config file.
	Ignored Settings
	// Config is the YAML file that etcd reads, as this machine names it; "" when there is none.
	Config string
	// Unclear: a file with settings is there and could not be read or understood, so that Settings may lack anything. Machine.Etcd does not give such an etcd out.
	Unclear error
}

// Part is a process of a Kubernetes control plane: kube-apiserver, kube-controller-manager, kube-scheduler.
type Part struct {
	Workload
	Flags Settings
}

// Problem is a file that matters and could not be used.
type Problem struct {
	Path string
	Err  error
}

// String is for people.
func (p Problem) String() string { return p.Path + ": " + p.Err.Error() }
