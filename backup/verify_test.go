package backup

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
)

// TestVerifyComparesEveryField: a manifest that is intact, but says otherwise than the database, is found, by the name of the field.
func TestVerifyComparesEveryField(t *testing.T) {
	content, info := snapshotFile(t, 5)
	for field, change := range map[string]func(*repo.Database){
		"compact_revision": func(d *repo.Database) { d.CompactRevision = 1 },
		"keys":             func(d *repo.Database) { d.Keys++ },
		"hash_kv":          func(d *repo.Database) { d.HashKV++ },
		"leases":           func(d *repo.Database) { d.Leases++ },
		"auth_revision":    func(d *repo.Database) { d.AuthRevision++ },
		"auth_enabled":     func(d *repo.Database) { d.AuthEnabled = true },
		"alarms":           func(d *repo.Database) { d.Alarms = []string{"NOSPACE"} },
		"storage_version":  func(d *repo.Database) { d.StorageVersion = "9.9.0" },
		"SHA-256":          func(d *repo.Database) { d.SHA256[0]++ },
	} {
		r := newRig(t)
		m, object := r.sealed(t, content, info, time.Now(), false)
		change(&m.Database)
		r.put(t, m, object)
		rep, err := Verify(t.Context(), VerifyOptions{Repo: r.repo, Scratch: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if rep.OK || !strings.Contains(rep.Backups[0].Problem, field) {
			t.Errorf("%s: ok %v, %q", field, rep.OK, rep.Backups[0].Problem)
		}
	}
}

// TestVerifyMarks: the verdict is kept in the repository; not being allowed to is a note.
func TestVerifyMarks(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 5)
	m := r.add(t, content, info, time.Now(), true)
	o := VerifyOptions{Repo: r.repo, Identities: []age.Identity{r.id}, Scratch: t.TempDir(), Host: "h"}
	if rep, err := Verify(t.Context(), o); err != nil || !rep.OK || rep.Backups[0].Note != "" {
		t.Fatalf("%+v, %v", rep, err)
	}
	v, ok, err := r.repo.Verification(t.Context(), m.ID)
	if err != nil || !ok || !v.OK || v.Level != repo.LevelDatabase || v.Host != "h" {
		t.Errorf("the mark: %+v, %v, %v", v, ok, err)
	}
	if o.Repo, err = repo.Open(t.Context(), readOnly{r.st}, "main"); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), o)
	if err != nil || !rep.OK || !strings.Contains(rep.Backups[0].Note, "could not be written") {
		t.Errorf("read only: %+v, %v", rep, err)
	}
}

// unreachable is a store that stops answering when data is read.
type unreachable struct{ store.Store }

func (unreachable) Get(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return nil, &store.Error{Op: "get", Key: key, Kind: store.Unreachable, Err: errors.New("no route")}
}

// TestVerifyCannotLook: what hinders the look says nothing about the backup, and leaves no mark.
func TestVerifyCannotLook(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 5)
	m := r.add(t, content, info, time.Now(), true)
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		o    VerifyOptions
		want error
	}{
		"another identity":       {t.Context(), VerifyOptions{Repo: r.repo, Identities: []age.Identity{other}, Scratch: t.TempDir()}, envelope.ErrNoIdentity},
		"no folder":              {t.Context(), VerifyOptions{Repo: r.repo, Identities: []age.Identity{r.id}, Scratch: file}, errAny},
		"cancelled":              {ctx, VerifyOptions{Repo: r.repo, Identities: []age.Identity{r.id}, Scratch: t.TempDir()}, context.Canceled},
		"a store that is silent": {t.Context(), VerifyOptions{Repo: r.silent(t), Identities: []age.Identity{r.id}, Scratch: t.TempDir()}, store.Unreachable},
	} {
		rep, err := Verify(c.ctx, c.o)
		if rep != nil || err == nil || !errors.Is(c.want, errAny) && !errors.Is(err, c.want) {
			t.Errorf("%s: got %+v, %v, want %v", name, rep, err, c.want)
		}
	}
	if _, ok, err := r.repo.Verification(t.Context(), m.ID); ok || err != nil {
		t.Errorf("there is a mark (%v)", err)
	}
}

var errAny = errors.New("any")

// silent opens the repository, and takes its store away.
func (r *rig) silent(t *testing.T) *repo.Repo {
	t.Helper()
	st := &switched{Store: r.st}
	opened, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	st.off = true
	return opened
}

// switched is a store that can be switched off for reading.
type switched struct {
	store.Store
	off bool
}

func (s *switched) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if s.off {
		return unreachable{s.Store}.Get(ctx, key, offset, length)
	}
	return s.Store.Get(ctx, key, offset, length)
}

// TestVerifyDeep: the boot is given the whole snapshot, and what it finds counts.
func TestVerifyDeep(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 5)
	r.add(t, content, info, time.Now(), true)
	o := VerifyOptions{Repo: r.repo, Identities: []age.Identity{r.id}, Scratch: t.TempDir()}
	o.Boot = func(_ context.Context, file string, m *repo.Manifest) (float64, error) {
		st, err := os.Stat(file)
		if err != nil || st.Size() != m.Database.Size+trailerSize || st.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", st, err)
		}
		return 1.5, nil
	}
	rep, err := Verify(t.Context(), o)
	if err != nil || !rep.OK || rep.Backups[0].Level != repo.LevelDeep || rep.Backups[0].RestoreSeconds != 1.5 {
		t.Errorf("%+v, %v", rep, err)
	}
	o.Boot = func(context.Context, string, *repo.Manifest) (float64, error) {
		return 0, errors.New("it serves other keys")
	}
	rep, err = Verify(t.Context(), o)
	if err != nil || rep.OK || !strings.Contains(rep.Backups[0].Problem, "other keys") {
		t.Errorf("%+v, %v", rep, err)
	}
	if left, err := os.ReadDir(o.Scratch); err != nil || len(left) != 0 {
		t.Errorf("the scratch folder holds %v (%v)", left, err)
	}
}
