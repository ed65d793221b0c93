package membership

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
)

// procServices is what systemd is on a real machine: it runs the only unit of the machine whose files are below root, as a process that outlives whoever
// asked for it.
type procServices struct{ root, etcd string }

var _ host.Services = procServices{}

func (p procServices) pidFile() string { return filepath.Join(p.root, "etcd.pid") }

// pid is the running process; 0 when there is none.
func (p procServices) pid() int {
	text, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || strings.Contains(string(stat), ") Z ") {
		return 0
	}
	return pid
}

func (p procServices) Do(_ context.Context, verb host.Verb, _ string) error {
	if verb == host.VerbStop || verb == host.VerbRestart {
		if pid := p.pid(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
			for begun := time.Now(); p.pid() != 0; time.Sleep(5 * time.Millisecond) {
				if time.Since(begun) > 10*time.Second {
					return errors.New("etcd does not end")
				}
			}
		}
	}
	if verb == host.VerbStop || p.pid() != 0 {
		return nil
	}
	m := host.Detect(p.root)
	e, err := m.Etcd("")
	if err != nil {
		return err
	}
	if e.Held {
		return errors.New("assertion failed: it is held")
	}
	args := []string{"--unsafe-no-fsync", "--log-level=error"}
	for flag, s := range e.Settings {
		value := s.Value
		if flag == "data-dir" {
			value = m.Path(value)
		}
		args = append(args, "--"+flag+"="+value)
	}
	log, err := os.OpenFile(filepath.Join(p.root, "etcd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.etcd, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return os.WriteFile(p.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

func (p procServices) Enable(context.Context, string, bool) error { return nil }
func (p procServices) Unmask(context.Context, string) error       { return nil }
func (p procServices) Reload(context.Context) error               { return nil }

func (p procServices) State(context.Context, string) (host.State, error) {
	st := host.State{Load: "loaded", Active: "inactive", PID: p.pid()}
	if st.PID != 0 {
		st.Active = "active"
	}
	return st, nil
}

// job is what a process that will be killed is to do.
type job struct {
	Dir       string            // of the rig: store and journals
	Plan      string            // its ID
	Roots     map[string]string // party: its machine's files
	Etcd      string
	Endpoints []string
	Back      bool   // roll back
	At        string // the point to die at; "new": every one that is not in Visited yet
	Visited   string // file
	Final     string // the first step from which there is no way back; "": there is always one until it is done
}

const jobVariable = "STEWARD_TEST_JOB"

// TestCrashChild is a process of TestCrash: it executes all parties of a plan, each as if on a machine of its own, and kills itself.
func TestCrashChild(t *testing.T) {
	text := os.Getenv(jobVariable)
	if text == "" {
		t.Skip("only as a child of TestCrash")
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for party, root := range j.Roots {
		s := &Site{Access: probe.Access{Endpoints: j.Endpoints}, Pace: hurry, Backup: func(context.Context, func(string, ...any)) (string, error) { return "none", nil }}
		if root != "" {
			m := host.Detect(root)
			s.Host = &Host{Machine: m, Control: &host.Control{Machine: m, Services: procServices{root, j.Etcd}, Patience: 20 * time.Second}}
		}
		r := runnerAt(t, j.Dir, "on-"+party, s.Actions(), func(line string) { t.Logf("%s: %s", party, line) })
		r.Hook = func(point string) { j.reach(party + " " + point) }
		p, _, err := plan.Load(ctx, r.Board, j.Plan)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			var err error
			if j.Back {
				_, err = r.Rollback(ctx, p, party)
			} else {
				err = r.Run(ctx, p, party)
			}
			if err != nil {
				t.Errorf("%s: %v", party, err)
			}
		})
	}
	wait.Wait()
}

var reaching sync.Mutex

// reach dies at a point.
func (j job) reach(point string) {
	reaching.Lock()
	if j.At != point && j.At != "new" || j.At == "new" && slices.Contains(lines(j.Visited), point) {
		reaching.Unlock()
		return
	}
	f, err := os.OpenFile(j.Visited, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, point)
	}
	if err != nil {
		panic(err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func lines(file string) (all []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}

// run starts a process for the job, and says whether it was killed.
func (j job) run(t *testing.T) (killed bool) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("at %q, back %v: %v\n%s", j.At, j.Back, err, out)
	}
	return false
}

// chain kills the job at every point that it comes to, once each, and goes on with the same job, until it comes to its end. It returns the points.
func (j job) chain(t *testing.T) []string {
	t.Helper()
	j.At, j.Visited = "new", filepath.Join(t.TempDir(), "visited")
	for range 500 {
		if !j.run(t) {
			return lines(j.Visited)
		}
	}
	t.Fatalf("it does not come to an end: %q", lines(j.Visited))
	return nil
}

// machine makes the files of a machine with an etcd that was set up and never started.
func machine(t *testing.T, name string) (root, env string) {
	t.Helper()
	root = t.TempDir()
	env = "ETCD_NAME=default\nETCD_DATA_DIR=/var/lib/etcd\nETCD_LISTEN_CLIENT_URLS=http://ADDRESS\nETCD_ADVERTISE_CLIENT_URLS=http://ADDRESS\n# kept\n"
	env = strings.ReplaceAll(env, "ADDRESS", lab.FreeAddr(t))
	for path, text := range map[string]string{
		"etc/systemd/system/etcd.service": "[Service]\nType=notify\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd\n",
		"etc/etcd.env":                    env,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		p := procServices{root: root}
		if pid := p.pid(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(root, "etcd.log"))
			t.Logf("etcd on %s: %.4000s", name, text)
		}
	})
	return root, env
}

