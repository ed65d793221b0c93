package membership

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// TestLateCleanUp: on the host of a member that was removed long ago, its data are still its own, and the cluster does not know it: then it is stopped, and they are
// renamed. A cluster that was restored with its old IDs may know it again; without its data, or the cluster's word, nothing is certain.
func TestLateCleanUp(t *testing.T) {
	slow(t)
	t.Parallel()
	c := lab.StartEtcd(t, lab.EtcdOptions{Members: 2, UnsafeNoFsync: true})
	cli := c.ClientOf(t, 0)
	list, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	specs := map[string]Spec{}
	for _, m := range list.Members {
		specs[m.Name] = Spec{ID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs}
	}
	gone, stays := specs[c.Members[1].Name], specs[c.Members[0].Name]
	roots := map[ID]string{}
	for i, m := range []Spec{stays, gone} {
		roots[m.ID] = t.TempDir()
		for path, text := range map[string]string{
			"usr/local/bin/etcd":              "",
			"etc/systemd/system/etcd.service": "[Service]\nExecStart=/usr/local/bin/etcd --name " + m.Name + " --data-dir /var/lib/etcd --initial-advertise-peer-urls " + m.PeerURLs[0] + "\n",
		} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(roots[m.ID], path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(roots[m.ID], path), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(filepath.Join(roots[m.ID], "var/lib/etcd/member/wal"), os.DirFS(filepath.Join(c.DataDir(i), "member", "wal"))); err != nil {
			t.Fatal(err)
		}
	}
	lab.Eventually(t, 20*time.Second, "the member is removed", func() error { // etcd wants the others to have been connected for a while
		_, err := cli.MemberRemove(t.Context(), uint64(gone.ID))
		return err
	})
	late := func(m Spec, cluster ID, endpoint string, again bool) error {
		doc, err := json.Marshal(Basis{ClusterID: cluster, Removes: m.ID, Members: []Spec{m}})
		if err != nil {
			t.Fatal(err)
		}
		s := &Site{Access: probe.Access{Endpoints: []string{endpoint}}, Host: &Host{Machine: host.Detect(roots[m.ID])}}
		return s.stillRemoved(t.Context(), &plan.Task{Plan: &plan.Plan{Basis: doc}, Again: again})
	}
	ours, here := ID(list.Header.ClusterId), c.Endpoint(0)
	wants := func(what string, err error, text string) {
		t.Helper()
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
	wants("the removed one", late(gone, ours, here, false), "")
	wants("one that is a member", late(stays, ours, here, false), "is a member")
	wants("no cluster answers", late(gone, ours, "http://127.0.0.1:1", false), "cannot be asked")
	wants("data of another cluster", late(gone, 8, here, false), "are those of member")
	data := filepath.Join(roots[gone.ID], "var/lib/etcd/member")
	if err := os.Rename(data, data+".bak"); err != nil {
		t.Fatal(err)
	}
	wants("without data", late(gone, ours, here, false), "cannot be told")
	wants("its data renamed by this step", late(gone, ours, here, true), "")
}
