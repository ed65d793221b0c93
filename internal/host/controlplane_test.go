package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEtcdServers: the API server's list is changed where it stands, with all else as it was, in manifests, units and their variables.
func TestEtcdServers(t *testing.T) {
	urls := []string{"https://10.0.0.11:2379", "https://10.0.0.14:2379"}
	for _, c := range []struct {
		tree, file, command string // the ExecStart= instead of the tree's
		old, now            string
	}{
		{"kubeadm", "etc/kubernetes/manifests/kube-apiserver.yaml", "", "--etcd-servers=https://127.0.0.1:2379 # the", "--etcd-servers=https://10.0.0.11:2379,https://10.0.0.14:2379 # the"},
		{"events", "etc/systemd/system/kube-apiserver.service.d/zz-steward.conf", "", "", "--etcd-servers=https://10.0.0.11:2379,https://10.0.0.14:2379  $KUBE_ETCD --v 2"},
		{"events", "etc/kubernetes/apiserver", "ExecStart=/usr/local/bin/kube-apiserver $KUBE_ETCD", "--etcd-servers-overrides=", "--etcd-servers=https://10.0.0.11:2379,https://10.0.0.14:2379"},
		{"events", "etc/kubernetes/apiserver", "ExecStart=/usr/local/bin/kube-apiserver --etcd-servers=${SERVERS}", "KUBE_ETCD=", "SERVERS=https://10.0.0.11:2379,https://10.0.0.14:2379\n"},
	} {
		root := machine(t, c.tree)
		if c.command != "" {
			put(t, root, "etc/systemd/system/kube-apiserver.service", "[Service]\nEnvironmentFile=/etc/kubernetes/apiserver\n"+c.command+"\n")
			text := "KUBE_ETCD='--etcd-servers=https://10.0.0.11:2379 --other'\nSERVERS=https://10.0.0.1:2379\n"
			put(t, root, "etc/kubernetes/apiserver", text)
			c.old = text
		}
		files := snapshot(t, root)
		m := Detect(root)
		p := m.Part("kube-apiserver")[0]
		edits, err := m.SetEtcdServers(p, urls, "t")
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		text, err := os.ReadFile(filepath.Join(root, c.file))
		if err != nil || !strings.Contains(string(text), c.now) {
			t.Errorf("%s: got %s, %v, want %q in it", c.file, text, err, c.now)
		}
		got := Detect(root).Part("kube-apiserver")[0]
		if !slices.Equal(splitList(got.Flags["etcd-servers"].Value), urls) {
			t.Errorf("%s: got %v", c.file, got.EtcdServers())
		}
		if again, err := m.SetEtcdServers(p, urls, "t"); err != nil || !slices.Equal(again, edits) || len(edits) != 1 {
			t.Errorf("%s: again: got %v, %v, want %v", c.file, again, err, edits)
		}
		if err := m.Undo(edits); err != nil {
			t.Error(err)
		}
		after := snapshot(t, root)
		for path := range after {
			if strings.Contains(path, ".steward-t") || strings.Contains(path, ".undone-t") {
				delete(after, path)
			}
		}
		if diff := cmp.Diff(files, after); diff != "" {
			t.Errorf("%s: undone:\n%s", c.file, diff)
		}
	}
}

// TestEtcdServersRepeated: what a program adds up is not rewritten in one place.
func TestEtcdServersRepeated(t *testing.T) {
	root := machine(t, "events")
	put(t, root, "etc/systemd/system/kube-apiserver.service", "[Service]\nExecStart=/usr/bin/kube-apiserver --etcd-servers=http://a:1 --etcd-servers http://b:1\n")
	m := Detect(root)
	if _, err := m.SetEtcdServers(m.Part("kube-apiserver")[0], []string{"http://c:1"}, "t"); err == nil || !strings.Contains(err.Error(), "several times") {
		t.Errorf("got %v", err)
	}
}

// TestMentions: who on this machine names a member that goes.
func TestMentions(t *testing.T) {
	m := Detect(machine(t, "events"))
	unit, env := "/etc/systemd/system/kube-apiserver.service", "/etc/kubernetes/apiserver"
	for url, want := range map[string][]Mention{
		"http://10.0.0.12:2379/": {{unit, "kube-apiserver", "etcd-servers", "https://10.0.0.12:2379"}},
		"https://10.0.0.12:2381": {{env, "kube-apiserver", "etcd-servers-overrides", "https://10.0.0.12:2381"}},
		"https://10.0.0.1:2379":  nil,
	} {
		if diff := cmp.Diff(want, m.Mentions(url)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
	m = Detect(machine(t, "kubespray-host"))
	if got := m.Mentions("https://10.0.0.13:2380"); len(got) != 1 || got[0].Flag != "initial-cluster" || got[0].File != "/etc/etcd.env" {
		t.Errorf("got %v", got)
	}
}
