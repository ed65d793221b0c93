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
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// watched is a store that notes which data was downloaded.
type watched struct {
	store.Store
	mu   sync.Mutex
	data []string
}

func (w *watched) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.Contains(key, ".zst") {
		w.mu.Lock()
		w.data = append(w.data, key)
		w.mu.Unlock()
	}
	return w.Store.Get(ctx, key, offset, length)
}

// wantRefused locates a point and expects a refusal of a code that says something, names these commands, and has downloaded no data.
func wantRefused(t *testing.T, st store.Store, ids []age.Identity, p Point, code fail.Code, says string, hints ...string) {
	t.Helper()
	w := &watched{Store: st}
	r, err := repo.Open(t.Context(), w, "main")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Locate(t.Context(), r, p, LocateOptions{Identities: ids})
	if err == nil {
		t.Errorf("%+v: %s; want exit code %d", p, l.Resolved(), code)
		return
	}
	if fail.ExitCode(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("%+v: exit code %d, %v; want %d saying %q", p, fail.ExitCode(err), err, code, says)
	}
	for _, h := range append(hints, "") {
		if fail.HintOf(err) == "" || !strings.Contains(fail.HintOf(err), h) {
			t.Errorf("%+v: hint %q, want it to name %q", p, fail.HintOf(err), h)
		}
	}
	if len(w.data) > 0 {
		t.Errorf("%+v: %v was downloaded for a refusal", p, w.data)
	}
}

