package host

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// names are what a folder holds, sorted.
func names(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, e := range all {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}

func TestSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	put(t, dir, "member/snap/db", "data")
	aside, moved, err := SetAside(dir, "x")
	if err != nil || !moved || aside != dir+".bak-x" || names(t, aside) != "member" {
		t.Fatalf("got %s, %v, %v", aside, moved, err)
	}
	if err := Prepare(dir, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	f, err := Look(dir)
	if err != nil || !f.Exists || !f.Empty || f.Mode != 0o700 || f.UID != os.Getuid() || f.Mount {
		t.Errorf("prepared: %+v, %v", f, err)
	}
	put(t, dir, "member/new", "")
	// Called again, also after a crash, it leaves what came since alone.
	if again, moved, err := SetAside(dir, "x"); err != nil || moved || again != aside || names(t, dir) != "member" {
		t.Errorf("again: %s, %v, %v; %s", again, moved, err, names(t, dir))
	}
	if err := BringBack(dir, "x"); err == nil || names(t, dir) != "member" {
		t.Error("what is there was overwritten")
	}
	if err := Prepare(dir, 0, 0); err == nil {
		t.Error("a folder with data is prepared")
	}
	if _, moved, err := SetAside(dir, "y"); err != nil || !moved {
		t.Errorf("another suffix: %v", err)
	}
	for range 2 {
		if err := BringBack(dir, "x"); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "member/snap/db")); err != nil || string(text) != "data" {
		t.Errorf("brought back: %s, %v", text, err)
	}
	if aside, moved, err := SetAside(dir+"-none", "x"); err != nil || moved || aside != "" {
		t.Errorf("nothing there: %s, %v, %v", aside, moved, err)
	}
	for _, bad := range []string{"", "a/b"} {
		if _, _, err := SetAside(dir, bad); err == nil {
			t.Errorf("suffix %q is accepted", bad)
		}
	}
}

// TestSetAsideLink: a data directory that is a link lies on another disk for a reason: it stays there.
func TestSetAsideLink(t *testing.T) {
	root := t.TempDir()
	put(t, root, "disk/etcd/member/x", "")
	link := filepath.Join(root, "lib")
	if err := os.Symlink("disk/etcd", link); err != nil {
		t.Fatal(err)
	}
	aside, moved, err := SetAside(link, "x")
	if err != nil || !moved || aside != filepath.Join(root, "disk/etcd.bak-x") {
		t.Fatalf("got %s, %v, %v", aside, moved, err)
	}
	if err := Prepare(link, os.Getuid(), os.Getgid()); err != nil || names(t, filepath.Join(root, "disk")) != "etcd etcd.bak-x" {
		t.Errorf("prepare: %v; %s", err, names(t, filepath.Join(root, "disk")))
	}
}

// TestSetAsideMount: a mount point cannot be renamed, so what is in it moves, all or nothing.
func TestSetAsideMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := filepath.Join(t.TempDir(), "etcd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	put(t, dir, "lost+found/.keep", "")
	put(t, dir, "a.wal", "1")
	put(t, dir, "member/snap/db", "data")
	if f, err := Look(dir); err != nil || !f.Mount || f.Empty {
		t.Errorf("look: %+v, %v", f, err)
	}
	// It was killed when one of two names had moved.
	put(t, dir, "bak-x.part/a.wal", "1")
	if err := os.Remove(filepath.Join(dir, "a.wal")); err != nil {
		t.Fatal(err)
	}
	aside, moved, err := SetAside(dir, "x")
	if err != nil || !moved || names(t, aside) != "a.wal member" || names(t, dir) != "bak-x lost+found" {
		t.Fatalf("got %s, %v, %v: %s", aside, moved, err, names(t, dir))
	}
	if err := Prepare(dir, 0, 0); err != nil {
		t.Errorf("prepare: %v", err)
	}
	put(t, dir, "member/new", "")
	if _, moved, err := SetAside(dir, "x"); err != nil || moved || names(t, filepath.Join(dir, "member")) != "new" {
		t.Errorf("again: %v, %v", moved, err)
	}
	if err := BringBack(dir, "x"); err == nil {
		t.Error("what is there was overwritten")
	}
	if _, _, err := SetAside(dir, "y"); err != nil {
		t.Fatal(err)
	}
	if err := BringBack(dir, "x"); err != nil || names(t, dir) != "a.wal bak-y lost+found member" {
		t.Errorf("brought back: %v; %s", err, names(t, dir))
	}
}

