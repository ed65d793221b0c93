package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

func (w *recorded) compactOptions(t *testing.T) CompactOptions {
	t.Helper()
	return CompactOptions{
		Repo: w.repo, Identities: []age.Identity{w.id}, Recipients: []age.Recipient{w.id.Recipient()}, Scratch: filepath.Join(t.TempDir(), "scratch"),
		Host: "h", Program: "test",
	}
}

// changed makes changes, has a member's hash of them recorded, and ends the recorder, so that nothing more happens in the store.
func (w *recorded) changed(t *testing.T, n int) repo.Revision {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	load := changestest.Workload{Client: w.cli, Seed: seed, Leases: true, TTL: 600}
	rev, err := load.Run(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	w.through(t, max(repo.Revision(rev), w.put(t, "witness", witness)))
	if _, err := w.cli.Compact(t.Context(), rev-20); err != nil {
		t.Fatal(err)
	}
	w.rec.Prove()
	lab.Eventually(t, time.Minute, "a proof", func() error {
		if w.rec.Status().Proof == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	last := w.put(t, "last", "1") // a proof travels with the next segment
	w.through(t, last)
	if err := w.rec.Stop(); err != nil {
		t.Fatal(err)
	}
	return last
}

// witness is the value of a key that exists when a member's hash is recorded.
const witness = "the witness of what really was"

// TestCompactVersions: whatever etcd wrote it.
func TestCompactVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.7"} {
		t.Run(version, func(t *testing.T) {
			w := newRecordedOn(t, version)
			w.snapshot(t)
			last := w.changed(t, 200)
			out, err := Compact(t.Context(), w.compactOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			want := w.etcd.HashKV(t, 0, int64(last))
			if got := out.Backup.Database; got.Revision != last || got.HashKV != want.Hash || int64(got.CompactRevision) != want.CompactRevision {
				t.Errorf("got revision %d, HashKV %08x with compaction at %d, the member's is %08x with %d", got.Revision, got.HashKV, got.CompactRevision, want.Hash, want.CompactRevision)
			}
			w.restores(t, version, out.Backup, want.Hash)
		})
	}
}

// TestCompactAgain: a snapshot that was made offline is as good to begin with as any: for the next one, and for the recorder that goes on after it. That
// users were changed meanwhile is said.
func TestCompactAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	w := newRecorded(t)
	base := w.snapshot(t)
	w.changed(t, 100)
	o := w.compactOptions(t)
	times := w.times(t, base.ID.Time())
	first, err := Compact(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// It is dated by its content, so every time is still the revision that it was.
	for at, was := range times {
		if is := w.at(t, at); is != was {
			t.Errorf("%s was revision %d, and is %d since %s is there", at, was, is, first.Backup.ID)
		}
	}
	w.record(t)
	if _, err := w.cli.RoleAdd(t.Context(), "reader"); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, "the recorder has seen the role", func() error {
		if rec, _, err := w.repo.Recorded(t.Context(), base.Timeline); err != nil || rec.AuthRevision <= base.Database.AuthRevision {
			return fmt.Errorf("auth revision %d: %w", rec.AuthRevision, err)
		}
		return nil
	})
	last := w.changed(t, 100)
	second, err := Compact(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if second.From != first.Backup.ID || second.Backup.MadeFrom.Snapshot != first.Backup.ID || second.Backup.Source.MemberID != base.Source.MemberID {
		t.Errorf("made from %+v, want it from %s", second.Backup.MadeFrom, first.Backup.ID)
	}
	if want := w.etcd.HashKV(t, 0, int64(last)); second.Backup.Database.HashKV != want.Hash {
		t.Errorf("HashKV %08x, the member gives %08x", second.Backup.Database.HashKV, want.Hash)
	}
	if len(first.Notes) != 1 || len(second.Notes) != 2 || !strings.Contains(second.Notes[1], "users, roles or rights were changed") {
		t.Errorf("the notes are %q, and %q after a role was added", first.Notes, second.Notes)
	}
	if l, err := List(t.Context(), ListOptions{Repo: w.repo}); err != nil || l.Timelines != 1 || len(l.Backups) != 3 {
		t.Errorf("listed %+v, %v", l, err)
	}
}

// times are some since the first, with the revisions that they come to.
func (w *recorded) times(t *testing.T, first time.Time) map[time.Time]repo.Revision {
	t.Helper()
	const n = 20
	found, all := 0, map[time.Time]repo.Revision{}
	for i := range n {
		at := first.Add(time.Since(first) * time.Duration(i) / n)
		if all[at] = w.at(t, at); all[at] != 0 {
			found++
		}
	}
	if found < n/2 {
		t.Fatalf("only %d of %d times come to a revision", found, n)
	}
	return all
}

// at is the revision that a time comes to; 0 when it is refused.
func (w *recorded) at(t *testing.T, at time.Time) repo.Revision {
	t.Helper()
	l, err := Locate(t.Context(), w.repo, Point{Time: at}, LocateOptions{Identities: []age.Identity{w.id}})
	if fail.ExitCode(err) == fail.Unsafe {
		return 0
	}
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	return l.Revision
}

// TestCompact: the snapshot that was made offline has the cluster's HashKV, is a backup like any other, and stock etcdutl restores it.
func TestCompact(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	w := newRecorded(t)
	base := w.snapshot(t)
	last := w.changed(t, 600)
	before := len(w.manifests(t))
	o := w.compactOptions(t)

	dry := o
	dry.DryRun, dry.Progress = true, func(stage string, _, _ int64) { t.Errorf("a dry run comes to %s", stage) }
	out, err := Compact(t.Context(), dry)
	if err != nil || out.Backup != nil || out.From != base.ID || out.Revision != last || out.Segments == 0 || out.Nothing != "" {
		t.Fatalf("dry run: %+v, %v", out, err)
	}
	if n := len(w.manifests(t)); n != before {
		t.Fatalf("a dry run wrote: %d manifests, %d before", n, before)
	}

	if out, err = Compact(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m := out.Backup
	want := w.etcd.HashKV(t, 0, int64(last))
	if m.Database.Revision != last || m.Database.HashKV != want.Hash || int64(m.Database.CompactRevision) != want.CompactRevision {
		t.Errorf("HashKV(%d) is %08x with compaction at %d, the member's %08x with %d", last, m.Database.HashKV, m.Database.CompactRevision, want.Hash, want.CompactRevision)
	}
	from := m.MadeFrom
	if from.Snapshot != base.ID || from.First != base.Database.Revision+1 || from.Last != last || from.Proof == nil || from.Segments != out.Segments {
		t.Errorf("made from %+v", from)
	}
	if m.ID.Time().After(time.Now()) || m.ID.Time().Before(base.ID.Time()) {
		t.Errorf("it is dated %s", m.ID.Time())
	}
	w.restores(t, "", m, want.Hash)
	rep, err := Verify(t.Context(), VerifyOptions{Repo: w.repo, Identities: o.Identities, Scratch: t.TempDir(), IDs: []repo.SnapshotID{m.ID}})
	if err != nil || !rep.OK {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	if left, err := os.ReadDir(o.Scratch); err != nil || len(left) != 0 {
		t.Errorf("the scratch folder holds %v (%v)", left, err)
	}

	// There is nothing more to do; the same again is refused; an earlier point is another snapshot.
	if out, err := Compact(t.Context(), o); err != nil || out.Nothing == "" || out.Backup != nil || out.From != m.ID {
		t.Errorf("again: %+v, %v", out, err)
	}
	o.Point = Point{Revision: last}
	if _, err := Compact(t.Context(), o); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), string(m.ID)) {
		t.Errorf("the same revision again: %v", err)
	}
	o.Point.Revision = (base.Database.Revision + last) / 2
	out, err = Compact(t.Context(), o)
	if err != nil || out.Backup.Database.Revision != o.Point.Revision {
		t.Fatalf("an earlier point: %+v, %v", out, err)
	}
	if n := len(w.manifests(t)); n != before+2 {
		t.Errorf("%d manifests, want %d", n, before+2)
	}
}

// manifests are the keys of those that are in the repository.
func (w *recorded) manifests(t *testing.T) (keys []string) {
	t.Helper()
	c, err := w.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Entries {
		if e.Manifest.Key != "" {
			keys = append(keys, e.Manifest.Key)
		}
	}
	return keys
}

// restores exports a backup and restores it with etcdutl: what comes up has the hash.
func (w *recorded) restores(t *testing.T, version string, m *repo.Manifest, hash uint32) {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "plain.db"), filepath.Join(t.TempDir(), "restored")
	if _, err := Export(t.Context(), ExportOptions{Repo: w.repo, Point: Point{ID: m.ID}, Identities: []age.Identity{w.id}, To: file}); err != nil {
		t.Fatal(err)
	}
	lab.Etcdutl(t, "snapshot", "restore", file, "--data-dir", dir)
	etcd := lab.StartEtcdOn(t, version, dir)
	if got := etcd.HashKV(t, 0, int64(m.Database.Revision)); got.Hash != hash {
		t.Errorf("restored with etcdutl, HashKV(%d) is %08x, want %08x", m.Database.Revision, got.Hash, hash)
	}
}

// TestCompactNothing: with no change recorded behind the newest snapshot there is nothing to do, with or without a change log.
func TestCompactNothing(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 5)
	m := r.add(t, content, info, time.Now(), true)
	o := CompactOptions{Repo: r.repo, Recipients: []age.Recipient{r.id.Recipient()}, Scratch: t.TempDir()}
	before := r.objects(t)
	out, err := Compact(t.Context(), o)
	if err != nil || out.From != m.ID || !strings.Contains(out.Nothing, string(m.ID)) {
		t.Errorf("%+v, %v", out, err)
	}
	if d := cmp.Diff(before, r.objects(t)); d != "" {
		t.Errorf("it wrote (-before +after):\n%s", d)
	}
}

