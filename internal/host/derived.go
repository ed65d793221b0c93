package host

// Value is a setting, or etcd's default.
func (e *Etcd) Value(flag string) string { panic("unreachable: not built yet") }

// Member is the member's name.
func (e *Etcd) Member() string { return e.Value("name") }

// DataDir is the data directory on this machine. It is an error when a container keeps it where this machine cannot see it.
func (e *Etcd) DataDir() (string, error) { panic("unreachable: not built yet") }

// WALDir is the WAL's folder on this machine when it is not in the data directory, else "".
func (e *Etcd) WALDir() (string, error) { panic("unreachable: not built yet") }

// URLs are the URLs in a setting such as listen-client-urls, advertise-client-urls, listen-peer-urls, initial-advertise-peer-urls.
func (e *Etcd) URLs(flag string) []string { panic("unreachable: not built yet") }

// InitialCluster is the setting of that name: the peer URLs of each member.
func (e *Etcd) InitialCluster() map[string][]string { panic("unreachable: not built yet") }

// HostPath is what a path that the process sees is called on this machine.
func (w *Workload) HostPath(path string) (string, error) { panic("unreachable: not built yet") }

// EtcdServers are the URLs of etcd that an API server is given; those that --etcd-servers-overrides names for single resources are among them.
func (p *Part) EtcdServers() []string { panic("unreachable: not built yet") }