func TestHolder(t *testing.T) {
	dir := t.TempDir()
	if pid, err := Holder(dir); pid != 0 || err != nil {
		t.Errorf("no database: %d, %v", pid, err)
	}
	put(t, dir, "member/snap/db", "x")
	if pid, err := Holder(dir); pid != 0 || err != nil {
		t.Errorf("nobody: %d, %v", pid, err)
	}
	f, err := os.Open(filepath.Join(dir, "member/snap/db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(dir); pid != os.Getpid() && pid != -1 || err != nil {
		t.Errorf("this process: %d, %v", pid, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if pid, err := Holder(dir); pid != 0 || err != nil {
		t.Errorf("given back: %d, %v", pid, err)
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	l, err := ProbeSync(t.Context(), filepath.Join(dir, "not/yet"), 50, 20*time.Second)
	if err != nil || l.Writes != 50 || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
		t.Errorf("got %+v, %v", l, err)
	}
	if left := names(t, dir); left != "" {
		t.Errorf("the probe leaves %s", left)
	}
	if l, err := ProbeSync(t.Context(), dir, 1<<20, 30*time.Millisecond); err != nil || l.Writes == 0 || l.Writes == 1<<20 {
		t.Errorf("bounded: %+v, %v", l, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ProbeSync(over, dir, 5, time.Second); err == nil {
		t.Error("an ended context is passed over")
	}
	if n, err := FreeBytes(filepath.Join(dir, "not/yet")); err != nil || n == 0 {
		t.Errorf("free: %d, %v", n, err)
	}
}

// TestPark: a manifest is in one of two places, whatever was there before.
func TestPark(t *testing.T) {
	root := t.TempDir()
	manifest, parked := "/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/steward-parked"
	put(t, root, manifest, "one")
	m := &Machine{Root: root, Manifests: "/etc/kubernetes/manifests"}
	for range 2 {
		if err := m.park(manifest); err != nil {
			t.Fatal(err)
		}
	}
	put(t, root, manifest, "two") // an installer wrote it again
	if err := m.park(manifest); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Join(root, parked)); !strings.HasPrefix(got, "etcd.yaml etcd.yaml.steward-") {
		t.Errorf("parked: %s", got)
	}
	for range 2 {
		if err := m.unpark(manifest); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(root, manifest)); string(text) != "two" {
		t.Errorf("got %s, %v", text, err)
	}
	if err := m.park("/etc/kubernetes/manifests/none.yaml"); err == nil {
		t.Error("nothing was parked")
	}
	if err := m.unpark("/etc/kubernetes/manifests/none.yaml"); err == nil {
		t.Error("nothing was released")
	}
}

// TestPodProcess: on a node with other etcds and API servers in its users' pods, the static pod's own is found.
func TestPodProcess(t *testing.T) {
	root := machine(t, "kubeadm")
	m := Detect(root)
	e := only(t, root)
	proc := filepath.Join(root, "proc")
	run := func(pid, cgroup string, args ...string) {
		put(t, proc, pid+"/cmdline", strings.Join(args, "\x00")+"\x00")
		put(t, proc, pid+"/cgroup", cgroup+"\n")
	}
	run("10", "0::/system.slice", "etcd", "--data-dir=/var/lib/etcd", "--name=tenant") // somebody's, by its name and addresses
	run("11", "0::/system.slice", "sh", "-c", "etcd --name=m1 --data-dir=/var/lib/etcd")
	if pid := m.findPod(proc, &e.Workload, e.Settings); pid != 0 {
		t.Errorf("process %d is taken for it", pid)
	}
	run("12", "0::/system.slice", "/usr/local/bin/etcd", "--data-dir=/var/lib/etcd", "--name", "m1")
	if pid := m.findPod(proc, &e.Workload, e.Settings); pid != 12 {
		t.Errorf("got process %d, want 12", pid)
	}
	// With the kubelet's own records, those decide.
	put(t, root, "var/log/pods/kube-system_etcd-m1_0123456789abcdef0123456789abcdef/.keep", "")
	put(t, root, "var/log/pods/tenant_etcd-0_99999999-8888-7777-6666-555555555555/.keep", "")
	run("12", "0::/kubepods.slice/kubepods-pod99999999_8888_7777_6666_555555555555.slice/cri-x.scope", "etcd", "--data-dir=/var/lib/etcd", "--name=m1")
	if pid := m.findPod(proc, &e.Workload, e.Settings); pid != 0 {
		t.Errorf("a tenant's etcd-0 is taken for it: %d", pid)
	}
	run("13", "0::/kubepods.slice/kubepods-burstable-pod0123456789abcdef0123456789abcdef.slice/cri-y.scope", "etcd", "--data-dir=/changed")
	if pid := m.findPod(proc, &e.Workload, e.Settings); pid != 13 {
		t.Errorf("got process %d, want 13", pid)
	}
	p := m.Part("kube-apiserver")[0]
	run("20", "0::/x", "kube-apiserver", "--etcd-servers=https://tenant:2379", "--secure-port=6443")
	if pid := m.findPod(proc, &p.Workload, p.Flags); pid != 0 {
		t.Errorf("a tenant's API server %d is taken for it", pid)
	}
	run("21", "0::/x", "kube-apiserver", "--advertise-address=10.0.0.11", "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
		"--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt", "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key", "--etcd-servers=https://old:2379")
	if pid := m.findPod(proc, &p.Workload, p.Flags); pid != 21 {
		t.Errorf("got API server %d, want 21", pid)
	}
}

// TestKillConfigure: killed at any moment, the same call completes it, and undoing it gives back the files of before.
func TestKillConfigure(t *testing.T) {
	for _, tree := range []string{"kubeadm", "kubespray-host", "flags", "yaml"} {
		t.Run(tree, func(t *testing.T) {
			t.Parallel()
			for after := range 6 {
				root := machine(t, tree)
				files := snapshot(t, root)
				killChild(t, root, time.Duration(after)*700*time.Microsecond)
				m := Detect(root)
				edits, err := m.Configure(only(t, root), killChanges, "k")
				if err != nil {
					t.Fatal(err)
				}
				if open := differences(only(t, root).Settings, killChanges); len(open) > 0 || len(edits) == 0 {
					t.Errorf("not done: %v, %v", open, edits)
				}
				if err := m.Undo(edits); err != nil {
					t.Fatal(err)
				}
				now := snapshot(t, root)
				for path, text := range files {
					if now[path] != text {
						t.Errorf("%s is not what it was:\n%s", path, now[path])
					}
				}
				if e := only(t, root); !slices.Equal(differences(e.Settings, killChanges), []string{"initial-cluster", "initial-cluster-state", "name", "quota-backend-bytes"}) {
					t.Errorf("undone, and still set: %v", e.Settings)
				}
			}
		})
	}
}

// TestPodProcessEvents: the process of etcd-events is not that of etcd, whose name its own begins with.
func TestPodProcessEvents(t *testing.T) {
	root := t.TempDir()
	manifest := func(name string) string {
		return "metadata: {name: " + name + ", namespace: kube-system}\nspec: {containers: [{command: [etcd, --name=m1, --data-dir=/var/lib/" + name + "]}]}\n"
	}
	put(t, root, "etc/kubernetes/manifests/etcd.yaml", manifest("etcd"))
	put(t, root, "etc/kubernetes/manifests/etcd-events.yaml", manifest("etcd-events"))
	put(t, root, "var/log/pods/kube-system_etcd-m1_00000000000000000000000000000001/.keep", "")
	put(t, root, "var/log/pods/kube-system_etcd-events-m1_00000000000000000000000000000002/.keep", "")
	proc := filepath.Join(root, "proc")
	run := func(pid, uid, name string) {
		put(t, proc, pid+"/cmdline", "etcd\x00--name=m1\x00--data-dir=/var/lib/"+name+"\x00")
		put(t, proc, pid+"/cgroup", "0::/kubepods.slice/kubepods-burstable-pod"+uid+".slice/cri-x.scope\n")
	}
	m := Detect(root)
	for _, c := range []struct{ etcd, events int }{{0, 10}, {11, 10}} {
		run("10", "00000000000000000000000000000002", "etcd-events")
		if c.etcd > 0 {
			run("11", "00000000000000000000000000000001", "etcd")
		}
		for name, want := range map[string]int{"etcd": c.etcd, "etcd-events": c.events} {
			e, err := m.Etcd(name)
			if err != nil {
				t.Fatal(err)
			}
			if pid := m.findPod(proc, &e.Workload, e.Settings); pid != want {
				t.Errorf("%s: got process %d, want %d", name, pid, want)
			}
		}
	}
}
