package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// asKubelet in the environment makes the test binary be the kubelet, or what it execs a container's command with.
const asKubelet = "KUBELET_TEST_IS_KUBELET"

func TestMain(m *testing.M) {
	if os.Getenv(asKubelet) != "" || len(os.Args) > 1 && os.Args[1] == containerArg {
		main()
		return
	}
	os.Exit(m.Run())
}

// node is a kubelet with folders of its own.
type node struct {
	*lab.Process
	t   *testing.T
	dir string
}

func newNode(t *testing.T) *node {
	t.Helper()
	t.Parallel()
	n := &node{t: t, dir: t.TempDir()}
	n.start()
	t.Cleanup(n.clear)
	return n
}

// clear ends what the kubelet runs, which outlives it.
func (n *node) clear() {
	n.Kill()
	if err := os.Rename(filepath.Join(n.dir, "manifests"), filepath.Join(n.dir, "moved")); err != nil {
		n.t.Error(err)
	}
	k, err := newKubelet(filepath.Join(n.dir, "manifests"), filepath.Join(n.dir, "state"))
	if err != nil {
		n.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(k.running) > 0; k.sync() {
		if time.Now().After(deadline) {
			n.t.Fatalf("these do not end: %v", k.running)
		}
		select {
		case <-k.moved:
		case <-time.After(interval):
		}
	}
}

func (n *node) start() {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(self, "-manifests", filepath.Join(n.dir, "manifests"), "-state", filepath.Join(n.dir, "state"))
	cmd.Env = append(os.Environ(), asKubelet+"=1")
	n.Process = lab.Start(n.t, "kubelet", cmd)
	n.eventually("the folder is there", func() error {
		_, err := os.Stat(filepath.Join(n.dir, "manifests"))
		return err
	})
}

// manifest writes a pod whose one container appends its process id to DIR/NAME.pids and then runs script.
func (n *node) manifest(file, name, script string) {
	n.t.Helper()
	text := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: kube-system}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: nothing
    command: [sh, -c]
    args: ["echo $$ >> %[2]s/%[1]s.pids; %[3]s"]
    volumeMounts: [{name: data, mountPath: %[2]s/inside}]
  volumes:
  - {name: data, hostPath: {path: "%[2]s/data-%[1]s", type: DirectoryOrCreate}}
`, name, n.dir, script)
	if os.Getuid() != 0 {
		text = strings.Replace(text, "    volumeMounts:", "    notMounted:", 1) // mounting takes root
	}
	n.put(file, text)
}

func (n *node) put(file, text string) {
	n.t.Helper()
	path := filepath.Join(n.dir, "manifests", file)
	if err := os.WriteFile(filepath.Join(n.dir, "new"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(n.dir, "new"), path); err != nil {
		n.t.Fatal(err)
	}
}

// pids are the processes that a pod has had.
func (n *node) pids(name string) []int {
	b, err := os.ReadFile(filepath.Join(n.dir, name+".pids"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			n.t.Errorf("%s.pids: %v", name, err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func (n *node) eventually(what string, cond func() error) {
	n.t.Helper()
	lab.Eventually(n.t, 10*time.Second, what, cond)
}

// starts waits until a pod has been started so often, and returns the last process.
func (n *node) starts(name string, times int) int {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%s has been started %d times", name, times), func() error {
		if got := len(n.pids(name)); got != times {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	return n.pids(name)[times-1]
}

func (n *node) ends(pid int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d ends", pid), func() error {
		if runs(pid) {
			return errors.New("it runs")
		}
		return nil
	})
}

func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// TestManifests: what appears is run, what changes is run anew, what goes is stopped; a name with a dot before it hides, any other name does not.
func TestManifests(t *testing.T) {
	n := newNode(t)
	n.manifest("a.yaml", "a", "exec sleep 100")
	n.manifest(".hidden.yaml", "hidden", "exec sleep 100")
	n.manifest("b.yaml.bak", "b", "exec sleep 100")
	first, b := n.starts("a", 1), n.starts("b", 1)
	if got := n.pids("hidden"); got != nil {
		t.Errorf("the hidden manifest runs as %v", got)
	}
	n.manifest("a.yaml", "a", "exec sleep 101")
	second := n.starts("a", 2)
	n.ends(first)
	n.put("a.yaml", "kind: Pod\nmetadata: {name: ") // half of one
	n.eventually("the kubelet complains", func() error {
		if !strings.Contains(n.Tail(8<<10), "a.yaml: ") {
			return errors.New("it does not")
		}
		return nil
	})
	if !runs(second) {
		t.Error("a manifest that cannot be read ended its pod")
	}
	if err := os.Remove(filepath.Join(n.dir, "manifests", "a.yaml")); err != nil {
		t.Fatal(err)
	}
	n.ends(second)
	if err := os.Rename(filepath.Join(n.dir, "manifests", "b.yaml.bak"), filepath.Join(n.dir, "manifests", ".b.yaml")); err != nil {
		t.Fatal(err)
	}
	n.ends(b)
	if !runs(n.PID()) {
		t.Error("the kubelet has ended")
	}
}

// TestRestarts: what ends is started again, and less and less often; what does not end when it is asked to is killed.
func TestRestarts(t *testing.T) {
	n := newNode(t)
	begin := time.Now()
	n.manifest("crash.yaml", "crash", "exit 1")
	n.manifest("stubborn.yaml", "stubborn", "trap : TERM; while :; do sleep 0.1; done")
	n.starts("crash", 4)
	if took := time.Since(begin); took < pauseFirst+2*pauseFirst+4*pauseFirst {
		t.Errorf("started 4 times within %v", took)
	}
	pid := n.starts("stubborn", 1)
	begin = time.Now()
	if err := os.Remove(filepath.Join(n.dir, "manifests", "stubborn.yaml")); err != nil {
		t.Fatal(err)
	}
	n.ends(pid)
	if took := time.Since(begin); took < time.Second {
		t.Errorf("killed after %v, before its time", took)
	}
}

// TestOutlives: what runs outlives the kubelet, and the next one knows it: it is not started twice, is started again when it ends, and stopped when its
// manifest went meanwhile.
func TestOutlives(t *testing.T) {
	n := newNode(t)
	n.manifest("a.yaml", "a", "exec sleep 100")
	n.manifest("b.yaml", "b", "exec sleep 100")
	a, b := n.starts("a", 1), n.starts("b", 1)
	n.Kill()
	if !runs(a) || !runs(b) {
		t.Fatal("the pods ended with the kubelet")
	}
	if err := os.Remove(filepath.Join(n.dir, "manifests", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.ends(b)
	if got := len(n.pids("a")); got != 1 || !runs(a) {
		t.Errorf("a was started %d times", got)
	}
	if err := syscall.Kill(a, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.starts("a", 2)
}

// TestVolumes: a volume is where the container wants it, made on the host, and seen by nobody else.
func TestVolumes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	n := newNode(t)
	n.manifest("a.yaml", "a", "echo hello > "+n.dir+"/inside/file; exec sleep 100")
	n.starts("a", 1)
	n.eventually("the file is on the host", func() error {
		_, err := os.Stat(filepath.Join(n.dir, "data-a", "file"))
		return err
	})
	if _, err := os.Stat(filepath.Join(n.dir, "inside", "file")); err == nil {
		t.Error("the volume is mounted for all")
	}
}
