package host

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/internal/fail"
)

// configurable are the trees of testdata with one etcd, whose settings can be changed.
var configurable = []string{"kubeadm", "kubespray-host", "kubespray-docker", "docker-unit", "debian", "redhat", "flags", "yaml"}

func values(s Settings) map[string]string {
	out := map[string]string{}
	for flag, v := range s {
		out[flag] = v.Value
	}
	return out
}

// snapshot is every file of a tree.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		st, _ := d.Info()
		files[strings.TrimPrefix(p, root)] = fmt.Sprintf("%v %s", st.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestConfigure: what is written is found again, nothing else has changed, every other line stays where it was, and undoing it gives the files back.
func TestConfigure(t *testing.T) {
	seed := time.Now().UnixNano()
	if s, err := strconv.ParseInt(os.Getenv("STEWARD_SEED"), 10, 64); err == nil {
		seed = s
	}
	for _, name := range configurable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			const rounds = 25
			refused := 0
			for round := range rounds {
				if !configureOnce(t, name, randomChanges(r, name), fmt.Sprintf("STEWARD_SEED=%d round %d", seed, round)) {
					refused++
				}
			}
			if refused > rounds*2/3 {
				t.Errorf("STEWARD_SEED=%d: %d of %d changes were refused", seed, refused, rounds)
			}
		})
	}
}

var someFlags = []string{
	"name", "data-dir", "initial-cluster", "initial-cluster-state", "initial-cluster-token", "listen-peer-urls", "initial-advertise-peer-urls",
	"advertise-client-urls", "listen-client-urls", "cert-file", "peer-cert-file", "peer-trusted-ca-file", "client-cert-auth", "peer-client-cert-auth",
	"quota-backend-bytes", "force-new-cluster", "wal-dir", "log-level",
}

func randomChanges(r *rand.Rand, tree string) map[string]string {
	odd := []string{"with space", `quote"d`, "dollar$HOME", "50%", `back\slash`, "it's", "#no: comment", "a=b,c=d", "[list]", "{map}", "*star", "ünïcode", "a#b", "- dash"}
	if tree == "kubespray-docker" || tree == "docker-unit" {
		odd = append(odd[2:3:3], "a=b,c=d", "it's") // read literally, but for white space at the ends
	}
	changes := map[string]string{}
	for range 1 + r.IntN(6) {
		flag := someFlags[r.IntN(len(someFlags))]
		switch value := ""; {
		case r.IntN(5) == 0:
			changes[flag] = ""
		case toggles[flag]:
			changes[flag] = strconv.FormatBool(r.IntN(2) == 0)
		case numbers[flag]:
			changes[flag] = strconv.Itoa(r.IntN(1 << 30))
		case r.IntN(3) == 0:
			changes[flag] = odd[r.IntN(len(odd))]
		default:
			for i := range 1 + r.IntN(3) {
				value += fmt.Sprintf(",m%d=https://10.0.0.%d:2380", i, r.IntN(255))
			}
			changes[flag] = value[1:]
		}
	}
	return changes
}

// refusable says whether a change may be refused: what a shell or several variables put together is not rewritten.
func refusable(tree string) bool {
	return tree == "redhat" || tree == "debian" || tree == "docker-unit"
}

func configureOnce(t *testing.T, tree string, changes map[string]string, seed string) (done bool) {
	t.Helper()
	root := machine(t, tree)
	m := Detect(root)
	e, err := m.Etcd("")
	if err != nil {
		t.Fatal(err)
	}
	before, files := values(e.Settings), snapshot(t, root)
	want := maps.Clone(before)
	for flag, value := range changes {
		if want[flag] = value; value == "" {
			delete(want, flag)
		}
	}
	edits, err := m.Configure(e, changes, "tag")
	if err != nil {
		if !refusable(tree) || fail.ExitCode(err) != fail.Unsafe {
			t.Fatalf("%s: configure %q: %v", seed, changes, err)
		}
		if diff := cmp.Diff(before, values(only(t, root).Settings)); diff != "" {
			t.Fatalf("%s: %v, and changed:\n%s", seed, err, diff)
		}
		return false
	}
	if diff := cmp.Diff(want, values(only(t, root).Settings)); diff != "" {
		t.Fatalf("%s: %q: detected (-want +got):\n%s", seed, changes, diff)
	}
	if diff := cmp.Diff(want, values(e.Settings)); diff != "" {
		t.Fatalf("%s: e is not brought up to date:\n%s", seed, diff)
	}
	again, err := m.Configure(e, changes, "tag")
	if err != nil || !slices.Equal(edits, again) {
		t.Fatalf("%s: again: got %v, %v, want %v", seed, again, err, edits)
	}
	if len(edits) == 0 && !maps.Equal(before, want) {
		t.Fatalf("%s: %q: nothing is said to be changed", seed, changes)
	}
	if none, err := m.Configure(e, changes, "another"); err != nil || len(none) > 0 {
		t.Fatalf("%s: nothing to do: got %v, %v", seed, none, err)
	}
	for _, edit := range edits {
		kept, old := snapshot(t, root)[edit.Kept], files[edit.Path]
		if edit.New == (old != "") || !edit.New && kept != old {
			t.Fatalf("%s: %v kept %q, want %q", seed, edit, kept, old)
		}
		if strings.HasPrefix(edit.Kept, m.Manifests+"/") {
			t.Fatalf("%s lies where the kubelet runs it", edit.Kept)
		}
		linesStay(t, seed, changes, old, snapshot(t, root)[edit.Path])
	}
	for range 2 {
		if err := m.Undo(edits); err != nil {
			t.Fatalf("%s: undo: %v", seed, err)
		}
	}
	after := snapshot(t, root)
	for path := range after {
		if strings.Contains(path, ".steward-") || strings.Contains(path, ".undone-") {
			delete(after, path)
		}
	}
	if diff := cmp.Diff(files, after); diff != "" {
		t.Fatalf("%s: undone (-before +after):\n%s", seed, diff)
	}
	return true
}

