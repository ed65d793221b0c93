package record

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// message is a watch's message with whole revisions, or a fragment of one; a number twice in a row is two events of one revision.
func message(t *testing.T, fragment bool, revs ...int64) *watch.Response {
	t.Helper()
	m := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: 1 << 40}, Fragment: fragment}
	for i, rev := range revs {
		kv := &mvccpb.KeyValue{Key: []byte{'k', byte(i)}, CreateRevision: rev, ModRevision: rev, Version: 1, Value: []byte(time.Duration(rev).String())}
		ev := &mvccpb.Event{Kv: kv}
		if rev%7 == 3 {
			ev = &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: kv.Key, ModRevision: rev}}
		}
		m.Events = append(m.Events, ev)
	}
	return parsed(t, m)
}

func progress(t *testing.T, rev int64) *watch.Response {
	t.Helper()
	return parsed(t, &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: rev}})
}

func parsed(t *testing.T, m *etcdserverpb.WatchResponse) *watch.Response {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	r := new(watch.Response)
	if err := r.Parse(b); err != nil {
		t.Fatal(err)
	}
	return r
}

func newTail(t *testing.T, have repo.Revision) *tail {
	t.Helper()
	l := &tail{buf: buffer{dir: t.TempDir(), limit: 200}}
	if err := l.restart(have); err != nil {
		t.Fatal(err)
	}
	l.resume(max(1, have), fingerprint{})
	return l
}

// revisions are what the tail holds whole, and how many events of each.
func revisions(t *testing.T, l *tail) map[int64]int {
	t.Helper()
	out := map[int64]int{}
	s := changes.NewSplitter(l.buf.Section(0, l.length))
	for {
		kind, record, err := s.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind == changes.KindEvent {
			var ev changes.Event
			copy(ev.Key[:], record[len(record)-len(s.Body())+1:])
			main, sub := ev.Revision()
			if int(sub) != out[main] {
				t.Fatalf("event %d of revision %d has number %d", out[main], main, sub)
			}
			out[main]++
		}
	}
}

// TestTailRules: each way in which a watch can be wrong is refused, and what is right is not.
func TestTailRules(t *testing.T) {
	type step struct {
		r    *watch.Response
		want string // a part of the error; "" is none
	}
	for name, steps := range map[string][]step{
		"in order":               {{message(t, false, 11), ""}, {message(t, false, 12, 12, 13), ""}, {progress(t, 13), ""}, {message(t, false, 14), ""}},
		"what is recorded first": {{message(t, false, 10, 11), ""}, {message(t, false, 12), ""}},
		"a hole":                 {{message(t, false, 11), ""}, {message(t, false, 13), "left out revisions 12 to 12"}},
		"a hole at first":        {{message(t, false, 15), "left out revisions 11 to 14"}},
		"a hole by progress":     {{message(t, false, 11), ""}, {progress(t, 14), "left out revisions 12 to 14"}},
		"a repeat":               {{message(t, false, 11), ""}, {message(t, false, 11), "revision 11 again"}},
		"a step back":            {{message(t, false, 11, 12), ""}, {message(t, false, 11), "revision 11 again, after 12"}},
		"a revision in two":      {{message(t, false, 11, 12), ""}, {message(t, false, 12, 13), "revision 12 again"}},
		"fragments":              {{message(t, true, 11, 12), ""}, {message(t, true, 12, 12), ""}, {message(t, false, 12, 13), ""}},
		"progress in a fragment": {{message(t, true, 11, 12), ""}, {progress(t, 12), "in the middle of revision 12"}},
		"a member that lags":     {{message(t, false, 11, 12), ""}, {progress(t, 9), ""}, {message(t, false, 13), ""}},
		"back in one message":    {{message(t, false, 11, 12, 11), "revision 11 again"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTail(t, 10)
			for i, s := range steps {
				err := l.response(s.r, time.Now())
				if s.want == "" && err != nil || s.want != "" && (err == nil || !strings.Contains(err.Error(), s.want)) {
					t.Fatalf("step %d: got %v, want %q", i, err, s.want)
				}
			}
		})
	}
}