// TestCompactFails: whatever is wrong, there is no new backup, and nothing is left in the scratch folder.
func TestCompactFails(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	w := newRecorded(t)
	w.snapshot(t)
	last := w.changed(t, 300)
	before := w.manifests(t)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, o *CompactOptions, segs []repo.Segment)
		code   fail.Code
		want   error
	}{
		{"nobody is named to encrypt to", func(_ *testing.T, o *CompactOptions, _ []repo.Segment) { o.Recipients = nil }, fail.Unsafe, nil},
		{"no identity", func(_ *testing.T, o *CompactOptions, _ []repo.Segment) { o.Identities = nil }, fail.Usage, nil},
		{"a segment is missing", func(t *testing.T, o *CompactOptions, segs []repo.Segment) {
			o.Point.Revision = last
			w.hide(t, segs[len(segs)-1].Key)
		}, fail.Unsafe, nil},
		{"a segment is damaged", func(t *testing.T, _ *CompactOptions, segs []repo.Segment) {
			w.replace(t, segs[len(segs)/2].Key, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, fail.Wanting, changes.ErrDamaged},
		{"a segment lies", func(t *testing.T, _ *CompactOptions, segs []repo.Segment) {
			seg := w.witnessed(t, segs)
			w.replace(t, seg.Key, func(b []byte) []byte { return w.lying(t, seg, b) })
		}, fail.Wanting, rebuild.ErrNotProven},
		{"the data cannot be put", func(t *testing.T, o *CompactOptions, _ []repo.Segment) {
			o.Repo = reopened(t, failing{Store: w.st, suffix: ".age", err: &store.Error{Op: "put", Kind: store.Unavailable}})
		}, fail.Failed, store.Unavailable},
		{"the manifest cannot be put", func(t *testing.T, o *CompactOptions, _ []repo.Segment) {
			o.Repo = reopened(t, failing{Store: w.st, suffix: ".json", err: &store.Error{Op: "put", Kind: store.Unavailable}})
		}, fail.Failed, store.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			cat, err := w.repo.Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			o := w.compactOptions(t)
			c.change(t, &o, cat.Segments)
			out, err := Compact(t.Context(), o)
			if err == nil || out != nil && out.Backup != nil || fail.ExitCode(err) != c.code || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %+v, %v (exit %d), want exit %d, %v", out, err, fail.ExitCode(err), c.code, c.want)
			}
			if d := cmp.Diff(before, w.manifests(t)); d != "" {
				t.Errorf("manifests (-before +after):\n%s", d)
			}
			if left, err := os.ReadDir(o.Scratch); err == nil && len(left) != 0 {
				t.Errorf("the scratch folder holds %v", left)
			}
		})
	}
	// And none of it stands in the way of the next.
	if out, err := Compact(t.Context(), w.compactOptions(t)); err != nil || out.Backup.Database.Revision != last {
		t.Errorf("afterwards: %+v, %v", out, err)
	}
}

