package record

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
)

// rig is a cluster, a repository whose store can be taken away, and recorders.
type rig struct {
	t    *testing.T
	c    *lab.Cluster
	cli  *clientv3.Client
	repo *repo.Repo
	dir  string // the store's folder
	down atomic.Bool
	ids  []age.Identity
}

func newRig(t *testing.T, o lab.EtcdOptions) *rig {
	t.Helper()
	t.Parallel() // most of a test's time is waiting
	o.UnsafeNoFsync = true
	r := &rig{t: t, c: lab.StartEtcd(t, o), dir: t.TempDir()}
	r.cli = r.c.Client(t)
	st, err := store.Open(t.Context(), store.Config{URL: "file://" + r.dir})
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r.ids = []age.Identity{id}
	wrapped := faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
		if r.down.Load() {
			return faults.Dead(op, key)
		}
		return nil
	}})
	if r.repo, err = repo.Open(t.Context(), wrapped, "test"); err != nil {
		t.Fatal(err)
	}
	return r
}

// running is a recorder at work.
type running struct {
	*Recorder
	t       *testing.T
	cancel  context.CancelFunc
	done    chan error
	mu      sync.Mutex
	signals []Signal
	stored  []repo.Segment
}

// options are quick, so that tests are.
func (r *rig) options() Options {
	return Options{
		Repo: r.repo, Cluster: snapshot.Cluster{Endpoints: r.c.Endpoints()}, Recipients: []age.Recipient{r.ids[0].(*age.X25519Identity).Recipient()},
		SpoolDir: filepath.Join(r.t.TempDir(), "spool"), Host: "test", Flush: 300 * time.Millisecond,
		Progress: 200 * time.Millisecond, Stall: 3 * time.Second, MarkEvery: 300 * time.Millisecond, LeasesEvery: 300 * time.Millisecond,
		ProofEvery: -1, TurnTTL: 2 * time.Second, Log: slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

func (r *rig) start(o Options, change ...func(*Recorder)) *running {
	r.t.Helper()
	run := &running{t: r.t, done: make(chan error, 1)}
	o.Signal = func(s Signal) {
		run.mu.Lock()
		defer run.mu.Unlock()
		run.signals = append(run.signals, s)
	}
	o.Stored = func(s repo.Segment, _ time.Duration) {
		run.mu.Lock()
		defer run.mu.Unlock()
		run.stored = append(run.stored, s)
	}
	var err error
	if run.Recorder, err = New(o); err != nil {
		r.t.Fatal(err)
	}
	for _, f := range change {
		f(run.Recorder)
	}
	var ctx context.Context
	ctx, run.cancel = context.WithCancel(context.Background())
	go func() { run.done <- run.Run(ctx) }()
	r.t.Cleanup(func() { run.stop() })
	return run
}

// stop ends the recorder and returns how.
func (run *running) stop() error {
	run.cancel()
	err := <-run.done
	run.done <- err
	return err
}

// has waits for a signal of a kind.
func (run *running) has(kind SignalKind) (found Signal) {
	run.t.Helper()
	lab.Eventually(run.t, 30*time.Second, "signal "+string(kind), func() error {
		run.mu.Lock()
		defer run.mu.Unlock()
		i := slices.IndexFunc(run.signals, func(s Signal) bool { return s.Kind == kind })
		if i < 0 {
			return errors.New("there is none")
		}
		found = run.signals[i]
		return nil
	})
	return found
}

// got says how many signals of a kind came.
func (run *running) got(kind SignalKind) (n int) {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, s := range run.signals {
		if s.Kind == kind {
			n++
		}
	}
	return n
}

// waitStored waits until a revision is in the store.
func (run *running) waitStored(rev int64) {
	run.t.Helper()
	lab.Eventually(run.t, 60*time.Second, "the revision is stored", func() error {
		if s := run.Status(); s.Through < repo.Revision(rev) {
			return errors.New(string(s.State) + ": " + s.Problem + s.UploadProblem + " at " + s.Through.Hex())
		}
		return nil
	})
}

// waitState waits until the recorder does something.
func (run *running) waitState(want State) {
	run.t.Helper()
	lab.Eventually(run.t, 30*time.Second, "state "+string(want), func() error {
		if s := run.Status(); s.State != want {
			return errors.New(string(s.State) + ": " + s.Problem)
		}
		return nil
	})
}

// log is everything that the segments of a timeline say.
type log struct {
	records  map[repo.Revision][]changestest.Record
	from, to repo.Revision
	leases   map[int64]changes.Lease
	complete bool // they were called all
	proofs   []changes.Proof
	marks    []changes.TimeMark
	auth     []changes.Auth
	segments []repo.Segment
}

// read decodes every segment of the newest timeline. Where segments overlap they must agree.
func (r *rig) read(t repo.Timeline) *log {
	r.t.Helper()
	c, err := r.repo.Catalog(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if c.StrangeCount > 0 {
		r.t.Fatalf("strange objects: %v", c.Strange)
	}
	l := &log{records: map[repo.Revision][]changestest.Record{}, leases: map[int64]changes.Lease{}, segments: c.SegmentsOf(t)}
	for _, s := range l.segments {
		if l.from == 0 {
			l.from = s.First
		} else if s.First > l.to+1 {
			r.t.Fatalf("a gap before segment %s", s.Key)
		}
		l.to = max(l.to, s.Last)
		r.readSegment(l, s)
	}
	return l
}

func (r *rig) readSegment(l *log, s repo.Segment) {
	r.t.Helper()
	seg, err := changes.OpenSegment(r.t.Context(), r.repo, s, r.ids)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = seg.Close() }()
	here := map[repo.Revision][]changestest.Record{}
	for {
		rec, err := seg.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
		switch rec.Kind {
		case changes.KindEvent:
			main, _ := rec.Event.Revision()
			here[repo.Revision(main)] = append(here[repo.Revision(main)], changestest.Record{Key: string(rec.Event.Bytes()), Value: string(rec.Event.Value)})
		case changes.KindLeases:
			l.complete = l.complete || rec.Leases.Complete
			for _, x := range rec.Leases.Leases {
				l.leases[x.ID] = x
			}
		case changes.KindProof:
			l.proofs = append(l.proofs, rec.Proof)
		case changes.KindTime:
			l.marks = append(l.marks, rec.Time)
		case changes.KindAuth:
			l.auth = append(l.auth, rec.Auth)
		}
	}
	for rev, records := range here {
		if old, ok := l.records[rev]; ok && !slices.Equal(old, records) {
			r.t.Fatalf("two segments disagree on revision %d", rev)
		}
		l.records[rev] = records
	}
}

// mustEqual compares the log with what etcd's own client says of the same revisions.
func (r *rig) mustEqual(l *log, from, to int64) {
	r.t.Helper()
	want, err := changestest.Late(r.t.Context(), r.cli, from, to)
	if err != nil {
		r.t.Fatal(err)
	}
	var got []changestest.Record
	for rev := from; rev <= to; rev++ {
		if len(l.records[repo.Revision(rev)]) == 0 {
			r.t.Fatalf("revision %d is not in the log", rev)
		}
		got = append(got, l.records[repo.Revision(rev)]...)
	}
	if len(got) != len(want) {
		r.t.Fatalf("%d records from %d to %d, want %d", len(got), from, to, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			r.t.Fatalf("record %d: got %x = %x, want %x = %x", i, got[i].Key, got[i].Value, want[i].Key, want[i].Value)
		}
	}
}

// put makes n revisions and returns the last one.
func (r *rig) put(n int) (rev int64) {
	r.t.Helper()
	for range n {
		resp, err := r.cli.Put(r.t.Context(), "key", time.Now().String())
		if err != nil {
			r.t.Fatal(err)
		}
		rev = resp.Header.Revision
	}
	return rev
}

// timeline is the one that the recorder is on.
func (run *running) timeline() repo.Timeline { return run.Status().Timeline }

// emptySpool fails the test unless the spool folder is empty.
func emptySpool(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		t.Fatalf("the spool folder holds %v", files)
	}
}

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(t.Context())
}

func fill(t *testing.T, cli *clientv3.Client, prefix string, n int) {
	t.Helper()
	if err := changestest.Fill(t.Context(), cli, prefix, n, 128); err != nil {
		t.Fatal(err)
	}
}

// segmentsFrom reads the segments that begin at a revision or behind it.
func (r *rig) segmentsFrom(t repo.Timeline, from repo.Revision) *log {
	r.t.Helper()
	c, err := r.repo.Catalog(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	l := &log{records: map[repo.Revision][]changestest.Record{}, leases: map[int64]changes.Lease{}, from: from}
	for _, s := range c.SegmentsOf(t) {
		if s.First >= from {
			r.readSegment(l, s)
		}
	}
	return l
}
