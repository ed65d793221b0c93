package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// crashEnv makes the test binary run one restore and kill itself before a step.
const crashEnv = "STEWARD_RESTORE_CRASH"

type crashPlan struct {
	Store, DataDir, WALDir, Name, InitialCluster, URL, Step string
}

// fetching is in the middle of a fetch.
const fetching = "fetch going on"

// steps are all the points that a crash can come before.
var steps = []string{
	"begin", "recovered", "fetch", fetching, "edit", "log", "prove", "sync", "place", "journal written", "log renamed", "log placed",
	"data directory renamed", "data directory placed", "record",
}

func crashChild() {
	var c crashPlan
	if err := json.Unmarshal([]byte(os.Getenv(crashEnv)), &c); err != nil {
		panic(err)
	}
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{URL: c.Store})
	if err != nil {
		panic(err)
	}
	r, err := repo.Open(ctx, st, "main")
	if err != nil {
		panic(err)
	}
	die := func(name string) {
		if name == c.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	_, err = DataDir(ctx, Options{
		Repo: r, DataDir: c.DataDir, WALDir: c.WALDir, Name: c.Name, InitialCluster: c.InitialCluster, InitialAdvertisePeerURLs: []string{c.URL},
		step: die,
		Progress: func(stage string, done, total int64) {
			if done > 0 {
				die(stage + " going on")
			}
		},
	})
	fmt.Fprintln(os.Stderr, "not killed:", err)
	os.Exit(3)
}

// TestCrash: a restore that is killed before any of its steps leaves the data directory as it was or complete, and the next one succeeds and
// leaves nothing else behind.
func TestCrash(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, folder := folderRepo(t)
	publish(t, r, s, nil, nil)
	for _, wal := range []bool{false, true} {
		for _, empty := range []bool{false, true} {
			for _, step := range steps {
				if !wal && strings.HasPrefix(step, "log ") {
					continue // there is only one rename
				}
				if empty && slices.Index(steps, step) < slices.Index(steps, "place") {
					continue // nothing has looked at the empty directory by then
				}
				t.Run(fmt.Sprintf("wal %v, empty dir %v, %s", wal, empty, step), func(t *testing.T) {
					dir := t.TempDir()
					o := memberOptions(t, dir, 1)[0]
					o.Repo = r
					if wal {
						o.WALDir = filepath.Join(dir, "wal")
					}
					if empty {
						if err := os.Mkdir(o.DataDir, 0o700); err != nil {
							t.Fatal(err)
						}
					}
					crash(t, o, folder, step)
					placed := slices.Index(steps, step) >= slices.Index(steps, "data directory renamed")
					if got := complete(t, s, o); got != placed {
						t.Fatalf("killed before %q: complete is %v", step, got)
					}
					if placed {
						_, err := Prepare(t.Context(), o)
						if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(fail.HintOf(err), "complete: start etcd on it") {
							t.Errorf("a plan for what is finished: %v (%s)", err, fail.HintOf(err))
						}
						return
					}
					again(t, s, o, dir)
				})
			}
		}
	}
}

func crash(t *testing.T, o Options, folder, step string) {
	t.Helper()
	b, err := json.Marshal(crashPlan{
		Store: "file://" + folder, DataDir: o.DataDir, WALDir: o.WALDir, Name: o.Name, InitialCluster: o.InitialCluster,
		URL: o.InitialAdvertisePeerURLs[0], Step: step,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+string(b))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed before %q: %v\n%s", step, err, out)
	}
}

// complete says whether the data directory is there, and fails when it is there in part.
func complete(t *testing.T, s *taken, o Options) bool {
	t.Helper()
	names, err := os.ReadDir(o.DataDir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0 {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	hash, err := hashOf(t.Context(), datadir.DBPath(o.DataDir), s.revision, s.compact)
	if err != nil || hash != s.hash {
		t.Fatalf("the data directory is there with hash %08x, %v; want %08x", hash, err, s.hash)
	}
	wal := o.WALDir
	if wal == "" {
		wal = datadir.WALPath(o.DataDir)
	}
	if logs, err := filepath.Glob(filepath.Join(wal, "*.wal")); err != nil || len(logs) != 1 {
		t.Fatalf("the data directory is there, its log is %v, %v", logs, err)
	}
	return true
}

func again(t *testing.T, s *taken, o Options, dir string) {
	t.Helper()
	p, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatalf("the plan after a crash: %v", err)
	}
	if _, err := p.Execute(t.Context()); err != nil {
		t.Fatalf("the restore after a crash (leftovers %q): %v", p.Leftovers, err)
	}
	if !complete(t, s, o) {
		t.Error("not complete after the second restore")
	}
	for _, name := range tree(t, dir) {
		if strings.Contains(name, scratchInfix) {
			t.Errorf("%s is still there", name)
		}
	}
}
