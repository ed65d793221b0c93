package host

// Mention is a place that names a URL of etcd.
type Mention struct {
	File string // manifest, unit or environment file
	Name string // of the workload: kube-apiserver
	Flag string // etcd-servers
}

// Mentions are where the API servers and the etcds of this machine name a URL or its host: --etcd-servers, initial-cluster.
func (m *Machine) Mentions(url string) []Mention { panic("unreachable: not built yet") }

// SetEtcdServers changes which etcd an API server asks. It keeps files as Configure does.
func (m *Machine) SetEtcdServers(p *Part, urls []string, tag string) ([]Edit, error) {
	panic("unreachable: not built yet")
}
