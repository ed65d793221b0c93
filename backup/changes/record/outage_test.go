package record

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// TestStoreDown: what was recorded while the store was away is on disk, outlives the process, and gets into the store afterwards.
func TestStoreDown(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	first := run.has(SignalFirst)
	run.waitStored(r.put(20))

	r.down.Store(true)
	r.put(50)
	lab.Eventually(t, 20*time.Second, "segments are spooled", func() error {
		files, err := os.ReadDir(o.SpoolDir)
		if err == nil && len(files) == 0 {
			err = errors.New("the folder is empty")
		}
		return err
	})
	before := run.Status()
	if before.UploadFailures == 0 || before.UploadProblem == "" || before.Waiting == 0 {
		t.Fatalf("status %+v does not show the outage", before)
	}
	_ = run.stop()

	// Another process begins while the store is still away: it goes on where the spool ends.
	last := r.put(50)
	run = r.start(o)
	run.waitState(Recording)
	last = max(last, r.put(50))
	lab.Eventually(t, 20*time.Second, "everything is received", func() error {
		if s := run.Status(); s.Received < repo.Revision(last) {
			return errors.New(s.Received.Hex())
		}
		return nil
	})
	r.down.Store(false)
	run.waitStored(last)
	_ = run.stop()
	emptySpool(t, o.SpoolDir)
	if n := run.got(SignalGap); n != 0 {
		t.Fatalf("%d gaps", n)
	}
	l := r.read(run.timeline())
	if l.from != first.To+1 {
		t.Fatalf("the log begins at %d, want %d", l.from, first.To+1)
	}
	r.mustEqual(l, int64(l.from), last)
}

// TestSpoolFull: with the spool full the watch is not read, and nothing grows; afterwards the log is whole.
func TestSpoolFull(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	o.SpoolMax, o.SegmentSize = 100<<10, 20<<10
	run := r.start(o)
	first := run.has(SignalFirst)
	r.down.Store(true)
	rng := rand.New(rand.NewPCG(lab.Seed(t), 0))
	var last int64
	for range 3000 {
		resp, err := r.cli.Put(t.Context(), "key", randomText(rng, 2000))
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	run.waitState(Full)
	run.has(SignalFull)
	// A segment ends with the response that filled it, and one that was waited for can be as large as etcd makes them.
	const response = 2 << 20
	if s := run.Status(); s.WaitingBytes > o.SpoolMax+o.SegmentSize+response || s.Received >= repo.Revision(last) {
		t.Fatalf("status %+v: more was read than there is room for", s)
	}
	r.down.Store(false)
	run.waitStored(last)
	r.mustEqual(r.read(run.timeline()), int64(first.To)+1, last)
	if n := run.got(SignalGap); n != 0 {
		t.Fatalf("%d gaps", n)
	}
}

// randomText does not compress much.
func randomText(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('!' + rng.IntN(90))
	}
	return string(b)
}

// TestCompactedMeanwhile: history that was compacted before it was read is a gap, a demand for a full snapshot, and never silence.
func TestCompactedMeanwhile(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	held := r.put(10)
	run.waitStored(held)
	_ = run.stop()

	lost := r.put(30)
	if _, err := r.cli.Compact(t.Context(), lost-5); err != nil {
		t.Fatal(err)
	}
	run = r.start(o)
	gap := run.has(SignalGap)
	if !gap.NeedFull || gap.From != repo.Revision(held+1) || gap.To < repo.Revision(lost) {
		t.Fatalf("got %+v, want a gap from %d to %d that needs a full snapshot", gap, held+1, lost)
	}
	last := r.put(10)
	run.waitStored(last)
	_ = run.stop()
	c, err := r.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	segs := c.SegmentsOf(run.timeline())
	if got := segs[len(segs)-1]; got.Last != repo.Revision(last) {
		t.Fatalf("the last segment is %+v", got)
	}
	rec, ok, err := r.repo.Recorded(t.Context(), run.timeline())
	if err != nil || !ok || len(rec.Gaps) != 1 || rec.Gaps[0].From != gap.From || rec.Gaps[0].To != gap.To || rec.Highest < repo.Revision(last) {
		t.Fatalf("the mark says %+v (%v)", rec, err)
	}
}

