package restore

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// wantFailure restores and expects an error of a code that says something and has a hint, and nothing left behind.
func wantFailure(t *testing.T, o Options, code fail.Code, says string) {
	t.Helper()
	dir := filepath.Dir(o.DataDir)
	before := tree(t, dir)
	_, err := DataDir(t.Context(), o)
	if err == nil || fail.ExitCode(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("exit %d, %v; want exit %d saying %q", fail.ExitCode(err), err, code, says)
	}
	if fail.HintOf(err) == "" {
		t.Errorf("no hint with %v", err)
	}
	wantNothing(t, dir, before)
}

// TestNoIdentity: an encrypted backup with no identity, or another's.
func TestNoIdentity(t *testing.T) {
	s := snapshotOf(t, "3.6")
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, _ := folderRepo(t)
	publish(t, r, s, []age.Recipient{mine.Recipient()}, nil)
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo = r
	wantFailure(t, o, fail.Failed, "no identity")
	o.Identities = []age.Identity{other}
	wantFailure(t, o, fail.Failed, "no age identity that can read it")
	// A dry run is a plan alone: it has to fail as the real run does, and pass with the right identity among others.
	_, err = Prepare(t.Context(), o)
	if !errors.Is(err, envelope.ErrNoIdentity) || !strings.Contains(fail.HintOf(err), "--identity FILE") {
		t.Errorf("a plan with another's identity: %v (hint %q)", err, fail.HintOf(err))
	}
	o.Identities = []age.Identity{other, mine}
	if p, err := Prepare(t.Context(), o); err != nil || !p.Source.Encrypted {
		t.Errorf("a plan with the right identity: %+v, %v", p, err)
	}
}

// TestDamagedDocuments: a manifest, or a record of an earlier restore, with a flipped bit is found before anything is planned.
func TestDamagedDocuments(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, folder := folderRepo(t)
	m := publish(t, r, s, nil, nil)
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo = r
	if _, err := DataDir(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.DataDir += "-2"
	records, err := filepath.Glob(filepath.Join(folder, "main", "successors", "*.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("the records of restores are %q, %v", records, err)
	}
	for _, path := range []string{records[0], filepath.Join(folder, "main", repo.ManifestKey(m.Timeline, m.Database.Revision, m.ID))} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte{}, whole...)
		flipped[len(flipped)/2] ^= 1
		for _, b := range [][]byte{flipped, whole} {
			if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600)); err != nil {
				t.Fatal(err)
			}
			if &b[0] == &flipped[0] {
				wantFailure(t, o, fail.Wanting, "damaged")
			} else if _, err := Prepare(t.Context(), o); err != nil {
				t.Errorf("%s whole again: %v", path, err)
			}
		}
	}
}

// TestDamagedObject: a stored object with one flipped bit anywhere, or cut off, is never restored.
func TestDamagedObject(t *testing.T) {
	s := snapshotOf(t, "3.6")
	seed := lab.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range [][]age.Recipient{nil, {identity.Recipient()}} {
		r, folder := folderRepo(t)
		m := publish(t, r, s, to, nil)
		path := filepath.Join(folder, "main", m.Object.Key)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put := func(b []byte) {
			t.Helper()
			if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		dir := t.TempDir()
		o := memberOptions(t, dir, 1)[0]
		o.Repo, o.Identities = r, []age.Identity{identity}
		at := []int{0, 1, 40, len(whole) - 1, len(whole) - 20}
		for range 10 {
			at = append(at, rng.IntN(len(whole)))
		}
		for _, i := range at {
			flipped := append([]byte{}, whole...)
			flipped[i] ^= 1 << rng.IntN(8)
			put(flipped)
			if _, err := DataDir(t.Context(), o); err == nil || fail.ExitCode(err) != fail.Wanting || fail.HintOf(err) == "" {
				t.Errorf("a bit flipped in byte %d of %d: %v", i, len(whole), err)
			}
			if p, err := Prepare(t.Context(), o); to != nil && i <= 40 && fail.ExitCode(err) != fail.Wanting {
				t.Errorf("a plan with a bit flipped in byte %d of the age header: %+v, %v", i, p, err)
			}
			if left := tree(t, dir); len(left) != 1 {
				t.Fatalf("a bit flipped in byte %d left %q", i, left)
			}
		}
		for _, n := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
			put(whole[:n])
			wantFailure(t, o, fail.Wanting, "damaged")
		}
		put(whole)
		if _, err := DataDir(t.Context(), o); err != nil {
			t.Errorf("the whole object again: %v", err)
		}
	}
}