// TestPointOutside: before the first point, behind the last, in the future, and where history was compacted away before it was recorded: refused with the
// nearest points on either side, and shown by list with the reason.
func TestPointOutside(t *testing.T) {
	w := newRecorded(t)
	for range 5 {
		w.put(t, "old", "v")
	}
	if _, err := w.cli.Compact(t.Context(), 4, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	early := time.Now().Add(-2 * time.Hour)
	first := w.snapshot(t)
	end := w.change(t, 4, 30)
	if err := w.rec.Stop(); err != nil {
		t.Fatal(err)
	}
	idle := time.Now()
	var lost repo.Revision
	for range 10 {
		lost = w.put(t, "lost", "v")
	}
	if _, err := w.cli.Compact(t.Context(), int64(lost)-2, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	w.record(t) // it finds that history is gone, notes the gap and goes on
	last := w.change(t, 5, 10)
	second := w.snapshot(t)
	ids, st := []age.Identity{w.id}, w.st
	gap := lost - 5
	hints := []string{fmt.Sprintf("--to-revision %d", end), fmt.Sprintf("--to-revision %d", lost-2)}
	wantRefused(t, st, ids, Point{Revision: gap}, fail.Unsafe, "lies in a gap", hints...)
	wantRefused(t, st, ids, Point{Revision: gap}, fail.Unsafe, "compact")
	wantRefused(t, st, ids, Point{Revision: 2}, fail.Unsafe, "is before the first restore point", "--to-revision 4")
	wantRefused(t, st, ids, Point{Revision: last + 100}, fail.Unsafe, "is after the last restore point", fmt.Sprintf("--to-revision %d", second.Database.Revision))
	wantRefused(t, st, ids, Point{Time: early}, fail.Unsafe, "is before the first restore point", fmt.Sprintf("--to-revision %d", first.Database.Revision))
	wantRefused(t, st, ids, Point{Time: time.Now()}, fail.Unsafe, "is after the last restore point", "--to-revision")
	wantRefused(t, st, ids, Point{Time: time.Now().Add(time.Minute)}, fail.Usage, "has not come yet", "--to-time")
	wantRefused(t, st, ids, Point{Time: idle, Revision: 5}, fail.Usage, "do not go together", "--to-time")
	wantRefused(t, st, ids, Point{Revision: gap, ID: first.ID}, fail.Unsafe, "is after the last restore point", fmt.Sprintf("--to-revision %d", end))
	wantRefused(t, st, ids, Point{ID: repo.NewSnapshotID(time.Now())}, fail.Wanting, "no backup", "list")

	l, err := List(t.Context(), ListOptions{Repo: w.repo})
	if err != nil {
		t.Fatal(err)
	}
	gaps := l.AnyMoment.Gaps
	if len(gaps) != 1 || gaps[0].From != end+1 || gaps[0].To != lost-3 || !strings.Contains(gaps[0].Reason, "compact") {
		t.Errorf("the gaps are %+v, want one from %d to %d with its reason", gaps, end+1, lost-3)
	}
	if ws := l.AnyMoment.Windows; len(ws) != 2 || ws[0].From != 4 || ws[0].To != end || ws[1].From != lost-2 || ws[1].To != second.Database.Revision {
		t.Errorf("the windows are %+v", ws)
	}
	w.wantExact(t, w.locate(t, Point{Revision: lost - 1}), lost-1)
	w.wantExact(t, w.locate(t, Point{}), second.Database.Revision)
}

// segment is one made by hand: revisions first to last, each a put of the same value.
func (r *rig) segment(t *testing.T, in, says repo.Timeline, first, last repo.Revision, value string, nameLast repo.Revision) repo.Segment {
	t.Helper()
	var content, object bytes.Buffer
	h := changes.Header{ClusterID: says.Cluster, Timeline: says, First: first, Last: last, Events: int64(last-first) + 1, EtcdVersion: "3.6.16", Host: "h", Steward: "test", Created: time.Now().UTC()}
	enc, err := changes.NewEncoder(&content, h)
	if err != nil {
		t.Fatal(err)
	}
	for rev := first; rev <= last; rev++ {
		kv := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/made/%d", rev), Value: []byte(value), CreateRevision: int64(rev), ModRevision: int64(rev), Version: 1}
		b, err := proto.Marshal(kv)
		if err != nil {
			t.Fatal(err)
		}
		ev := changes.Event{Value: b}
		ev.SetRevision(int64(rev), 0, false)
		if err := errors.Join(enc.Event(&ev), enc.Time(changes.TimeMark{Revision: rev, Time: time.Now()})); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := changes.NewSealWriter(&object, []age.Recipient{r.id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(content.Bytes())
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	s := repo.Segment{Timeline: in, First: first, Last: nameLast, ID: repo.NewSnapshotID(time.Now()), Encrypted: true, Size: int64(object.Len())}
	s.Key = repo.SegmentKey(s.Timeline, s.First, s.Last, s.ID, true)
	if err := r.repo.PutSegment(t.Context(), s, store.Source{Reader: &object, Size: s.Size, SHA256: sha256.Sum256(object.Bytes())}); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSegmentLies: a segment of another cluster or another timeline, one whose header and name disagree, one that says something else of the same revision, and
// one with a flipped bit are corruption, never skipped, and leave no file.
func TestSegmentLies(t *testing.T) {
	content, info := snapshotFile(t, 20)
	line := repo.Timeline{Cluster: testCluster, Cut: 1}
	base := info.Revision
	for name, c := range map[string]struct {
		make func(t *testing.T, r *rig)
		want error
	}{
		"another cluster": {func(t *testing.T, r *rig) {
			r.segment(t, line, repo.Timeline{Cluster: 0xdead, Cut: 1}, base+1, base+5, "v", base+5)
		}, changes.ErrDamaged},
		"another timeline": {func(t *testing.T, r *rig) {
			r.segment(t, line, repo.Timeline{Cluster: testCluster, Cut: 2}, base+1, base+5, "v", base+5)
		}, changes.ErrDamaged},
		"its name says more": {func(t *testing.T, r *rig) { r.segment(t, line, line, base+1, base+4, "v", base+5) }, changes.ErrDamaged},
		"other content": {func(t *testing.T, r *rig) {
			r.segment(t, line, line, base+1, base+3, "v", base+3)
			r.segment(t, line, line, base+3, base+5, "w", base+5)
		}, rebuild.ErrContradiction},
		"a flipped bit": {func(t *testing.T, r *rig) {
			path := r.file(r.segment(t, line, line, base+1, base+5, "v", base+5).Key)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, changes.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.add(t, content, info, time.Now().Add(-time.Minute), true)
			c.make(t, r)
			ids := []age.Identity{r.id}
			l, err := Locate(t.Context(), r.repo, Point{Revision: base + 5}, LocateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			_, err = l.Materialise(t.Context(), r.repo, MaterialiseOptions{Path: filepath.Join(dir, "db"), Identities: ids})
			if !errors.Is(err, c.want) || fail.ExitCode(err) != fail.Wanting || fail.HintOf(err) == "" {
				t.Errorf("materialised: exit code %d, %v; want %v", fail.ExitCode(err), err, c.want)
			}
			_, err = Export(t.Context(), ExportOptions{Repo: r.repo, Point: Point{Revision: base + 5}, Identities: ids, To: filepath.Join(dir, "to")})
			if fail.ExitCode(err) != fail.Wanting {
				t.Errorf("exported: exit code %d, %v", fail.ExitCode(err), err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
			if _, err := Locate(t.Context(), r.repo, Point{Time: time.Now().Add(-30 * time.Second)}, LocateOptions{Identities: ids}); errors.Is(c.want, changes.ErrDamaged) && fail.ExitCode(err) != fail.Wanting {
				t.Errorf("its times: exit code %d, %v", fail.ExitCode(err), err)
			}
		})
	}
}

// TestAmbiguousPoint: a revision or a time that exists on two timelines is refused until one is named; each then gives its own.
func TestAmbiguousPoint(t *testing.T) {
	r := newRig(t)
	content, info := snapshotFile(t, 20)
	now := time.Now()
	on := map[repo.Timeline]*repo.Manifest{}
	for cut := range uint32(2) {
		for _, ago := range []time.Duration{4 * time.Hour, time.Hour} {
			m, object := r.sealed(t, content, info, now.Add(-ago-time.Duration(cut)*time.Minute), false)
			m.Timeline.Cut = cut + 1
			m.Object.Key = repo.DataKey(m.Timeline, info.Revision, m.ID, false)
			r.put(t, m, object)
			on[m.Timeline] = m
		}
	}
	wantRefused(t, r.st, nil, Point{Revision: info.Revision}, fail.Unsafe, "is ambiguous", "--timeline")
	wantRefused(t, r.st, nil, Point{Time: now.Add(-2 * time.Hour)}, fail.Unsafe, "is ambiguous", "--timeline")
	for line, m := range on {
		for _, p := range []Point{{Revision: info.Revision, Timeline: line}, {Time: now.Add(-2 * time.Hour), Timeline: line}, {Timeline: line}} {
			l, err := Locate(t.Context(), r.repo, p, LocateOptions{})
			if err != nil || l.Timeline != line || l.Snapshot.ID != m.ID || l.Revision != info.Revision {
				t.Errorf("%+v: %+v, %v; want backup %s", p, l, err, m.ID)
			}
		}
	}
	newest, err := Locate(t.Context(), r.repo, Point{}, LocateOptions{})
	if err != nil || newest.Timeline.Cut != 2 {
		t.Errorf("the newest: %+v, %v; want the newest timeline's", newest, err)
	}
}

// TestPointIncomplete: what is no complete backup is never chosen, and what is wrong with it is said, with exit code 3; a newest backup that cannot be read is
// not passed over in silence.
func TestPointIncomplete(t *testing.T) {
	content, info := snapshotFile(t, 20)
	r := newRig(t)
	now := time.Now()
	wantRefused(t, r.st, nil, Point{}, fail.Wanting, "there is no backup", "list")
	good := r.add(t, content, info, now.Add(-3*time.Hour), false)
	lost := r.add(t, content, info, now.Add(-2*time.Hour), false)
	if err := os.Remove(r.file(lost.Object.Key)); err != nil {
		t.Fatal(err)
	}
	unfinished, object := r.sealed(t, content, info, now.Add(-time.Hour), false)
	if err := r.repo.PutData(t.Context(), unfinished, store.Source{Reader: bytes.NewReader(object), Size: int64(len(object)), SHA256: unfinished.Object.SHA256}); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, r.st, nil, Point{ID: lost.ID}, fail.Wanting, "data object is missing", "choose another")
	wantRefused(t, r.st, nil, Point{ID: unfinished.ID}, fail.Wanting, "has not finished", "list")
	if l, err := Locate(t.Context(), r.repo, Point{}, LocateOptions{}); err != nil || l.Snapshot.ID != good.ID {
		t.Fatalf("%+v, %v; want backup %s", l, err, good.ID)
	}
	bad := r.add(t, content, info, now, false)
	path := r.file(repo.ManifestKey(bad.Timeline, bad.Database.Revision, bad.ID))
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 50)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, r.st, nil, Point{}, fail.Wanting, string(bad.ID), fmt.Sprintf("--to-revision %d", info.Revision))
	if l, err := Locate(t.Context(), r.repo, Point{Revision: info.Revision}, LocateOptions{}); err != nil || l.Snapshot.ID != good.ID || l.Unreadable[bad.ID] == nil {
		t.Errorf("asked for by its revision: %+v, %v; want backup %s", l, err, good.ID)
	}
}
