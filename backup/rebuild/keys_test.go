package rebuild_test

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// state is what the model says of the keys of a range at a revision, in order.
func (h *history) state(rev int64, r keys.Range) (out []string) {
	live := map[string]change{}
	for _, c := range h.changes {
		if c.rev > rev {
			break
		}
		if delete(live, c.key); !c.tombstone {
			live[c.key] = c
		}
	}
	for _, k := range slices.Sorted(maps.Keys(live)) {
		if r.Has([]byte(k)) {
			kv, _ := changes.ParseKeyValue(live[k].value)
			out = append(out, show(kv))
		}
	}
	return out
}

func show(kv changes.KeyValue) string {
	return fmt.Sprintf("%s=%s %d %d %d %d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func all(t *testing.T, seq iter.Seq2[changes.KeyValue, error]) (out []string) {
	t.Helper()
	for kv, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, show(kv))
	}
	return out
}

// TestGet: the keys at any point, from any snapshot and segments, with any budget, are those of the model.
func TestGet(t *testing.T) {
	rng := newRand(t)
	h := newHistory()
	h.random(rng, 300)
	ranges := []keys.Range{
		{Key: []byte("key-07")},
		{Key: []byte("none")},
		keys.Prefix("key-1"), keys.Prefix(""),
		{Key: []byte("key-11"), End: []byte("key-23")},
		{Key: []byte("key-30"), End: []byte{0}},
	}
	for range 20 {
		compact := rng.Int64N(200)
		base := max(compact, 1) + rng.Int64N(h.rev-max(compact, 1))
		target := max(compact, 1) + rng.Int64N(h.rev-max(compact, 1)+1)
		f := open(t, h.file(t, base, compact))
		p := keys.Point{File: f, Segments: randomCover(t, rng, h, base, h.rev), Revision: revision.Revision(target), Timeline: timeline, Budget: 1 << (10 + rng.IntN(8))}
		for _, r := range ranges {
			if d := gocmp.Diff(h.state(target, r), all(t, keys.Get(t.Context(), p, r))); d != "" {
				t.Fatalf("snapshot %d compacted at %d, revision %d, %s..%s, budget %d (-want +got):\n%s", base, compact, target, r.Key, r.End, p.Budget, d)
			}
		}
		f.Close()
	}
}

// TestGetRefuses: a point that cannot be reached is an error, not an empty answer.
func TestGetRefuses(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 100)
	f := open(t, h.file(t, 60, 30))
	defer f.Close()
	for target, want := range map[revision.Revision]error{29: keys.ErrCompacted, 90: rebuild.ErrMissing} {
		n := 0
		for _, err := range keys.Get(t.Context(), keys.Point{File: f, Revision: target}, keys.Prefix("")) {
			if n++; !errors.Is(err, want) {
				t.Errorf("revision %d: got %v, want %v", target, err, want)
			}
		}
		if n != 1 {
			t.Errorf("revision %d: %d answers", target, n)
		}
	}
}

// TestHistory: every change of a range, with the times around it, from the file and the segments.
func TestHistory(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 200)
	at := func(rev int64) time.Time { return time.Unix(rev, 0).UTC() }
	var marks []mark
	for rev := int64(60); rev <= 200; rev += 10 {
		marks = append(marks, seenAt(rev, at(rev)))
	}
	f := open(t, h.file(t, 100, 30))
	defer f.Close()
	o := keys.HistoryOptions{
		File: f, FileTime: at(1000), First: 40, Last: 180,
		Segments: []rebuild.Segment{h.segment(t, 61, 120, marks...), h.segment(t, 91, 150, marks...), h.segment(t, 151, 200, marks...)},
	}
	r := keys.Prefix("key-1")
	var want []string
	for _, c := range h.changes {
		if !r.Has([]byte(c.key)) || c.rev < 40 || c.rev > 180 {
			continue
		}
		when := rebuild.Time{By: at(1000)}
		if c.rev > 60 {
			if when = (rebuild.Time{By: at((c.rev + 9) / 10 * 10)}); c.rev > 70 {
				when.After = at((c.rev - 1) / 10 * 10)
			}
		}
		want = append(want, fmt.Sprintln(c.rev, c.sub, c.tombstone, c.key, when))
	}
	got := func() (out []string) {
		for c, err := range keys.History(t.Context(), o, r) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintln(int64(c.Revision), c.Sub, c.Deleted, string(c.KeyValue.Key), c.Time))
		}
		return out
	}
	if d := gocmp.Diff(want, got()); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
	if o.Budget = 1; len(got()) != len(want) {
		t.Error("changes are lost when none may wait")
	}
	for range keys.History(t.Context(), o, r) {
		break // ends cleanly
	}
}