// TestCompactInterrupted: a cancelled compaction leaves nothing on disk and no backup.
func TestCompactInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	w := newRecorded(t)
	w.snapshot(t)
	w.changed(t, 100)
	before := w.manifests(t)
	for _, at := range []string{"fetch", "rebuild", "seal", "upload"} {
		ctx, cancel := context.WithCancel(t.Context())
		o := w.compactOptions(t)
		o.Progress = func(stage string, _, _ int64) {
			if stage == at {
				cancel()
			}
		}
		_, err := Compact(ctx, o)
		if fail.ExitCode(err) != fail.Interrupted {
			t.Errorf("cancelled during %s: %v", at, err)
		}
		if left, err := os.ReadDir(o.Scratch); err != nil || len(left) != 0 {
			t.Errorf("cancelled during %s: the scratch folder holds %v (%v)", at, left, err)
		}
		cancel()
	}
	if d := cmp.Diff(before, w.manifests(t)); d != "" {
		t.Errorf("manifests (-before +after):\n%s", d)
	}
}

func reopened(t *testing.T, st store.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hide takes an object away until the test's end.
func (w *recorded) hide(t *testing.T, key string) {
	t.Helper()
	path, away := filepath.Join(w.dir, key), filepath.Join(t.TempDir(), "away")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(away, path); err != nil {
			t.Error(err)
		}
	})
}

