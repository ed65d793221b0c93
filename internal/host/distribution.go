package host

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
)

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

// Operations are all of them, in the order in which they are shown.
var Operations = []Operation{Add, Remove, Replace, Restore, Snapshot, Defrag, Rotate, Other}

// Distribution is a Kubernetes that owns its etcd.
type Distribution struct {
	Name     string // k3s, RKE2, Talos, OpenShift
	Evidence string // the file by which it was recognised
	// Endpoint and the files for it are how a client on this machine reaches its etcd; "" when that is not known.
	Endpoint, CA, Cert, Key string
	native                  map[Operation]string
}

// Native is the distribution's own command for an operation.
func (d *Distribution) Native(op Operation) string {
	if cmd, ok := d.native[op]; ok {
		return cmd
	}
	return "see the documentation of " + d.Name
}

// Refuse is nil on a machine whose etcd is nobody's, else a refusal (exit 4) whose hint is the owner's own command.
func (m *Machine) Refuse(op Operation) error {
	if m.Owner == nil {
		return nil
	}
	return fail.Refused(fmt.Errorf("%s: the etcd of this machine belongs to %s (%s), which keeps its own record of it", op, m.Owner.Name, m.Owner.Evidence),
		m.Owner.Native(op))
}

// A mark is how a distribution is recognised.
type mark struct {
	name  string
	files []string // any of them
	// shared: the files only say that the distribution is here; it owns the etcd unless another one was found.
	shared []string
	native map[Operation]string
	// tls is where the files of a client are that may ask the etcd on this machine.
	tls string
}

func rancher(name, unit, data string) mark {
	return mark{
		name:   name,
		tls:    data + "/server/tls/etcd",
		files:  []string{data + "/server/db/etcd"},
		shared: []string{"/etc/systemd/system/" + unit, "/usr/local/lib/systemd/system/" + unit, "/usr/lib/systemd/system/" + unit, data + "/server/tls/etcd"},
		native: map[Operation]string{
			Add:      "install " + name + " as a server on the new machine, with server: https://ANY-SERVER and the cluster's token in /etc/rancher/" + name + "/config.yaml: it joins by itself",
			Remove:   "kubectl delete node NAME: " + name + " removes the member by itself",
			Replace:  "kubectl delete node NAME, then join a new server to the cluster",
			Restore:  name + " server --cluster-reset --cluster-reset-restore-path=SNAPSHOT --token=TOKEN, with every server stopped",
			Snapshot: name + " etcd-snapshot save",
			Defrag:   "restart the " + strings.TrimSuffix(unit, ".service") + " service: it defragments when it starts",
			Rotate:   name + " certificate rotate, with the service stopped",
			Other:    "write etcd-arg: into /etc/rancher/" + name + "/config.yaml and restart the service",
		},
	}
}