func only(t *testing.T, root string) *Etcd {
	t.Helper()
	e, err := Detect(root).Etcd("")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// linesStay: lines of the old text that speak of none of the changed flags are in the new one, in their order.
func linesStay(t *testing.T, seed string, changes map[string]string, old, now string) {
	t.Helper()
	rest := now
	for line := range strings.Lines(old) {
		touched := strings.Contains(line, "ExecStart") || strings.Contains(line, "DAEMON_ARGS")
		for flag := range changes {
			path := yamlPath(flag)
			touched = touched || strings.Contains(line, path[len(path)-1]) || strings.Contains(line, variable(flag))
		}
		if touched {
			continue
		}
		i := strings.Index(rest, strings.TrimSuffix(line, "\n"))
		if i < 0 {
			t.Fatalf("%s: %q: the line %q is gone from:\n%s\nwhich was:\n%s", seed, changes, line, now, old)
		}
		rest = rest[i+len(line)-1:]
	}
}

// TestConfigureKeeps: owner, mode and a link stay.
func TestConfigureKeeps(t *testing.T) {
	root := machine(t, "kubespray-host")
	real := filepath.Join(root, "opt/real.env")
	if err := os.MkdirAll(filepath.Dir(real), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "etc/etcd.env"), real); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/opt/real.env", filepath.Join(root, "etc/etcd.env")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(real, 0o604); err != nil {
		t.Fatal(err)
	}
	m := Detect(root)
	e := only(t, root)
	if _, err := m.Configure(e, map[string]string{"name": "other"}, "x"); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(real)
	if err != nil || st.Mode() != 0o604 {
		t.Errorf("the file behind the link: %v, %v", st, err)
	}
	if text, _ := os.ReadFile(real); !bytes.Contains(text, []byte("ETCD_NAME=other\n")) {
		t.Errorf("got %s", text)
	}
	if got, err := os.Readlink(filepath.Join(root, "etc/etcd.env")); err != nil || got != "/opt/real.env" {
		t.Errorf("the link: %s, %v", got, err)
	}
}

// TestConfigureOwner: a distribution's etcd is not touched.
func TestConfigureOwner(t *testing.T) {
	root := machine(t, "flags")
	put(t, root, "var/lib/k0s/etcd/.keep", "")
	m := Detect(root)
	before := snapshot(t, root)
	if _, err := m.Configure(only(t, root), map[string]string{"name": "x"}, "x"); err == nil {
		t.Error("it was changed")
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Error(diff)
	}
}

// TestUndoKeeps: what somebody has written meanwhile into a file whose change is undone is not lost.
func TestUndoKeeps(t *testing.T) {
	root := machine(t, "kubespray-host")
	m := Detect(root)
	before := snapshot(t, root)["/etc/etcd.env"]
	edits, err := m.Configure(only(t, root), map[string]string{"name": "other"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "etc/etcd.env")
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now = append(now, "ETCD_QUOTA_BACKEND_BYTES=7\n"...)
	if err := os.WriteFile(file, now, 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Undo(edits); err != nil {
			t.Fatal(err)
		}
	}
	after := snapshot(t, root)
	if after["/etc/etcd.env"] != before {
		t.Errorf("undone: %s", after["/etc/etcd.env"])
	}
	if got := after["/etc/etcd.env.undone-x"]; !strings.HasSuffix(got, string(now)) {
		t.Errorf("kept: %q", got)
	}
}