// TestDiff: two points, and a point against a live cluster.
func TestDiff(t *testing.T) {
	h := newHistory()
	h.txn(op{key: "a", value: []byte("1")}, op{key: "b", value: []byte("1")}, op{key: "d", value: []byte("1")}) // 2
	h.txn(op{key: "b", value: []byte("2")}, op{key: "c", value: []byte("2")})                                   // 3
	h.txn(op{key: "a", del: true}, op{key: "d", value: []byte("1")})                                            // 4: d has the same value again
	f := open(t, h.file(t, 4, 0))
	defer f.Close()
	point := func(rev revision.Revision) iter.Seq2[changes.KeyValue, error] {
		return keys.Get(t.Context(), keys.Point{File: f, Revision: rev}, keys.Prefix(""))
	}
	text := func(kv *changes.KeyValue) string {
		if kv == nil {
			return "-"
		}
		return string(kv.Value)
	}
	diff := func(a, b iter.Seq2[changes.KeyValue, error], same func(a, b *changes.KeyValue) bool) (out []string) {
		for d, err := range keys.Diff(a, b, same) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(string(d.Key), " ", text(d.Before), " ", text(d.After)))
		}
		return out
	}
	for _, tc := range []struct {
		a, b revision.Revision
		same func(a, b *changes.KeyValue) bool
		want []string
	}{
		{2, 4, keys.Identical, []string{"a 1 -", "b 1 2", "c - 2", "d 1 1"}},
		{2, 4, keys.SameValue, []string{"a 1 -", "b 1 2", "c - 2"}},
		{4, 2, keys.SameValue, []string{"a - 1", "b 2 1", "c 2 -"}},
		{1, 2, keys.SameValue, []string{"a - 1", "b - 1", "d - 1"}},
		{3, 3, keys.Identical, nil},
	} {
		if d := gocmp.Diff(tc.want, diff(point(tc.a), point(tc.b), tc.same)); d != "" {
			t.Errorf("%d to %d (-want +got):\n%s", tc.a, tc.b, d)
		}
	}
	broken := func(yield func(changes.KeyValue, error) bool) {
		if yield(changes.KeyValue{Key: []byte("b")}, nil) {
			yield(changes.KeyValue{Key: []byte("a")}, nil)
		}
	}
	var last error
	for _, err := range keys.Diff(broken, point(1), keys.Identical) {
		last = err
	}
	if last == nil {
		t.Error("keys that are not in order are compared")
	}
}

// TestDiffLive: a restore point against the running cluster shows what was changed since, and nothing else, over many pages.
func TestDiffLive(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	cli := c.Client(t)
	rec := record(t, cli, 2, 100)
	snap := snapshot(t, cli)
	lab.Fill(t, cli, lab.FillOptions{Keys: 3000, ValueSize: 100})
	at := putKey(t, cli, "/registry/a", "1")
	segs := rec.until(t, at)
	f := open(t, snap)
	defer f.Close()
	p := keys.Point{File: f, Segments: segs, Revision: revision.Revision(at), Timeline: timeline, Budget: 64 << 10}
	putKey(t, cli, "/registry/a", "2")
	putKey(t, cli, "/registry/zzz", "1")
	gone := lab.FillOptions{}.Key(17)
	if _, err := cli.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	var got []string
	for d, err := range keys.Diff(keys.Get(t.Context(), p, keys.Prefix("")), keys.Live(t.Context(), cli, keys.Prefix(""), 0), keys.Identical) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(string(d.Key), d.Before != nil, d.After != nil))
	}
	want := []string{"/registry/a" + "true true", gone + "true false", "/registry/zzz" + "false true"}
	slices.SortFunc(want, cmp.Compare[string])
	if d := gocmp.Diff(want, got); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
	if _, err := cli.Compact(t.Context(), at+1, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, err := range keys.Live(t.Context(), cli, keys.Prefix(""), at) {
		if err == nil {
			t.Error("a compacted revision was read")
		}
	}
}

// TestMarks: the time marks of any segments, for a time to be resolved with.
func TestMarks(t *testing.T) {
	h := newHistory()
	h.random(newRand(t), 100)
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	segs := []rebuild.Segment{h.segment(t, 11, 30, seenAt(20, at(100)), seenAt(30, at(200))), h.segment(t, 51, 90), h.segment(t, 61, 90, seenAt(61, at(90)))}
	got, err := rebuild.Marks(t.Context(), segs)
	want := []cover.Mark{{Timeline: timeline, Revision: 20, Time: at(100)}, {Timeline: timeline, Revision: 30, Time: at(200)}, {Timeline: timeline, Revision: 61, Time: at(90)}}
	if d := gocmp.Diff(want, got); d != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, d)
	}
	bad := content(t, h.changes, 11, 30, seenAt(20, at(100)))
	bad[len(bad)-1] ^= 1
	if _, err := rebuild.Marks(t.Context(), []rebuild.Segment{segment("bad", 11, 30, bad)}); !errors.Is(err, changes.ErrDamaged) {
		t.Errorf("a damaged segment: %v", err)
	}
}