var marks = []mark{
	rancher("k3s", "k3s.service", "/var/lib/rancher/k3s"),
	rancher("rke2", "rke2-server.service", "/var/lib/rancher/rke2"),
	{
		name:  "Talos",
		files: []string{"/system/state/config.yaml", "/usr/bin/machined", "/sbin/machined"},
		native: map[Operation]string{
			Add:      "talosctl apply-config --insecure --nodes NEW --file controlplane.yaml: it joins by itself",
			Remove:   "talosctl etcd leave --nodes NODE, or of a dead one: talosctl etcd remove-member ID --nodes ALIVE",
			Replace:  "talosctl etcd remove-member ID --nodes ALIVE, then talosctl apply-config to the new machine",
			Restore:  "talosctl bootstrap --recover-from=SNAPSHOT --nodes ONE, with etcd's data wiped on all control plane nodes",
			Snapshot: "talosctl etcd snapshot FILE --nodes NODE",
			Defrag:   "talosctl etcd defrag --nodes NODE, one after another",
			Rotate:   "talosctl rotate-ca",
			Other:    "talosctl edit machineconfig --nodes NODE (cluster.etcd)",
		},
	},
	{
		name:  "OpenShift",
		files: []string{"/etc/kubernetes/manifests/etcd-pod.yaml", "/etc/kubernetes/static-pod-resources/etcd-certs", "/usr/local/bin/cluster-restore.sh"},
		native: map[Operation]string{
			Add:      "add a control plane machine: cluster-etcd-operator adds its member by itself",
			Remove:   "oc rsh -n openshift-etcd etcd-NODE, then etcdctl member remove ID, as the documentation of unhealthy members says",
			Replace:  "follow \"Replacing an unhealthy etcd member\" in the documentation: etcdctl member remove, delete the member's secrets, a new machine",
			Restore:  "/usr/local/bin/cluster-restore.sh /home/core/assets/backup, on one control plane host",
			Snapshot: "/usr/local/bin/cluster-backup.sh /home/core/assets/backup",
			Defrag:   "cluster-etcd-operator defragments by itself",
			Rotate:   "cluster-etcd-operator rotates certificates by itself",
			Other:    "oc edit etcd cluster",
		},
	},
	{
		name:  "k0s",
		files: []string{"/var/lib/k0s/etcd"},
		native: map[Operation]string{
			Add:      "k0s token create --role=controller, then k0s controller TOKEN on the new machine",
			Remove:   "k0s etcd leave, on the machine, or with --peer-address for another one",
			Replace:  "k0s etcd leave --peer-address ADDRESS, then k0s controller TOKEN on the new machine",
			Restore:  "k0s restore ARCHIVE",
			Snapshot: "k0s backup --save-path FOLDER",
		},
	},
}

// owner recognises whom this machine's etcd belongs to.
func (f *finder) owner() {
	for _, m := range marks {
		files := m.files
		if len(f.m.Etcds) == 0 || f.ownsPods(m) {
			files = slices.Concat(files, m.shared)
		}
		for _, file := range files {
			if f.Exists(file) {
				f.m.Owner = &Distribution{Name: m.name, Evidence: file, native: m.native}
				if m.tls != "" {
					o := f.m.Owner
					o.Endpoint, o.CA, o.Cert, o.Key = "https://127.0.0.1:2379", m.tls+"/server-ca.crt", m.tls+"/client.crt", m.tls+"/client.key"
				}
				return
			}
		}
	}
	if text, err := f.Read("/etc/os-release"); err == nil && strings.Contains("\n"+string(text), "\nID=talos\n") {
		f.m.Owner = &Distribution{Name: "Talos", Evidence: "/etc/os-release", native: marks[2].native}
		return
	}
	names := f.List(f.m.Manifests)
	for _, name := range names[:min(len(names), maxManifests)] {
		// Its file is called etcd-main.manifest; what it runs is etcd-manager, in every release.
		if text, err := f.Read(path.Join(f.m.Manifests, name)); strings.HasPrefix(name, "etcd-manager") || err == nil && bytes.Contains(text, []byte("etcd-manager")) {
			f.m.Owner = &Distribution{Name: "kOps (etcd-manager)", Evidence: path.Join(f.m.Manifests, name), native: map[Operation]string{
				Add:      "kops edit instancegroup, then kops update cluster --yes",
				Remove:   "kops edit cluster (etcdClusters), then kops update cluster --yes",
				Replace:  "kops rolling-update cluster --instance-group GROUP --yes: etcd-manager replaces the member",
				Restore:  "etcd-manager-ctl --backup-store=STORE restore-backup NAME",
				Snapshot: "etcd-manager takes them by itself: etcd-manager-ctl --backup-store=STORE list-backups",
			}}
			return
		}
	}
}

// ownsPods says whether the etcds that were found are the distribution's own static pods.
func (f *finder) ownsPods(m mark) bool {
	return m.name == "rke2" && f.m.Manifests == rke2Manifests
}
