package membership

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// TestRemovedByItsID: a machine whose etcd has the removed member's name and URL, and the data of another member, or of another cluster's, is not touched. It was: an
// m3 that had been added anew meanwhile was stopped, and its data renamed.
func TestRemovedByItsID(t *testing.T) {
	slow(t)
	t.Parallel()
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	st, err := c.Client(t).Status(t.Context(), c.Endpoint(0))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("/usr/local/bin/etcd", "")
	write("/etc/systemd/system/etcd.service", "[Service]\nExecStart=/usr/local/bin/etcd --name m3 --data-dir /var/lib/etcd --initial-advertise-peer-urls http://127.0.0.1:2380\n")
	if err := os.MkdirAll(root+"/var/lib/etcd", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(root+"/var/lib/etcd/member/wal", os.DirFS(filepath.Join(c.DataDir(0), "member", "wal"))); err != nil {
		t.Fatal(err)
	}
	mine := Spec{ID: ID(st.Header.MemberId), Name: "m3", PeerURLs: []string{"http://127.0.0.1:2380"}}
	for name, b := range map[string]Basis{
		"the member itself":    {ClusterID: ID(st.Header.ClusterId), Removes: mine.ID, Members: []Spec{mine}},
		"added anew meanwhile": {ClusterID: ID(st.Header.ClusterId), Removes: 7, Members: []Spec{{ID: 7, Name: "m3", PeerURLs: mine.PeerURLs}}},
		"another cluster's m3": {ClusterID: 8, Removes: mine.ID, Members: []Spec{mine}},
	} {
		h := &Host{Machine: host.Detect(root)}
		e, err := h.etcd()
		if err != nil || e == nil {
			t.Fatalf("%+v, %v", e, err)
		}
		doc, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = (&Site{Host: h}).retired(&plan.Task{Plan: &plan.Plan{Basis: doc}})
		went := h.dataMayGo(e, b)
		if name == "the member itself" {
			if err != nil || went != nil {
				t.Errorf("%s: %v, %v", name, err, went)
			}
			continue
		}
		for what, err := range map[string]error{"retired": err, "data": went} {
			if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "are those of member") {
				t.Errorf("%s: %s: %v, want a refusal", name, what, err)
			}
		}
	}
	asked := func(b Basis) (undone bool, err error) {
		doc, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		undo := (&Site{Host: &Host{Machine: host.Detect(root)}}).newOnly(func(context.Context, *plan.Task) error { undone = true; return nil })
		err = undo(t.Context(), &plan.Task{Plan: &plan.Plan{ID: "p", Basis: doc}, Step: plan.Step{Party: "m4"}})
		return undone, err
	}
	n := Newcomer{Name: "m4", PeerURL: "http://10.0.0.4:2380"}
	undone, err := asked(Basis{ClusterID: ID(st.Header.ClusterId), Adds: &n, Members: []Spec{mine}})
	if fail.ExitCode(err) != fail.Unsafe || undone || !strings.Contains(fail.HintOf(err), "--without m4") {
		t.Errorf("the new machine's part is undone on another member's machine: %v, %v", undone, err)
	}
	if undone, err := asked(Basis{ClusterID: ID(st.Header.ClusterId), Adds: &n, Members: []Spec{{ID: 7, Name: "m3"}}}); err != nil || !undone {
		t.Errorf("the new machine's part is not undone there: %v", err)
	}
}
