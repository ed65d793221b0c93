package host

import (
	"slices"
	"strings"
)

// Value is a setting, or etcd's default.
func (e *Etcd) Value(flag string) string {
	if s, ok := e.Settings[flag]; ok && s.Value != "" {
		return s.Value
	}
	return defaults[flag]
}

// Member is the member's name.
func (e *Etcd) Member() string { return e.Value("name") }

// DataDir is the data directory on this machine. It is an error when a container keeps it where this machine cannot see it.
func (e *Etcd) DataDir() (string, error) {
	dir := e.Value("data-dir")
	if dir == "" {
		dir = e.Member() + ".etcd"
	}
	return e.HostPath(dir)
}

// WALDir is the WAL's folder on this machine when it is not in the data directory, else "".
func (e *Etcd) WALDir() (string, error) {
	if e.Value("wal-dir") == "" {
		return "", nil
	}
	return e.HostPath(e.Value("wal-dir"))
}

// URLs are the URLs in a setting such as listen-client-urls, advertise-client-urls, listen-peer-urls, initial-advertise-peer-urls.
func (e *Etcd) URLs(flag string) []string { return splitList(e.Value(flag)) }

func splitList(list string) []string {
	var all []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// InitialCluster is the setting of that name: the peer URLs of each member.
func (e *Etcd) InitialCluster() map[string][]string {
	all := map[string][]string{}
	for _, pair := range splitList(e.Value("initial-cluster")) {
		if name, url, ok := strings.Cut(pair, "="); ok {
			all[name] = append(all[name], url)
		}
	}
	return all
}

// EtcdServers are the URLs of etcd that an API server is given; those that --etcd-servers-overrides names for single resources are among them.
func (p *Part) EtcdServers() []string {
	all := splitList(p.Flags["etcd-servers"].Value)
	for _, override := range splitList(p.Flags["etcd-servers-overrides"].Value) {
		if _, urls, ok := strings.Cut(override, "#"); ok {
			for url := range strings.SplitSeq(urls, ";") {
				if url != "" && !slices.Contains(all, url) {
					all = append(all, url)
				}
			}
		}
	}
	return all
}
