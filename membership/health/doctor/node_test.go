package doctor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"etcd-steward/integration/lab"
)

// node is an etcd that a test starts by itself, as the lab's shall be healthy.
type node struct {
	version, name, dir    string
	client, peer          string // addresses
	token, initial, state string
	clientTLS             bool
	extra                 []string
	user                  *syscall.Credential
}

func newNode(t *testing.T, version, name string) *node {
	t.Helper()
	n := &node{version: version, name: name, dir: filepath.Join(t.TempDir(), name), client: lab.FreeAddr(t), peer: lab.FreeAddr(t), token: "lab", state: "new"}
	n.initial = name + "=http://" + n.peer
	return n
}

// newNodes belong together.
func newNodes(t *testing.T, version string, n int) []*node {
	t.Helper()
	var nodes []*node
	var initial []string
	for i := range n {
		nodes = append(nodes, newNode(t, version, "m"+string(rune('0'+i))))
		initial = append(initial, nodes[i].initial)
	}
	for _, n := range nodes {
		n.initial = strings.Join(initial, ",")
	}
	return nodes
}

// start runs it, with the logs that etcd writes by default.
func (n *node) start(t *testing.T) *lab.Process {
	t.Helper()
	scheme := "http://"
	if n.clientTLS {
		scheme = "https://"
	}
	args := []string{
		"--name", n.name, "--data-dir", n.dir, "--listen-client-urls", scheme + n.client, "--advertise-client-urls", scheme + n.client,
		"--listen-peer-urls", "http://" + n.peer, "--initial-advertise-peer-urls", "http://" + n.peer, "--initial-cluster", n.initial,
		"--initial-cluster-state", n.state, "--initial-cluster-token", n.token, "--unsafe-no-fsync",
	}
	cmd := exec.Command(lab.Tool(t, "etcd-"+n.version), slices.Concat(args, n.extra)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "ETCD_") })
	if n.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.user}
	}
	return lab.Start(t, n.name, cmd)
}

// cli is a client of it alone.
func (n *node) cli(t *testing.T) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + n.client}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// serves waits until it decides.
func (n *node) serves(t *testing.T) {
	t.Helper()
	cli := n.cli(t)
	lab.Eventually(t, 30*time.Second, n.name+" serves", func() error {
		_, err := cli.Put(t.Context(), "a", "b")
		return err
	})
}

// ends waits for the end of a process that cannot go on.
func ends(t *testing.T, p *lab.Process) string {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s goes on:\n%s", p.Name, p.Tail(64<<10))
	}
	return p.Log
}

// said is what a client was told, as a log.
func said(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		err = errors.New("nothing")
	}
	return written(t, time.Now().UTC().Format(time.RFC3339)+" error: "+err.Error()+"\n")
}

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
