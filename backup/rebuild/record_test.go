package rebuild_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// recorder is the simplest recorder that gives segments: a watch on everything, cut every so many events.
type recorder struct {
	t      testing.TB
	dir    string
	cli    *clientv3.Client
	events int // per segment

	mu       sync.Mutex
	pending  []change
	size     int
	marks    []mark
	rev, sub int64
	segs     []rebuild.Segment
	err      error
	done     chan struct{}
}

// record watches everything from a revision until the test ends.
func record(t testing.TB, cli *clientv3.Client, from int64, eventsPerSegment int) *recorder {
	t.Helper()
	r := &recorder{t: t, dir: t.TempDir(), cli: cli, events: eventsPerSegment, rev: from - 1, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ch := cli.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from))
	go func() {
		defer close(r.done)
		for resp := range ch {
			if err := resp.Err(); err != nil {
				r.fail(err)
				return
			}
			r.take(resp)
		}
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

func (r *recorder) take(resp clientv3.WatchResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range resp.Events {
		kv := ev.Kv
		if kv.ModRevision != r.rev {
			if kv.ModRevision != r.rev+1 {
				r.err = fmt.Errorf("revision %d after %d", kv.ModRevision, r.rev)
				return
			}
			if len(r.pending) >= r.events || r.size > 4<<20 {
				r.flush()
			}
			r.rev, r.sub = kv.ModRevision, -1
		}
		r.sub++
		c := change{rev: r.rev, sub: r.sub, key: string(kv.Key), tombstone: ev.Type == mvccpb.DELETE}
		if c.tombstone {
			c.value = changes.AppendTombstone(nil, kv.Key)
		} else {
			c.value = changes.AppendKeyValue(nil, changes.KeyValue{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Value: kv.Value, Lease: kv.Lease})
		}
		r.pending = append(r.pending, c)
		r.size += len(c.value)
	}
	r.marks = append(r.marks, seenAt(r.rev, time.Now()))
}

// flush makes a segment of what is pending; what has been marked meanwhile goes with it.
func (r *recorder) flush() {
	if len(r.pending) == 0 {
		return
	}
	first, last := r.pending[0].rev, r.pending[len(r.pending)-1].rev
	keep := r.marks[:0:0]
	var now []mark
	for _, m := range r.marks {
		if m.after > last {
			keep = append(keep, m)
			continue
		}
		if m.rec.Kind != changes.KindTime { // a time mark stands at its revision; the others may come later
			m.after = max(m.after, first)
		}
		now = append(now, m)
	}
	b := content(r.t, r.pending, first, last, now...)
	r.segs = append(r.segs, sealed(r.t, r.dir, first, last, b))
	r.pending, r.size, r.marks = nil, 0, keep
}

// sealed stores a segment's content in a file as a repository does.
func sealed(t testing.TB, dir string, first, last int64, content []byte) rebuild.Segment {
	t.Helper()
	seg := repo.Segment{Timeline: timeline, First: revision.Revision(first), Last: revision.Revision(last)}
	path := filepath.Join(dir, fmt.Sprintf("%d-%d", first, last))
	var buf bytes.Buffer
	w, err := changes.NewSealWriter(&buf, nil)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close(), os.WriteFile(path, buf.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return rebuild.Segment{Name: path, First: seg.First, Last: seg.Last, Open: func(context.Context) (rebuild.Records, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return changes.NewSegment(f, seg, nil)
	}}
}

// look records the leases.
func (r *recorder) look(t testing.TB) {
	t.Helper()
	resp, err := r.cli.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ls []changes.Lease
	for _, l := range resp.Leases {
		ttl, err := r.cli.TimeToLive(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		if ttl.TTL >= 0 {
			ls = append(ls, changes.Lease{ID: int64(l.ID), Granted: ttl.GrantedTTL, Remaining: ttl.TTL})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, leasesSeen(resp.Revision, true, ls...))
}

// until gives all segments up to a revision, once it has been seen.
func (r *recorder) until(t testing.TB, rev int64) []rebuild.Segment {
	t.Helper()
	lab.Eventually(t.(lab.T), 5*time.Minute, fmt.Sprintf("revision %d is recorded", rev), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err != nil {
			t.Fatal(r.err)
		}
		if r.rev < rev {
			return fmt.Errorf("at revision %d", r.rev)
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
	return slices.Clone(r.segs)
}

// snapshot saves a full snapshot as it comes from etcd, with its trailer.
func snapshot(t testing.TB, cli *clientv3.Client) string {
	t.Helper()
	r, err := cli.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	return path
}

// clone copies a file, since a rebuild changes it.
func clone(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