// TestGapIsNotWidened: a recorder that begins when a gap is noted, with no segment behind it yet, goes on behind the gap.
func TestGapIsNotWidened(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	run.waitStored(r.put(10))
	_ = run.stop()
	lost := r.put(30)
	if _, err := r.cli.Compact(t.Context(), lost-5); err != nil {
		t.Fatal(err)
	}
	run = r.start(o)
	gap := run.has(SignalGap)
	_ = run.stop()
	r.put(5)
	run = r.start(o)
	if s := run.has(SignalFirst); !s.NeedFull || s.To != gap.To {
		t.Fatalf("got %+v, want a full snapshot of %d or later", s, gap.To)
	}
	last := r.put(5)
	run.waitStored(last)
	_ = run.stop()
	rec, _, err := r.repo.Recorded(t.Context(), run.timeline())
	if err != nil || run.got(SignalGap) != 0 || len(rec.Gaps) != 1 || rec.Gaps[0].From != gap.From || rec.Gaps[0].To != gap.To {
		t.Fatalf("%d gaps, the mark says %+v (%v)", run.got(SignalGap), rec, err)
	}
	r.mustEqual(r.segmentsFrom(run.timeline(), gap.To+1), int64(gap.To)+1, last)
}

// TestCompactedAtTheEnd: a compaction that took no more than what was recorded is no gap, but what cannot be compared is said.
func TestCompactedAtTheEnd(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	first := run.has(SignalFirst)
	held := r.put(10)
	run.waitStored(held)
	_ = run.stop()
	want, to := held+1, r.put(3)
	if _, err := r.cli.Compact(t.Context(), held+1); err != nil {
		t.Fatal(err)
	}
	run = r.start(o)
	run.has(SignalUnproven)
	last := r.put(3)
	run.waitStored(last)
	_ = run.stop()
	l := r.read(run.timeline())
	if l.from != first.To+1 || l.to != repo.Revision(last) || run.got(SignalGap) != 0 || len(l.records[repo.Revision(want)]) != 1 || len(l.records[repo.Revision(to)]) != 1 {
		t.Fatalf("log %d to %d, %d gaps", l.from, l.to, run.got(SignalGap))
	}
}

