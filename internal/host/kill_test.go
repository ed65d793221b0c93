package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// killChanges are what a child writes that is killed.
var killChanges = map[string]string{
	"name": "killed", "initial-cluster": "killed=https://10.9.9.9:2380", "initial-cluster-state": "bogus", "quota-backend-bytes": "77777",
}

// TestMain is also the child: with STEWARD_KILL it changes the tree below that folder, and says when it begins; with STEWARD_HANDS it runs on a machine, and
// holds and releases what runs there.
func TestMain(m *testing.M) {
	root := os.Getenv("STEWARD_KILL")
	if os.Getenv("STEWARD_HANDS") != "" {
		if err := hands(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if root == "" {
		os.Exit(m.Run())
	}
	found := Detect(root)
	e, err := found.Etcd("")
	if err == nil {
		fmt.Println("begin")
		_, err = found.Configure(e, killChanges, "k")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killChild starts a child that changes a tree, and kills it some time after it began.
func killChild(t *testing.T, root string, after time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "STEWARD_KILL="+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the child did not begin")
	}
	time.Sleep(after) // the moment of the kill is what is tried
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// hands holds, releases and starts the etcd of this machine.
func hands() error {
	ctx := context.Background()
	c := NewControl(Detect("/"))
	defer c.Close()
	e, err := c.Machine.Etcd("")
	if err != nil {
		return err
	}
	if err := errors.Join(c.Hold(ctx, &e.Workload), c.Release(ctx, &e.Workload), c.Start(ctx, &e.Workload)); err != nil {
		return err
	}
	pid, err := c.Running(ctx, &e.Workload)
	if err == nil && pid <= 0 {
		err = fmt.Errorf("running: %d", pid)
	}
	return err
}