// TestWrongManifest: a manifest whose data is gone, that is not about its data, or that is of a newer etcd.
func TestWrongManifest(t *testing.T) {
	s := snapshotOf(t, "3.6")
	for says, c := range map[string]struct {
		edit func(*repo.Manifest)
		code fail.Code
	}{
		"newer etcd":                     {func(m *repo.Manifest) { m.Source.EtcdVersion = "3.99.1" }, fail.Unsafe},
		"not the one that was backed up": {func(m *repo.Manifest) { m.Database.HashKV ^= 1 }, fail.Wanting},
		"its manifest says":              {func(m *repo.Manifest) { m.Database.SHA256[0] ^= 1 }, fail.Wanting},
	} {
		r, _ := folderRepo(t)
		publish(t, r, s, nil, c.edit)
		o := memberOptions(t, t.TempDir(), 1)[0]
		o.Repo = r
		wantFailure(t, o, c.code, says)
	}
	r, folder := folderRepo(t)
	m := publish(t, r, s, nil, nil)
	if err := os.Remove(filepath.Join(folder, "main", m.Object.Key)); err != nil {
		t.Fatal(err)
	}
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo, o.Point.ID = r, m.ID
	wantFailure(t, o, fail.Wanting, "data object is missing")
}

// TestOccupied: a directory that is not empty, a running etcd, a missing parent, a file in the way, and another restore at work.
func TestOccupied(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	dir := t.TempDir()
	o := memberOptions(t, dir, 1)[0]
	o.Repo = r
	res, err := DataDir(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, o, fail.Unsafe, "is not empty")
	c := start(t, "3.6", res)
	_, err = Prepare(t.Context(), o)
	if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "a running etcd holds") || !strings.Contains(fail.HintOf(err), "stop it") {
		t.Errorf("under a running etcd: %v", err)
	}
	wal := o
	wal.DataDir, wal.WALDir = filepath.Join(dir, "other"), filepath.Join(o.DataDir, "member", "wal")
	if _, err := Prepare(t.Context(), wal); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "a running etcd holds") {
		t.Errorf("under a running etcd's log: %v", err)
	}
	wal.WALDir = filepath.Join(wal.DataDir, "wal")
	if _, err := Prepare(t.Context(), wal); fail.ExitCode(err) != fail.Usage {
		t.Errorf("a log inside the data directory: %v", err)
	}
	if _, err := c.Client(t).Put(t.Context(), "/alive", "v"); err != nil {
		t.Errorf("the running etcd was disturbed: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, path := range map[string]string{"the parent of": filepath.Join(dir, "missing", "data"), "is not a directory": file} {
		o.DataDir = path
		if _, err := Prepare(t.Context(), o); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", path, err, says)
		}
	}
}

// TestTwoAtOnce: the second of two restores to one place is refused and leaves the first alone.
func TestTwoAtOnce(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	o := memberOptions(t, t.TempDir(), 1)[0]
	o.Repo = r
	second := o
	o.step = func(name string) {
		if name != "prove" {
			return
		}
		if _, err := Prepare(t.Context(), second); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "another restore works") {
			t.Errorf("the second: %v", err)
		}
	}
	if _, err := DataDir(t.Context(), o); err != nil {
		t.Errorf("the first: %v", err)
	}
}

