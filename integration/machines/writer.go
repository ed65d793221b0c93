package machines

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	"etcd-steward/integration/lab"
)

// Writer writes without a break, as a client does that knows all members: what one does not acknowledge it sends to the next, within a bounded time. Each
// write is a key of its own, so that a write which was acknowledged can be looked for afterwards.
type Writer struct {
	opts   WriterOptions
	cfg    clientv3.Config
	prefix string
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	endpoints []string
	clients   map[string]*clientv3.Client // one per member: a member that is silent must not hold the others up
	report    Report
}

// WriterOptions bound what a writer does. The zero value suits a test that changes a cluster under it.
type WriterOptions struct {
	Prefix string        // of its keys; "" means "/writer/"
	Pause  time.Duration // between two writes; 0 means 5 ms
	Try    time.Duration // how long one member has for one write; 0 means 1 s
	Write  time.Duration // how long one write is tried, on all members in turn; 0 means 10 s
}

// Report is what became of the writes.
type Report struct {
	Acknowledged int
	// Failed are writes that no member took within WriterOptions.Write: those that a client notices.
	Failed int
	// Tries counts the single tries that failed, by what the member said: most are followed by one that did not.
	Tries map[string]int
	// Stall is the longest time between two acknowledgements, and StallAt when it began.
	Stall   time.Duration
	StallAt time.Time
	// Lost are acknowledged writes that are not there any more.
	Lost []string

	acked []int
}

// String is for logs.
func (r Report) String() string {
	tries := make([]string, 0, len(r.Tries))
	for _, kind := range slices.Sorted(maps.Keys(r.Tries)) {
		tries = append(tries, fmt.Sprintf("%d x %s", r.Tries[kind], kind))
	}
	return fmt.Sprintf("%d writes acknowledged, %d failed, %d lost, longest stall %v; tries that failed: %s",
		r.Acknowledged, r.Failed, len(r.Lost), r.Stall.Round(time.Millisecond), strings.Join(tries, ", "))
}

// Write starts a writer on the endpoints of cfg, and returns when its first write is acknowledged. It ends with Finish, or with the test.
func Write(t lab.T, cfg clientv3.Config, opts WriterOptions) *Writer {
	t.Helper()
	if opts.Prefix == "" {
		opts.Prefix = "/writer/"
	}
	for d, fallback := range map[*time.Duration]time.Duration{&opts.Pause: 5 * time.Millisecond, &opts.Try: time.Second, &opts.Write: 10 * time.Second} {
		if *d == 0 {
			*d = fallback
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{opts: opts, cfg: cfg, prefix: opts.Prefix, cancel: cancel, done: make(chan struct{}), clients: map[string]*clientv3.Client{}}
	w.report.Tries = map[string]int{}
	w.SetEndpoints(cfg.Endpoints...)
	first := make(chan struct{})
	go w.loop(ctx, first)
	t.Cleanup(w.stop)
	select {
	case <-first:
	case <-time.After(opts.Write + time.Second):
		t.Fatalf("the writer's first write is not acknowledged: %v", w.Report())
	}
	return w
}

// SetEndpoints says which members there are from now on.
func (w *Writer) SetEndpoints(endpoints ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endpoints = slices.Clone(endpoints)
}

// Report is how it stands. Lost is known after Finish only.
func (w *Writer) Report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	r.Tries, r.acked = maps.Clone(r.Tries), slices.Clone(r.acked)
	return r
}

// Finish ends the writer, looks for every acknowledged write through cli, and reports. A lost write fails the test; what failed or stalled is the test's to
// judge: see Report.Check.
func (w *Writer) Finish(t lab.T, cli *clientv3.Client) Report {
	t.Helper()
	w.stop()
	r := w.Report()
	have := map[string]bool{}
	for from := w.prefix; ; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		resp, err := cli.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(w.prefix)), clientv3.WithLimit(10000))
		cancel()
		if err != nil {
			t.Fatalf("look for what was written: %v", err)
		}
		for _, kv := range resp.Kvs {
			have[string(kv.Key)] = string(kv.Value) == value(string(kv.Key))
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			break
		}
	}
	for _, n := range r.acked {
		if key := w.key(n); !have[key] {
			r.Lost = append(r.Lost, key)
		}
	}
	if len(r.Lost) > 0 {
		t.Fatalf("%v: %v", r, r.Lost[:min(10, len(r.Lost))])
	}
	return r
}