// TestTailBreaks: however a watch is cut into messages, broken off and begun again, each revision is recorded once, whole and in order.
func TestTailBreaks(t *testing.T) {
	rng := rand.New(rand.NewPCG(lab.Seed(t), 0))
	for range 100 {
		var history []int64 // the revision of each event
		for rev := int64(2); rev < 60; rev++ {
			for range 1 + rng.IntN(3)*rng.IntN(3) {
				history = append(history, rev)
			}
		}
		l := newTail(t, 1)
		for l.have < 59 {
			from := max(1, l.have-repo.Revision(rng.Int64N(5)))
			l.resume(from, fingerprint{})
			var rest []int64
			for _, rev := range history {
				if rev >= int64(from) {
					rest = append(rest, rev)
				}
			}
			for len(rest) > 0 && rng.IntN(4) > 0 {
				n := 1 + rng.IntN(min(len(rest), 10))
				whole := n == len(rest) || rest[n] != rest[n-1]
				if err := l.response(message(t, !whole, rest[:n]...), time.Now()); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			l.rollback()
		}
		got := revisions(t, l)
		want := map[int64]int{}
		for _, rev := range history {
			want[rev]++
		}
		if len(got) != len(want) || l.first != 2 || l.events != int64(len(history)) {
			t.Fatalf("got %d revisions from %d with %d events, want %d with %d", len(got), l.first, l.events, len(want), len(history))
		}
		for rev, n := range want {
			if got[rev] != n {
				t.Fatalf("revision %d has %d events, want %d", rev, got[rev], n)
			}
		}
	}
}

// TestTailCheck: a revision that was noted is recognised, and another history of the same revisions is not taken for it.
func TestTailCheck(t *testing.T) {
	l := newTail(t, 10)
	if err := l.response(message(t, false, 11, 12, 12), time.Now()); err != nil {
		t.Fatal(err)
	}
	check, ok, err := l.fingerprint()
	if err != nil || !ok || check.Revision != 12 {
		t.Fatalf("got %+v, %v, %v", check, ok, err)
	}
	again := func(r *watch.Response, from repo.Revision) error {
		l := newTail(t, 13)
		l.resume(from, check)
		return l.response(r, time.Now())
	}
	if err := again(message(t, false, 11, 12, 12, 13, 14), 11); err != nil {
		t.Fatalf("the same history: %v", err)
	}
	var other *otherHistoryError
	if err := again(message(t, false, 12, 13, 14), 12); !errors.As(err, &other) || other.Revision != 12 {
		t.Fatalf("an event less: got %v", err)
	}
	if err := again(message(t, false, 11, 11, 12, 12, 13), 11); !errors.As(err, &other) {
		t.Fatalf("other keys: got %v", err)
	}
	if err := again(message(t, false, 13, 14), 12); err != nil {
		t.Fatalf("a revision that compaction has emptied: %v", err)
	}
}

// TestTailMarks: marks are at least 100 ms apart, never go back, and tell of quiet times.
func TestTailMarks(t *testing.T) {
	l := newTail(t, 10)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	for _, s := range []struct {
		ms int
		r  *watch.Response
	}{
		{0, message(t, false, 11)},
		{50, message(t, false, 12)},
		{120, message(t, false, 13)},
		{-5000, message(t, false, 14)}, // the clock went back
		{130, message(t, false, 15)},
		{900, progress(t, 15)},
		{1000, message(t, false, 16)},
		{1010, message(t, false, 17)},
	} {
		if err := l.response(s.r, at(s.ms)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the segment's last revision has a time, once
		if err := l.lastMark(at(1020)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	sp := changes.NewSplitter(l.buf.Section(0, l.length))
	for {
		kind, _, err := sp.Next()
		if err != nil {
			break
		}
		if kind == changes.KindTime {
			m, err := changes.ParseTime(sp.Body())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.Time.Sub(begin).String()+"="+m.Revision.Hex()[14:])
		}
	}
	if want := "0s=0b 120ms=0d 900ms=0f 1s=10 1.02s=11"; strings.Join(got, " ") != want {
		t.Fatalf("marks %v, want %s", got, want)
	}
}

// TestSuspect: the versions that are known to lose events, and no others.
func TestSuspect(t *testing.T) {
	for version, want := range map[string]bool{
		"3.3.27": true, "3.4.24": true, "3.4.38": false, "3.5.7": true, "3.5.12": true, "3.5.17": true, "3.5.21": true, "3.5.22": false, "3.5.35": false,
		"3.6.1": true, "3.6.2": false, "3.6.16": false, "3.7.0": false, "4.0.0": false, "": false, "3.6.1-rc.0": true,
	} {
		if got := suspect(version); (got != "") != want {
			t.Errorf("%s: got %q", version, got)
		}
	}
	if trustProgress("3.5.7") || !trustProgress("3.5.8") || trustProgress("3.4.24") || !trustProgress("3.6.0") {
		t.Error("progress is trusted where it should not be, or the other way round")
	}
}
