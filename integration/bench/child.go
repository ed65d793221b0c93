package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// task is a rebuild that runs in a process of its own, so that its memory is its own. It comes as JSON on standard input.
type task struct {
	URL      string
	Endpoint string
	CAFile   string
	Cluster  string
	Path     string // the db file
	Target   int64
	Identity string // file
}

// outcome is what the process prints.
type outcome struct {
	Seconds float64
	Applied int64
}

// rebuildChild is the process: from the listing to the file's fsync, with the segments fetched from the store.
func rebuildChild(in io.Reader, out io.Writer) error {
	var t task
	if err := json.NewDecoder(in).Decode(&t); err != nil {
		return err
	}
	ctx := context.Background()
	r, ids, err := openRepo(ctx, store.Config{URL: t.URL, S3: store.S3Options{Endpoint: t.Endpoint, CAFile: t.CAFile}}, t.Cluster, t.Identity)
	if err != nil {
		return err
	}
	start := time.Now()
	cat, err := r.Catalog(ctx)
	if err != nil {
		return err
	}
	res, err := rebuild.To(ctx, rebuild.Options{Path: t.Path, Target: repo.Revision(t.Target), Segments: rebuild.FromRepo(r, cat.Segments, ids)})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(outcome{Seconds: time.Since(start).Seconds(), Applied: res.Applied})
}

func openRepo(ctx context.Context, cfg store.Config, cluster, identity string) (*repo.Repo, []age.Identity, error) {
	st, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	r, err := repo.Open(ctx, st, cluster)
	if err != nil || identity == "" {
		return r, nil, err
	}
	f, err := os.Open(identity)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	ids, err := age.ParseIdentities(f)
	return r, ids, err
}

// child runs a task, under the bound that both programs set themselves, and returns what it printed and its highest anonymous memory in MB.
func (b *bench) child(r *rig, t task) (outcome, float64) {
	st := r.s3.StoreConfig()
	t.URL, t.Endpoint, t.CAFile, t.Identity = st.URL, st.S3.Endpoint, st.S3.CAFile, r.identity
	self, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	in, err := json.Marshal(t)
	if err != nil {
		b.Fatalf("%v", err)
	}
	cmd := exec.Command(self, "-child")
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=110MiB", "AWS_ACCESS_KEY_ID="+r.s3.Access, "AWS_SECRET_ACCESS_KEY="+r.s3.Secret)
	var out strings.Builder
	cmd.Stdin, cmd.Stdout = strings.NewReader(string(in)), &out
	_, mb := b.took(cmd)
	var o outcome
	if err := json.Unmarshal([]byte(out.String()), &o); err != nil {
		b.Fatalf("the child printed %q: %v", out.String(), err)
	}
	return o, mb
}

// runChild is main when the program is a child.
func runChild() int {
	if err := rebuildChild(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}
