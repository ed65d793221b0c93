package host

// Detect looks below root ("/", or a test's folder) for what runs etcd and the control plane. It reads files only: what runs is Control's to say.
func Detect(root string) *Machine { panic("unreachable: not built yet") }

// Path is where a path of this machine really is: with Root in front.
func (m *Machine) Path(path string) string { panic("unreachable: not built yet") }

// Etcd is the etcd of that name; "" means the only one. The error of an ambiguous one names the candidates and --etcd.
func (m *Machine) Etcd(name string) (*Etcd, error) { panic("unreachable: not built yet") }

// Part is all control plane parts of a program, as in kube-apiserver.
func (m *Machine) Part(program string) []*Part { panic("unreachable: not built yet") }