// crash opens a plan, as soon as the cluster lets it be made, whose parties are processes.
func (r *rig) crash(roots map[string]string, draft func() (plan.Plan, error)) job {
	r.t.Helper()
	var p plan.Plan
	lab.Eventually(r.t, 20*time.Second, "a plan can be made", func() (err error) {
		p, err = draft()
		return err
	})
	sealed, err := plan.New(p)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.runner("on-"+Operator, r.site().Actions()).Open(r.t.Context(), sealed); err != nil {
		r.t.Fatal(err)
	}
	final := ""
	for _, step := range slices.Backward(sealed.Order()) {
		if step.Final {
			final = step.Name
		}
	}
	return job{Final: final, Dir: r.dir, Plan: sealed.ID, Roots: roots, Etcd: lab.Tool(r.t, "etcd-"+r.Version), Endpoints: r.Endpoints(), Visited: filepath.Join(r.t.TempDir(), "visited")}
}

// TestCrashAdd: an addition is killed before and after everything that is journaled, on both machines, and comes to its end all the same; and is rolled back from each
// point, which leaves the cluster and the new machine as they were.
func TestCrashAdd(t *testing.T) {
	slow(t)
	t.Parallel()
	a := newAddition(t, 1)
	points := a.begin().points(t)
	t.Logf("%d points", len(points))
	const shards = 6 // each waits most of its time
	for shard := range shards {
		t.Run(fmt.Sprint("back ", shard), func(t *testing.T) {
			t.Parallel()
			a := newAddition(t, 1)
			for i := shard; i < len(points); i += shards {
				j := a.begin()
				j.At = points[i]
				if !j.run(t) {
					t.Fatalf("it was not killed at %q", j.At)
				}
				j.At, j.Back = "", true
				j.run(t)
				a.untouched()
			}
		})
	}
	j := a.begin()
	if n := len(j.chain(t)); n < len(points) {
		t.Errorf("only %d points", n)
	}
	a.want(a.ClientOf(t, 0), "m0", "m1")
}

// addition is a cluster, and a machine that may be added.
type addition struct {
	*rig
	name, url, root, env string
}

func newAddition(t *testing.T, members int) *addition {
	t.Helper()
	a := &addition{rig: newRig(t, lab.EtcdOptions{Members: members}), name: fmt.Sprint("m", members), url: "http://" + lab.FreeAddr(t)}
	a.root, a.env = machine(t, a.name)
	return a
}

func (a *addition) begin() job {
	a.t.Helper()
	return a.crash(map[string]string{Operator: "", a.name: a.root}, func() (plan.Plan, error) { return a.origin("").Add(Newcomer{Name: a.name, PeerURL: a.url}) })
}

