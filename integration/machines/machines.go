// Package machines starts real machines for tests: systemd-nspawn containers, each with systemd as its first process, a network namespace and a
// disk (an overlay over one root file system) of its own, on one bridge per Net that the test can reach. They can be rebooted, cut off and have their power
// cut. On them it sets etcd up as kubespray, kubeadm and others do.
//
// It promises that nothing outlives the test that started it, or, when that was killed, the next start of any machines; that several tests, also of
// several processes, run side by side; and that no traffic leaves the bridge. It needs root and what integration/setup installs: without, tests are skipped;
// where CI is set, only for want of root. The machines share the kernel, the clock and the page cache with the host: a power cut loses processes, not writes that were not synced.
package machines

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"etcd-steward/integration/lab"
)

// Options say what machines a test needs. The zero value is one machine with IPv4.
type Options struct {
	Count int  // 0 means 1; at most 9
	IPv6  bool // each has an IPv6 address too
}

// Net is machines on one bridge. The first is called m1.
type Net struct {
	Machines []*Machine
	HostIP   string // the test's own address on the bridge: what it listens on there can be reached by the machines
	HostIP6  string // with Options.IPv6

	slot *slot
}

// maxCount is how many machines a Net can have.
const maxCount = 9

// Start boots machines side by side, and waits until systemd has started everything on each.
func Start(t lab.T, opts Options) *Net {
	t.Helper()
	base := require(t)
	if opts.Count == 0 {
		opts.Count = 1
	}
	if opts.Count < 0 || opts.Count > maxCount {
		t.Fatalf("start %d machines: at most %d", opts.Count, maxCount)
	}
	s, err := claim()
	if err != nil {
		t.Fatalf("start machines: %v", err)
	}
	n := &Net{slot: s, HostIP: s.ip(1)}
	if opts.IPv6 {
		n.HostIP6 = s.ip6(1)
	}
	t.Cleanup(func() {
		if f, ok := t.(interface{ Failed() bool }); ok && f.Failed() {
			n.explain(t)
		}
		n.stop(t)
	})
	if err := s.bridge(opts.IPv6); err != nil {
		t.Fatalf("start machines: %v", err)
	}
	for i := range opts.Count {
		n.Machines = append(n.Machines, newMachine(n, i+1, opts.IPv6))
	}
	var wg sync.WaitGroup
	errs := make([]error, opts.Count)
	for i, m := range n.Machines {
		wg.Go(func() {
			if errs[i] = m.build(base); errs[i] == nil {
				errs[i] = m.boot(t.Context())
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("start %s: %v\n%s", n.Machines[i].Name, err, n.Machines[i].console(4<<10))
		}
	}
	return n
}

// Machine is the one with this name ("m1").
func (n *Net) Machine(name string) *Machine {
	for _, m := range n.Machines {
		if m.Name == name {
			return m
		}
	}
	panic("there is no machine " + name)
}

// stop ends all machines at once and leaves nothing behind.
func (n *Net) stop(t lab.T) {
	for _, m := range n.Machines {
		m.retire()
	}
	if err := n.slot.clear(); err != nil {
		t.Logf("clean up after the machines: %v", err)
	}
	n.slot.release()
}

// explain shows what the machines said last, and with STEWARD_HOLD set keeps them for a look until the test is interrupted.
func (n *Net) explain(t lab.T) {
	for _, m := range n.Machines {
		if m.Leader() == 0 {
			t.Logf("--- %s is off", m.Name)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the test's own has ended
		out := m.Run(ctx, "journalctl", "--no-pager", "-n", "1000", "-o", "short-precise")
		cancel()
		t.Logf("--- the last of %s's journal\n%s%s", m.Name, clip(out.Stdout), out.Stderr)
		if os.Getenv("STEWARD_HOLD") != "" {
			fmt.Fprintf(os.Stderr, "%s: nsenter -t %d -a bash -l\n", m.Name, m.Leader())
		}
	}
	if os.Getenv("STEWARD_HOLD") != "" {
		fmt.Fprintln(os.Stderr, "the machines are kept until this test is interrupted")
		select {}
	}
}

// clip keeps the last lines that may say what went wrong (etcd says much else), and shortens them (its log has stacks in one).
func clip(journal string) string {
	const widest, most = 300, 40
	var lines []string
	for line := range strings.Lines(journal) {
		if strings.Contains(line, `"level":"info"`) {
			continue
		}
		if len(line) > widest {
			line = line[:widest] + "...\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

// require returns the root file system, or skips the test with what is missing.
func require(t lab.T) string {
	t.Helper()
	reason := ""
	base, err := rootfs()
	switch {
	case os.Getuid() != 0:
		reason = "real machines take root"
	case err != nil:
		reason = err.Error()
	default:
		for _, tool := range []string{"systemd-nspawn", "ip", "nft", "nsenter", "curl"} {
			if _, err := exec.LookPath(tool); err != nil {
				reason = tool + " is missing: run `make setup`"
			}
		}
	}
	if reason == "" {
		return base
	}
	if s, ok := t.(interface{ Skip(...any) }); ok && (os.Getenv("CI") == "" || os.Getuid() != 0) {
		s.Skip(reason)
	}
	t.Fatalf("%s", reason)
	return ""
}

// rootfs is the folder that integration/setup made.
func rootfs() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "etcd-steward", "rootfs-"+recipeHash())
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("the machines' root file system is missing: run `make setup`: %w", err)
	}
	return dir, nil
}
