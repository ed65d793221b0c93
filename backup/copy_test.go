package backup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

func open(t *testing.T, st store.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sameBytes compares all objects below two folders but for what belongs to a store alone.
func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	n := 0
	for _, pattern := range []string{"main/repository.json", "main/*/snapshots/*/*", "main/successors/*", "main/coordination/verified/*.json", "main/coordination/verified/changes/*", "main/coordination/recorded/*", "main/*/changes/*/*"} {
		files, err := filepath.Glob(filepath.Join(a, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			n++
			x, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			y, err := os.ReadFile(b + strings.TrimPrefix(f, a))
			if err != nil || !bytes.Equal(x, y) {
				t.Errorf("%s is not the same there (%v)", f, err)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d objects were compared", n)
	}
}

// TestCopy: the same bytes of every kind, also when it is interrupted again and again.
func TestCopy(t *testing.T) {
	r := fullRig(t)
	dir, st := folder(t)
	tries := 0
	for left := 0; ; left++ {
		tries++
		dying := open(t, &mortalPuts{Store: st, left: left})
		out, err := Copy(t.Context(), CopyOptions{From: r.repo, To: dying})
		there := open(t, st)
		l, listErr := List(t.Context(), ListOptions{Repo: there})
		if listErr != nil || len(l.Missing) != 0 {
			t.Fatalf("after %d puts: %+v, %v", left, l, listErr)
		}
		if err == nil {
			if out.Copied+out.Skipped != 2 || !out.OK {
				t.Errorf("%+v", out)
			}
			break
		}
		if !errors.Is(err, store.Unavailable) || left > 20 {
			t.Fatalf("after %d puts: %v", left, err)
		}
	}
	if tries < 3 {
		t.Errorf("it was interrupted only %d times", tries-1)
	}
	sameBytes(t, r.dir, dir)
	out, err := Copy(t.Context(), CopyOptions{From: r.repo, To: open(t, st)})
	if err != nil || out.Skipped != 2 || out.Bytes != 0 || out.Documents != 0 {
		t.Errorf("a second time: %+v, %v", out, err)
	}
}

// mortalPuts is a store whose puts fail after some.
type mortalPuts struct {
	store.Store
	mu   sync.Mutex
	left int
}

// next says whether one more put is allowed; a copy puts several at once.
func (m *mortalPuts) next() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	return m.left >= 0
}

func (m *mortalPuts) Put(ctx context.Context, key string, src store.Source, o store.PutOptions) (store.Info, error) {
	if !m.next() {
		return store.Info{}, &store.Error{Op: "put", Key: key, Kind: store.Unavailable, Err: errors.New("died")}
	}
	return m.Store.Put(ctx, key, src, o)
}

// lying is a store that keeps other bytes than it was given, and has no hash of its own to tell.
type lying struct{ store.Store }

func (l lying) Put(ctx context.Context, key string, src store.Source, o store.PutOptions) (store.Info, error) {
	if !strings.Contains(key, ".db.zst") {
		return l.Store.Put(ctx, key, src, o)
	}
	b := make([]byte, src.Size)
	b[0] = 1
	return l.Store.Put(ctx, key, store.Source{Reader: bytes.NewReader(b), Size: src.Size}, o)
}

func (l lying) Head(ctx context.Context, key string) (store.Info, error) {
	i, err := l.Store.Head(ctx, key)
	i.SHA256 = [32]byte{}
	return i, err
}

// TestCopyChecksWhatArrived: an object that is not the same there gets no manifest.
func TestCopyChecksWhatArrived(t *testing.T) {
	r := fullRig(t)
	_, st := folder(t)
	out, err := Copy(t.Context(), CopyOptions{From: r.repo, To: open(t, lying{st})})
	if err != nil || out.Failed != 2 || out.OK {
		t.Errorf("%+v, %v", out, err)
	}
	l, err := List(t.Context(), ListOptions{Repo: open(t, st)})
	if err != nil || len(l.Backups) != 0 || len(l.Unfinished) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestCopyDamaged: what is bad here never becomes an object there, and the rest is copied.
func TestCopyDamaged(t *testing.T) {
	r := fullRig(t)
	l := r.listed(t)
	bad := l.Backups[0]
	for _, key := range r.objects(t) {
		if strings.Contains(key, string(bad.ID)+".db") {
			b, err := os.ReadFile(r.file(key))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-1] ^= 1
			if err := os.WriteFile(r.file(key), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir, st := folder(t)
	out, err := Copy(t.Context(), CopyOptions{From: r.repo, To: open(t, st)})
	if err != nil || out.Failed != 1 || out.Copied != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "main", "*", "snapshots", "*", "*"+string(bad.ID)+"*")); len(found) != 0 {
		t.Errorf("%v is there", found)
	}
}

// TestCopyForeign: another cluster's repository is not written to.
func TestCopyForeign(t *testing.T) {
	r := fullRig(t)
	_, st := folder(t)
	there := open(t, st)
	if err := there.Admit(t.Context(), 0xdd, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err := Copy(t.Context(), CopyOptions{From: r.repo, To: there})
	if fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("got %v", err)
	}
	if l, err := List(t.Context(), ListOptions{Repo: there}); err != nil || l.Objects != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestCopyChanges: the change log goes with the backups, in a way that verifies there; a segment that is damaged here, or another one there, is
// reported, and the rest is copied. What the second store knows of itself stays.
func TestCopyChanges(t *testing.T) {
	r := fullRig(t)
	c, err := r.repo.Catalog(t.Context())
	if err != nil || len(c.Segments) != 3 {
		t.Fatal(len(c.Segments), err)
	}
	dir, st := folder(t)
	there := &rig{dir: dir, st: st, id: r.id, repo: open(t, st)}
	out, err := Copy(t.Context(), CopyOptions{From: r.repo, To: there.repo})
	if err != nil || !out.OK || out.Changes.Copied != 3 || out.Changes.Bytes == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if rep, err := Verify(t.Context(), there.verifyOptions(t)); err != nil || !rep.OK || len(rep.Changes) != 1 || rep.Changes[0].Segments != 3 {
		t.Errorf("the copy: %+v, %v", rep, err)
	}
	line := c.Segments[0].Timeline
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	own := repo.VerifiedRange{First: c.Segments[0].First, Last: c.Segments[2].Last, Level: repo.LevelRebuilt, OK: true, At: at, Host: "there"}
	if err := there.repo.PutVerifiedRanges(t.Context(), line, 1, []repo.VerifiedRange{own}); err != nil {
		t.Fatal(err)
	}

	var plain, sealed repo.Segment
	for _, s := range c.Segments {
		if s.Encrypted {
			sealed = s
		} else {
			plain = s
		}
	}
	b, err := os.ReadFile(r.file(plain.Key))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.WriteFile(r.file(plain.Key), b, 0o600), os.Remove(there.file(plain.Key)), os.WriteFile(there.file(sealed.Key), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err = Copy(t.Context(), CopyOptions{From: r.repo, To: open(t, st)})
	if err != nil || out.OK || out.Changes.Failed != 2 || out.Changes.Skipped != 1 || len(out.Changes.Problems) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := os.Stat(there.file(plain.Key)); err == nil {
		t.Error("the damaged segment is there")
	}
	if marks, err := there.repo.VerifiedRanges(t.Context(), line); err != nil || len(marks) != 1 || marks[0].Host != "there" {
		t.Errorf("the second store's own marks: %+v, %v", marks, err)
	}
}
