package machines

import (
	"net"
	"os"
	"slices"
	"strings"

	"etcd-steward/integration/lab"
)

// setting is one of etcd's, by its flag's name.
type setting struct{ flag, value string }

// settings are what a member is configured with, in the order in which tools write them.
func (c *Cluster) settings(m *Member, initialCluster, state string) []setting {
	loopback := "127.0.0.1"
	if c.Opts.IPv6 {
		loopback = "::1"
	}
	scheme, _, _ := strings.Cut(m.Endpoint, "://")
	s := []setting{
		{"name", m.MemberName},
		{"data-dir", m.DataDir},
		{"listen-client-urls", m.Endpoint + "," + scheme + "://" + net.JoinHostPort(loopback, "2379")},
		{"advertise-client-urls", m.Endpoint},
		{"listen-peer-urls", m.PeerURL},
		{"initial-advertise-peer-urls", m.PeerURL},
		{"initial-cluster", initialCluster},
		{"initial-cluster-state", state},
		{"initial-cluster-token", c.Opts.Token},
		{"snapshot-count", "10000"},
	}
	if m.WALDir != "" {
		s = append(s, setting{"wal-dir", m.WALDir})
	}
	if c.CA != nil {
		s = append(s,
			setting{"trusted-ca-file", m.Files.CA}, setting{"cert-file", m.Files.Server.Cert}, setting{"key-file", m.Files.Server.Key}, setting{"client-cert-auth", "true"},
			setting{"peer-trusted-ca-file", m.Files.CA}, setting{"peer-cert-file", m.Files.Peer.Cert}, setting{"peer-key-file", m.Files.Peer.Key}, setting{"peer-client-cert-auth", "true"})
	}
	return c.override(append(s, flavours[c.Opts.Flavour].extra(c.Opts.Version)...))
}

// override puts in what the test wants.
func (c *Cluster) override(s []setting) []setting {
	flags := make([]string, 0, len(c.Opts.Settings))
	for flag := range c.Opts.Settings {
		flags = append(flags, flag)
	}
	slices.Sort(flags)
	for _, flag := range flags {
		s = slices.DeleteFunc(s, func(o setting) bool { return o.flag == flag })
		s = append(s, setting{flag, c.Opts.Settings[flag]})
	}
	return s
}

// env is the setting as a line of an environment file.
func (s setting) env() string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_")) + "=" + s.value + "\n"
}

func (s setting) arg() string { return "--" + s.flag + "=" + s.value }

func readHost(t lab.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return string(b)
}
