package host

// Place is a way in which this machine could run an etcd that it does not run yet.
type Place struct {
	Kind Kind
	// Name is the etcd's to be: "etcd".
	Name string
	// File is what Create writes its settings to: a manifest, an environment file.
	File string
	// Unit runs it; Binary is what the unit starts.
	Unit, Binary string
	// Why says by what it was recognised.
	Why string
}

// Places are what this machine is prepared for when it has no etcd yet, the most specific first: kubeadm's manifest where there is a kubelet with a folder for
// static pods; else a unit etcd.service with /etc/etcd.env where there is a binary. A machine that has an etcd (also one that was never started) has none: Configure it.
func (m *Machine) Places() []Place { return nil }

// Create writes what runs an etcd at a place, held: Control.Release starts it. Image is what a static pod runs. The same tag gives the same files.
func (m *Machine) Create(p Place, settings map[string]string, image, tag string) (*Etcd, []Edit, error) {
	panic("unreachable: not built yet")
}