// replace changes an object until the test's end.
func (w *recorded) replace(t *testing.T, key string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(w.dir, key)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(bytes.Clone(good)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Error(err)
		}
	})
}

// witnessed is the segment in which the witness was put.
func (w *recorded) witnessed(t *testing.T, segs []repo.Segment) repo.Segment {
	t.Helper()
	resp, err := w.cli.Get(t.Context(), "witness")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	rev := repo.Revision(resp.Kvs[0].ModRevision)
	i := slices.IndexFunc(segs, func(s repo.Segment) bool { return s.First <= rev && rev <= s.Last })
	return segs[i]
}

// lying is a segment, whole and sealed as a recorder seals it, in which one put has another value than the cluster's.
func (w *recorded) lying(t *testing.T, seg repo.Segment, object []byte) []byte {
	t.Helper()
	in, err := changes.NewUnsealReader(io.NopCloser(bytes.NewReader(object)), true, []age.Identity{w.id})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dec, err := changes.NewDecoder(in)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	seal, err := changes.NewSealWriter(&out, []age.Recipient{w.id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := changes.NewEncoder(seal, dec.Header())
	lied := false
	for err == nil {
		var r *changes.Record
		if r, err = dec.Next(); err != nil {
			break
		}
		switch r.Kind {
		case changes.KindEvent:
			if at := bytes.Index(r.Event.Value, []byte(witness)); at >= 0 {
				r.Event.Value = bytes.Clone(r.Event.Value) // which the decoder has yet to hash
				r.Event.Value[at] ^= 1
				lied = true
			}
			err = enc.Event(&r.Event)
		case changes.KindTime:
			err = enc.Time(r.Time)
		case changes.KindLeases:
			err = enc.Leases(r.Leases)
		case changes.KindProof:
			err = enc.Proof(r.Proof)
		case changes.KindAuth:
			err = enc.Auth(r.Auth)
		}
	}
	if !errors.Is(err, io.EOF) || !lied {
		t.Fatalf("segment %s of SHA-256 %x: lied %v, %v", seg.Key, sha256.Sum256(object), lied, err)
	}
	if err := errors.Join(enc.Close(), seal.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