// TestTakenMeanwhile: when somebody puts something into the target while the restore runs, it stays, and nothing is left behind.
func TestTakenMeanwhile(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	for _, wal := range []bool{false, true} {
		dir := t.TempDir()
		o := memberOptions(t, dir, 1)[0]
		o.Repo = r
		if wal {
			o.WALDir = filepath.Join(dir, "wal")
		}
		theirs := filepath.Join(o.DataDir, "member", "theirs")
		o.step = func(name string) {
			if name == "place" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(theirs), 0o700), os.WriteFile(theirs, nil, 0o600)); err != nil {
					t.Error(err)
				}
			}
		}
		if _, err := DataDir(t.Context(), o); err == nil {
			t.Error("no error")
		}
		if got := strings.Join(tree(t, dir), " "); got != " /m0 /m0/member /m0/member/theirs" {
			t.Errorf("wal %v: left %s", wal, got)
		}
	}
}

// TestInterrupted: a cancelled context, in the middle of any stage, leaves nothing.
func TestInterrupted(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	plain := s.path
	for name, set := range map[string]func(*Options, func()){
		"fetching": func(o *Options, cancel func()) { o.Progress = func(string, int64, int64) { cancel() } },
		"fetching a file": func(o *Options, cancel func()) {
			o.Repo, o.File, o.Progress = nil, plain, func(string, int64, int64) { cancel() }
		},
		"before the build": func(o *Options, cancel func()) { o.step = at("edit", cancel) },
		"proving":          func(o *Options, cancel func()) { o.step = at("prove", cancel) },
		"syncing":          func(o *Options, cancel func()) { o.step = at("sync", cancel) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		o := memberOptions(t, dir, 1)[0]
		o.Repo = r
		set(&o, cancel)
		_, err := DataDir(ctx, o)
		if !errors.Is(err, context.Canceled) || fail.ExitCode(err) != fail.Interrupted {
			t.Errorf("%s: exit %d, %v", name, fail.ExitCode(err), err)
		}
		wantNothing(t, dir, []string{""})
		cancel()
	}
}

func at(step string, do func()) func(string) {
	return func(name string) {
		if name == step {
			do()
		}
	}
}

// TestOldClusterID: the token and the URLs of the cluster that was backed up give its ID again.
func TestOldClusterID(t *testing.T) {
	s := snapshotOf(t, "3.6")
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	o := Options{
		Repo: r, DataDir: filepath.Join(t.TempDir(), "data"), Name: s.name, InitialCluster: s.name + "=" + s.url,
		InitialAdvertisePeerURLs: []string{s.url}, InitialClusterToken: labToken,
	}
	wantFailure(t, o, fail.Unsafe, "would have the ID")
	file := o
	file.Repo, file.File = nil, s.path
	wantFailure(t, file, fail.Unsafe, "a member of the old one")
	o.AllowSameClusterID = true
	res, err := DataDir(t.Context(), o)
	if err != nil || uint64(res.ClusterID) != s.clusterID {
		t.Errorf("allowed: cluster %s, %v; want %x", res.ClusterID, err, s.clusterID)
	}
}

// TestUsage: what is missing or contradicts itself.
func TestUsage(t *testing.T) {
	r, _ := folderRepo(t)
	good := memberOptions(t, t.TempDir(), 1)[0]
	good.Repo = r
	for name, change := range map[string]func(*Options){
		"no source":       func(o *Options) { o.Repo = nil },
		"two sources":     func(o *Options) { o.File = "x" },
		"a file's ID":     func(o *Options) { o.Repo, o.File, o.Point.ID = nil, "x", "y" },
		"no directory":    func(o *Options) { o.DataDir = "" },
		"no name":         func(o *Options) { o.Name = "" },
		"skip-hash-check": func(o *Options) { o.SkipHashCheck = true },
		"version":         func(o *Options) { o.ServerVersion = "new" },
		"owner":           func(o *Options) { o.Owner = "nobody-of-that-name" },
	} {
		o := good
		change(&o)
		if _, err := Prepare(t.Context(), o); fail.ExitCode(err) != fail.Usage || fail.HintOf(err) == "" {
			t.Errorf("%s: exit %d, %v, hint %q", name, fail.ExitCode(err), err, fail.HintOf(err))
		}
	}
	if _, err := Prepare(t.Context(), good); fail.ExitCode(err) != fail.Wanting || !strings.Contains(err.Error(), "there is no backup") {
		t.Errorf("an empty repository: %v", err)
	}
}