// TestIdle: while nothing changes nothing is written but the mark, and the mark says that the recorder lives.
func TestIdle(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	run := r.start(r.options())
	rev := r.put(3)
	run.waitStored(rev)
	mark := func() repo.Recorded {
		rec, _, err := r.repo.Recorded(t.Context(), run.timeline())
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	segments := run.Status().Segments
	begin := time.Now()
	lab.Eventually(t, 20*time.Second, "the mark moves on", func() error {
		if rec := mark(); rec.Through != repo.Revision(rev) || !rec.Time.After(begin.Add(2*time.Second)) {
			return errors.New(rec.Time.String())
		}
		return nil
	})
	s := run.Status()
	if s.Segments != segments || s.Reconnects != 0 || s.State != Recording || time.Since(s.ThroughTime) > 5*time.Second {
		t.Fatalf("status %+v after idling, %d segments before", s, segments)
	}
	// The next segment says how long nothing had happened.
	run.waitStored(r.put(1))
	_ = run.stop()
	l := r.read(run.timeline())
	for _, m := range l.marks {
		if m.Revision == repo.Revision(rev) && m.Time.After(begin.Add(time.Second)) {
			return
		}
	}
	t.Fatalf("marks %v do not tell of the idle time after revision %d", l.marks, rev)
}

// TestTwo: two recorders at once, as when the store cannot say whose turn it is, overlap and do not disagree.
func TestTwo(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	a := r.start(r.options())
	first := a.has(SignalFirst)
	a.waitStored(r.put(5))
	b := r.options()
	b.TurnTTL = time.Millisecond // it never waits for its turn
	second, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := contextWithCancel(t)
	defer cancel()
	wg.Go(func() { _ = second.record(ctx) })
	wg.Go(func() { second.upload(ctx) })
	lab.Eventually(t, 20*time.Second, "the second records", func() error {
		if s := second.Status(); s.State != Recording {
			return errors.New(string(s.State))
		}
		return nil
	})
	for range 5 {
		a.waitStored(r.put(20))
	}
	last := r.put(1)
	a.waitStored(last)
	lab.Eventually(t, 20*time.Second, "the second has stored", func() error {
		if s := second.Status(); s.Stored < repo.Revision(last) {
			return errors.New(s.Stored.Hex())
		}
		return nil
	})
	l := r.read(a.timeline())
	hosts := 0
	for i, s := range l.segments[1:] {
		if s.First <= l.segments[i].Last {
			hosts++
		}
	}
	if hosts == 0 {
		t.Fatal("no segments overlap")
	}
	r.mustEqual(l, int64(first.To)+1, last)
}

// TestHandover: of two recorders one waits; when the other ends, it goes on without a gap.
func TestHandover(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	a := r.start(r.options())
	first := a.has(SignalFirst)
	b := r.start(r.options())
	b.waitState(Standby)
	a.waitStored(r.put(20))
	_ = a.stop()
	r.put(20)
	b.waitState(Recording)
	last := r.put(20)
	b.waitStored(last)
	r.mustEqual(r.read(b.timeline()), int64(first.To)+1, last)
	if b.got(SignalGap) != 0 || b.got(SignalUnproven) != 0 {
		t.Fatalf("signals %+v", b.signals)
	}
}

// TestLarge: a transaction larger than memory may hold goes through a file, in fragments, and is whole.
func TestLarge(t *testing.T) {
	for name, whole := range map[string]int{"whole messages": wholeMax, "fragments": 1 << 20} {
		t.Run(name, func(t *testing.T) { testLarge(t, whole) })
	}
}

func testLarge(t *testing.T, whole int) {
	r := newRig(t, lab.EtcdOptions{ExtraArgs: []string{"--max-request-bytes", "3500000"}})
	o := r.options()
	o.SegmentSize = 64 << 10
	run := r.start(o, func(rec *Recorder) { rec.whole, rec.tail.buf.limit = whole, 128<<10 })
	first := run.has(SignalFirst)
	const n = 12000
	prefix := "/large/" + strings.Repeat("prefix", 40) + "/"
	fill(t, r.cli, prefix, n)
	if _, err := r.cli.Put(t.Context(), "value", strings.Repeat("0123456789abcdef", 1<<17)); err == nil {
		t.Fatal("etcd's client sends more than 2 MiB: the test knows a limit that is gone")
	}
	big, err := clientv3.New(clientv3.Config{Endpoints: r.c.Endpoints(), MaxCallSendMsgSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = big.Close() }()
	if _, err := big.Put(t.Context(), "value", strings.Repeat("0123456789abcdef", 3<<16)); err != nil {
		t.Fatal(err)
	}
	resp, err := r.cli.Delete(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil || resp.Deleted != n {
		t.Fatalf("deleted %d: %v", resp.Deleted, err)
	}
	last := r.put(1)
	run.waitStored(last)
	l := r.read(run.timeline())
	if got := len(l.records[repo.Revision(resp.Header.Revision)]); got != n {
		t.Fatalf("%d tombstones, want %d", got, n)
	}
	r.mustEqual(l, int64(first.To)+1, last)
}

// TestFarBehind: what a watch could give only at the member's expense is left to a full snapshot; if there is one already, the log goes on behind it.
func TestFarBehind(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.has(SignalFirst)
	held := r.put(5)
	run.waitStored(held)
	_ = run.stop()
	r.put(60)
	o.CatchUpMax = 50
	run = r.start(o)
	gap := run.has(SignalGap)
	if !gap.NeedFull || gap.From != repo.Revision(held+1) || gap.To < repo.Revision(held+60) {
		t.Fatalf("got %+v", gap)
	}
	last := r.put(5)
	run.waitStored(last)
	l := r.segmentsFrom(run.timeline(), gap.To+1)
	r.mustEqual(l, int64(gap.To)+1, last)
}

// TestInUse: two recorders never share a spool folder; the second one can begin when the first has ended.
func TestInUse(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	o := r.options()
	run := r.start(o)
	run.waitStored(r.put(3))
	if _, err := New(o); !errors.Is(err, ErrInUse) {
		t.Fatalf("a second recorder: %v, want ErrInUse", err)
	}
	_ = run.stop()
	run = r.start(o)
	run.waitStored(r.put(3))
}