// Check fails the test when a write failed, or when the cluster took none for longer than stallMax.
func (r Report) Check(t lab.T, stallMax time.Duration) {
	t.Helper()
	t.Logf("%v", r)
	if r.Failed > 0 || r.Acknowledged == 0 || r.Stall > stallMax {
		t.Fatalf("want no failed write and no stall over %v, got %v (at %s)", stallMax, r, r.StallAt.Format(time.TimeOnly))
	}
}

func (w *Writer) stop() {
	w.cancel()
	<-w.done
}

func (w *Writer) key(n int) string { return fmt.Sprintf("%s%09d", w.prefix, n) }

func value(key string) string { return "written to " + key }

func (w *Writer) loop(ctx context.Context, first chan struct{}) {
	defer close(w.done)
	defer func() {
		for _, cli := range w.clients {
			_ = cli.Close()
		}
	}()
	last := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		ok := w.write(ctx, n)
		now := time.Now()
		w.mu.Lock()
		if stall := now.Sub(last); stall > w.report.Stall && n > 0 {
			w.report.Stall, w.report.StallAt = stall, last
		}
		switch {
		case ok:
			w.report.Acknowledged++
			w.report.acked = append(w.report.acked, n)
			last = now
		case ctx.Err() == nil: // otherwise it is neither acknowledged nor failed
			w.report.Failed++
		}
		acknowledged := w.report.Acknowledged
		w.mu.Unlock()
		if ok && acknowledged == 1 {
			close(first)
		}
		select {
		case <-time.After(w.opts.Pause):
		case <-ctx.Done():
		}
	}
}

// write tries the members in turn, beginning with the one that took the last write.
func (w *Writer) write(ctx context.Context, n int) bool {
	deadline, cancel := context.WithTimeout(ctx, w.opts.Write)
	defer cancel()
	for deadline.Err() == nil {
		w.mu.Lock()
		endpoints := slices.Clone(w.endpoints)
		w.mu.Unlock()
		for i, ep := range endpoints {
			err := w.try(deadline, ep, w.key(n))
			if err == nil {
				if i > 0 {
					w.prefer(ep)
				}
				return true
			}
			if ctx.Err() != nil {
				return false
			}
			w.mu.Lock()
			w.report.Tries[kind(err)]++
			w.mu.Unlock()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline.Done():
		}
	}
	return false
}

// prefer moves an endpoint to the front.
func (w *Writer) prefer(ep string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.endpoints, ep); i > 0 {
		w.endpoints = slices.Insert(slices.Delete(w.endpoints, i, i+1), 0, ep)
	}
}

func (w *Writer) try(ctx context.Context, endpoint, key string) error {
	cli := w.clients[endpoint]
	if cli == nil {
		cfg := w.cfg
		cfg.Endpoints = []string{endpoint}
		var err error
		if cli, err = clientv3.New(cfg); err != nil {
			return err
		}
		w.clients[endpoint] = cli
	}
	ctx, cancel := context.WithTimeout(ctx, w.opts.Try)
	defer cancel()
	_, err := cli.Put(ctx, key, value(key))
	return err
}

// kind is an error without what differs each time.
func kind(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	for _, what := range []string{"dial tcp", "read tcp", "write tcp"} { // addresses and ports follow, and then why
		if i, j := strings.Index(text, what), strings.LastIndex(text, ": "); i >= 0 && j > i {
			return what + text[j:]
		}
	}
	return text
}
