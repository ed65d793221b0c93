package machines

import (
	"fmt"
	"path/filepath"
	"strings"

	"etcd-steward/integration/lab"
)

// Flavour is a way in which etcd is set up in the field.
type Flavour string

// The flavours. Each has its files where its tool has them, and the members' names that it gives.
const (
	Kubespray Flavour = "kubespray"  // etcd.service reads /etc/etcd.env; etcd runs as user etcd
	DropIn    Flavour = "drop-in"    // etcd.service, whose drop-in has the flags on ExecStart=, over several lines
	YAML      Flavour = "yaml"       // etcd.service runs etcd --config-file /etc/etcd/etcd.conf.yml
	StaticPod Flavour = "static pod" // /etc/kubernetes/manifests/etcd.yaml, as kubeadm writes it, run by the stand-in kubelet
)

// Files are where a flavour has what on a machine.
type Files struct {
	Config   string // the file that has the settings
	Unit     string // "" for a static pod
	Manifest string // "" for a unit
	CA       string
	Server   lab.Pair
	Peer     lab.Pair
	Client   lab.Pair // of an administrator, or of a health check
}

// flavour is how one is set up.
type flavour struct {
	prefix    string // of the members' names, before the machine's number
	token     string
	owner     string // of the certificates and the data; "" is root
	files     func(machine string) Files
	install   func(t lab.T, c *Cluster, m *Member)
	configure func(t lab.T, m *Member, s []setting)
	extra     func(version string) []setting
}

var flavours map[Flavour]flavour

func init() {
	none := func(string) []setting { return nil }
	flavours = map[Flavour]flavour{
		Kubespray: {
			prefix: "etcd", token: "k8s_etcd", owner: "etcd",
			files: kubesprayFiles, install: installUnit("EnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd"), configure: kubesprayEnv,
			extra: func(string) []setting { return []setting{{"auto-compaction-retention", "8"}, {"metrics", "basic"}} },
		},
		DropIn: {
			prefix: "m", token: "etcd-cluster", owner: "etcd",
			files: hostFiles("/etc/systemd/system/etcd.service.d/20-cluster.conf"), install: installUnit("ExecStart=/usr/local/bin/etcd"), configure: dropIn, extra: none,
		},
		YAML: {
			prefix: "m", token: "etcd-cluster", owner: "etcd",
			files: hostFiles("/etc/etcd/etcd.conf.yml"), install: installUnit("ExecStart=/usr/local/bin/etcd --config-file /etc/etcd/etcd.conf.yml"), configure: configFile, extra: none,
		},
		StaticPod: {
			prefix: "m", token: "etcd-cluster",
			files: kubeadmFiles, install: installKubelet, configure: manifest, extra: kubeadmExtra,
		},
	}
}

func kubesprayFiles(machine string) Files {
	pair := func(kind string) lab.Pair {
		name := "/etc/ssl/etcd/ssl/" + kind + "-" + machine
		return lab.Pair{Cert: name + ".pem", Key: name + "-key.pem"}
	}
	return Files{
		Config: "/etc/etcd.env", Unit: "/etc/systemd/system/etcd.service", CA: "/etc/ssl/etcd/ssl/ca.pem",
		Server: pair("member"), Peer: pair("member"), Client: pair("admin"),
	}
}

func hostFiles(config string) func(string) Files {
	pair := func(name string) lab.Pair {
		return lab.Pair{Cert: "/etc/etcd/pki/" + name + ".crt", Key: "/etc/etcd/pki/" + name + ".key"}
	}
	return func(string) Files {
		return Files{
			Config: config, Unit: "/etc/systemd/system/etcd.service", CA: "/etc/etcd/pki/ca.crt",
			Server: pair("server"), Peer: pair("peer"), Client: pair("client"),
		}
	}
}

// installUnit makes user, data directory and unit. Without its configuration the unit fails or forms a cluster of its own: it is not enabled.
func installUnit(service string) func(t lab.T, c *Cluster, m *Member) {
	return func(t lab.T, _ *Cluster, m *Member) {
		t.Helper()
		m.Script(t, "id -u etcd >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/etcd --shell /sbin/nologin etcd")
		m.Mkdir(t, m.DataDir, 0o700, "etcd")
		if m.WALDir != "" {
			m.Mkdir(t, filepath.Dir(m.WALDir), 0o700, "etcd") // in which etcd makes WALDir.tmp, and renames it
		}
		m.Mkdir(t, filepath.Dir(m.Files.CA), 0o700, "etcd")
		m.WriteFile(t, m.Files.Unit, `[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User=etcd
`+service+`
NotifyAccess=all
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`, 0o644, "")
		m.Systemctl(t, "daemon-reload")
	}
}

func kubesprayEnv(t lab.T, m *Member, settings []setting) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Environment file for etcd\n")
	for _, s := range settings {
		if s.flag == "trusted-ca-file" {
			b.WriteString("\n# TLS settings\n")
		}
		b.WriteString(s.env())
	}
	b.WriteString("\n# CLI settings\nETCDCTL_ENDPOINTS=" + strings.Replace(m.Endpoint, m.IP, "127.0.0.1", 1) + "\n")
	if strings.HasPrefix(m.Endpoint, "https:") {
		fmt.Fprintf(&b, "ETCDCTL_CACERT=%s\nETCDCTL_KEY=%s\nETCDCTL_CERT=%s\n", m.Files.CA, m.Files.Client.Key, m.Files.Client.Cert)
	}
	m.WriteFile(t, m.Files.Config, b.String(), 0o640, "")
}

func dropIn(t lab.T, m *Member, settings []setting) {
	t.Helper()
	text := "[Service]\nExecStart=\nExecStart=/usr/local/bin/etcd"
	for _, s := range settings {
		text += " \\\n  " + s.arg()
	}
	m.WriteFile(t, m.Files.Config, text+"\n", 0o644, "")
}

// configFile writes etcd's own YAML, in which the certificates stand in blocks.
func configFile(t lab.T, m *Member, settings []setting) {
	t.Helper()
	var top, client, peer strings.Builder
	for _, s := range settings {
		name, isPeer := strings.CutPrefix(s.flag, "peer-")
		switch name {
		case "trusted-ca-file", "cert-file", "key-file", "client-cert-auth":
			block := &client
			if isPeer {
				block = &peer
			}
			fmt.Fprintf(block, "  %s: %s\n", name, s.value)
		case "auto-compaction-retention": // etcd wants a text
			fmt.Fprintf(&top, "%s: %q\n", s.flag, s.value)
		default:
			fmt.Fprintf(&top, "%s: %s\n", s.flag, s.value)
		}
	}
	text := "# etcd's configuration\n" + top.String()
	if client.Len() > 0 {
		text += "client-transport-security:\n" + client.String() + "peer-transport-security:\n" + peer.String()
	}
	m.WriteFile(t, m.Files.Config, text, 0o640, "etcd")
}
