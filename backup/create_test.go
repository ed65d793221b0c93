package backup

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// failing is a store in which some puts fail after they have read their source, as an upload does that breaks off.
type failing struct {
	store.Store
	suffix string
	err    error
	during func() // called when such a put begins
}

func (f failing) Put(ctx context.Context, key string, src store.Source, o store.PutOptions) (store.Info, error) {
	if !strings.HasSuffix(key, f.suffix) {
		return f.Store.Put(ctx, key, src, o)
	}
	if f.during != nil {
		f.during()
	}
	if f.err != nil {
		_, _ = io.CopyN(io.Discard, src.Reader, 100)
		return store.Info{}, f.err
	}
	<-ctx.Done()
	return store.Info{}, &store.Error{Op: "put", Key: key, Kind: store.Interrupted, Err: ctx.Err()}
}

func createOptions(t *testing.T, st store.Store, etcd *lab.Cluster) CreateOptions {
	t.Helper()
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return CreateOptions{
		Repo: r, Cluster: snapshot.Cluster{Endpoints: etcd.Endpoints()}, Host: "h", Program: "test",
		Spool: snapshot.SpoolOptions{Dir: filepath.Join(t.TempDir(), "spool"), Recipients: []age.Recipient{id.Recipient()}},
	}
}

func folder(t *testing.T) (string, store.Store) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return dir, st
}

// TestCreateFails: whatever fails, there is no backup afterwards, and nothing in the spool.
func TestCreateFails(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	boom := &store.Error{Op: "put", Kind: store.Unavailable, Err: errors.New("boom")}
	for _, c := range []struct {
		name, suffix string
		unfinished   int
		want         error
	}{
		{"the data cannot be put", ".age", 0, store.Unavailable},
		{"the manifest cannot be put", ".json", 1, store.Unavailable},
		{"cancelled during the upload", ".age", 0, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, st := folder(t)
			o := createOptions(t, st, etcd)
			if _, err := Create(t.Context(), o); err != nil { // so that repository.json is there
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			broken := failing{Store: st, suffix: c.suffix, err: boom}
			if errors.Is(c.want, context.Canceled) {
				broken.err, broken.during = nil, cancel
			}
			bad := createOptions(t, broken, etcd)
			m, err := Create(ctx, bad)
			if m != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v, want %v", m, err, c.want)
			}
			l, err := List(t.Context(), ListOptions{Repo: o.Repo})
			if err != nil || len(l.Backups) != 1 || len(l.Unfinished) != c.unfinished {
				t.Errorf("listed %+v, %v, want 1 backup and %d unfinished", l, err, c.unfinished)
			}
			if left, err := os.ReadDir(bad.Spool.Dir); err != nil || len(left) != 0 {
				t.Errorf("the spool holds %v (%v)", left, err)
			}
			// The next one is not disturbed by what the last one left.
			if _, err := Create(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCreateTwoAtOnce: two daemons that missed each other make two backups of one timeline.
func TestCreateTwoAtOnce(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	_, st := folder(t)
	var all sync.WaitGroup
	for range 3 {
		o := createOptions(t, st, etcd)
		all.Go(func() {
			if _, err := Create(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	l, err := List(t.Context(), ListOptions{Repo: r})
	if err != nil || len(l.Backups) != 3 || l.Timelines != 1 || len(l.Unfinished) != 0 {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// TestCreateForeign: another cluster is refused before a byte is streamed, and nothing is written for it.
func TestCreateForeign(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	r := newRig(t)
	before := r.objects(t)
	o := createOptions(t, r.st, etcd)
	o.Progress = func(stage string, _, _ int64) { t.Errorf("%s began", stage) }
	_, err := Create(t.Context(), o)
	if fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" {
		t.Errorf("got %v, hint %q", err, fail.HintOf(err))
	}
	if after := r.objects(t); len(after) != len(before) {
		t.Errorf("the repository holds %v, held %v", after, before)
	}
}

// TestCreateUndecided: without a decision on encryption nothing is even asked of etcd.
func TestCreateUndecided(t *testing.T) {
	r := newRig(t)
	o := CreateOptions{Repo: r.repo, Cluster: snapshot.Cluster{Endpoints: []string{"http://127.0.0.1:1"}}, Spool: snapshot.SpoolOptions{Dir: t.TempDir()}}
	if _, err := Create(t.Context(), o); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("no recipients: %v", err)
	}
	o.Spool.Recipients, o.Unencrypted = []age.Recipient{r.id.Recipient()}, true
	if _, err := Create(t.Context(), o); fail.ExitCode(err) != fail.Usage {
		t.Errorf("recipients and no encryption: %v", err)
	}
}