// points are those of a plan's execution until its first final step begins; the plan is rolled back then, while it is killed at each point of that.
func (j job) points(t *testing.T) []string {
	t.Helper()
	j.At, j.Visited = "new", filepath.Join(t.TempDir(), "visited")
	for range 500 {
		if !j.run(t) {
			t.Fatal("it was done before its final step began")
		}
		all := lines(j.Visited)
		if strings.HasSuffix(all[len(all)-1], "begin "+j.Final) {
			points := all[:len(all)-1]
			j.Back = true
			if n := len(j.chain(t)); n < 10 {
				t.Errorf("the rollback has only %d points", n)
			}
			return points
		}
	}
	t.Fatal("it does not come to its final step")
	return nil
}

// untouched: nothing is left of an addition that was rolled back.
func (a *addition) untouched() {
	a.t.Helper()
	a.want(a.ClientOf(a.t, 0), "m0")
	if pid := (procServices{root: a.root}).pid(); pid != 0 {
		a.t.Errorf("etcd still runs on the new machine")
	}
	if text, err := os.ReadFile(filepath.Join(a.root, "etc/etcd.env")); err != nil || string(text) != a.env {
		a.t.Errorf("the configuration is %q (%v), want %q", text, err, a.env)
	}
	if f, err := host.Look(filepath.Join(a.root, "var/lib/etcd")); err != nil || f.Exists && !f.Empty {
		a.t.Errorf("the data directory is not empty (%v)", err)
	}
}

// TestCrashReplace: as TestCrashAdd, for a dead member's replacement on its own machine with its old data there.
func TestCrashReplace(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newReplacement(t)
	old := filepath.Join(r.root, "var/lib/etcd/member")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(old, "stale"), "the old identity")
	j := r.begin()
	points := j.chain(t)
	r.want(r.cli, "m0", "m1", "m2")
	if kept, err := filepath.Glob(filepath.Join(r.root, "var/lib/etcd.bak-*/member/stale")); err != nil || len(kept) != 1 {
		t.Errorf("the old data is not kept: %q, %v", kept, err)
	}
	final := slices.IndexFunc(points, func(p string) bool { return strings.HasSuffix(p, "begin "+j.Final) })
	if len(points) < 100 || final < 60 {
		t.Fatalf("only %d points, %d of them before %s", len(points), final, j.Final)
	}
	back(t, points[:final], 4, func(t *testing.T) turned { return newReplacement(t) })
}

// removal is a cluster of three, of which one is to go.
type removal struct {
	*rig
	gone, root string
}

func newRemoval(t *testing.T) *removal {
	t.Helper()
	r := &removal{rig: newRig(t, lab.EtcdOptions{Members: 3}), gone: "m2"}
	if r.Members[r.Leader(t)].Name == "m0" {
		r.gone = "m1"
	}
	r.root, _ = machine(t, r.gone)
	i := slices.IndexFunc(r.Members, func(m *lab.EtcdMember) bool { return m.Name == r.gone })
	appendTo(t, filepath.Join(r.root, "etc/etcd.env"), "ETCD_INITIAL_ADVERTISE_PEER_URLS="+r.PeerURL(i)+"\n")
	return r
}

func (r *removal) begin() job {
	r.t.Helper()
	return r.crash(map[string]string{Operator: ""}, func() (plan.Plan, error) { return r.origin("the test shrinks it").Remove(r.gone) })
}

func (r *removal) back([]string) { r.want(r.ClientOf(r.t, 0), "m0", "m1", "m2") }

// TestCrashRemove: a removal is killed everywhere, and comes to its end; and before the member is removed it is rolled back from each point, which leaves three.
func TestCrashRemove(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRemoval(t)
	cli := r.ClientOf(t, 0)
	points := r.begin().points(t)
	r.back(nil)
	back(t, points, 1, func(t *testing.T) turned { return newRemoval(t) })
	j := r.begin()
	j.Roots = map[string]string{Operator: "", r.gone: r.root}
	if n := len(j.chain(t)); n < 40 {
		t.Errorf("only %d points", n)
	}
	want := []string{"m0", "m1", "m2"}
	r.want(cli, slices.DeleteFunc(want, func(m string) bool { return m == r.gone })...)
	if e, err := host.Detect(r.root).Etcd(""); err != nil || !e.Held {
		t.Errorf("the removed member's etcd may start again (%v)", err)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
