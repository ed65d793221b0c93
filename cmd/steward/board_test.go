package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// On a store that takes conditional writes and ignores the condition, hosts cannot keep in step: a plan of several is refused, and of a single one it is
// said that nothing keeps others out.
func TestPlansWithoutConditions(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	tr := faults.New(faults.Options{IgnoreConditions: true, AccessKeyID: s3.Access, Secret: s3.Secret})
	cfg := s3.StoreConfig()
	cfg.S3.Transport = tr.Wrap
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := &call{ctx: t.Context(), stderr: &said}
	room := &planRoom{repo: r, board: r.Plans(plan.DocumentKind), machine: plan.Machine{ID: "1", Host: "m1"}, dir: t.TempDir()}

	several, err := testPlan([]string{"m1/a", "m2/b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := room.runner(c, several, nil); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "does not honour conditions") {
		t.Errorf("a plan of several hosts: %v, want it refused", err)
	}
	single, err := testPlan([]string{"m1/a", "m1/b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("WORLD", t.TempDir())
	actions, err := planKinds[testKind](c, single)
	if err != nil {
		t.Fatal(err)
	}
	runner, err := room.runner(c, single, actions)
	if err != nil || !strings.Contains(said.String(), "its lock keeps nobody out") {
		t.Fatalf("a plan of one host: %v, said %q", err, said.String())
	}
	if err := runner.Open(t.Context(), single); err != nil {
		t.Fatal(err)
	}
	if err := runner.Run(t.Context(), single, "m1"); err != nil {
		t.Error(err)
	}
}

// Folders of the same relative name are different ones: the file lock in one says nothing of a process that keeps its journals in the other.
func TestStateDirIsAbsolute(t *testing.T) {
	t.Setenv("STEWARD_STATE", "state")
	c := &call{Context: cli.NewContext(cli.NewApp(), flag.NewFlagSet("x", flag.ContinueOnError), nil)}
	seen := map[string]bool{}
	for range 2 {
		t.Chdir(t.TempDir())
		seen[c.stateDir()] = true
	}
	if len(seen) != 2 {
		t.Errorf("the state is in %v, from two folders", seen)
	}
}

// The lock is this machine's whichever process held it, but not another machine's, nor that of whoever keeps his journals elsewhere: no file lock says that he is gone.
func TestPlanLock(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	lock := func(host, dir string) *planLock {
		return &planLock{store: st, machine: plan.Machine{ID: "id-" + host, Host: host}, dir: dir, ttl: time.Minute}
	}
	held, release, err := lock("m1", "/a").Hold(t.Context(), "x-1/m1")
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*planLock{lock("m2", "/a"), lock("m1", "/b")} {
		_, _, err := other.Hold(t.Context(), "x-1/m1")
		var who *plan.HeldError
		if !errors.As(err, &who) || !strings.HasPrefix(who.By, "m1 ") || time.Until(who.Until) < 50*time.Second {
			t.Errorf("got %v, want it held by m1 for a minute", err)
		}
	}
	_, again, err := lock("m1", "/a").Hold(t.Context(), "x-1/m1") // after a crash
	if err != nil {
		t.Fatal(err)
	}
	if held.Err() != nil {
		t.Errorf("the context has ended before a renewal failed: %v", context.Cause(held))
	}
	release() // of a lease that was lost
	again()
	if _, release, err = lock("m2", "/a").Hold(t.Context(), "x-1/m1"); err != nil {
		t.Fatal(err)
	}
	release()
}
