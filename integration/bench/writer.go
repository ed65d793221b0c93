package main

import (
	"compress/gzip"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// writer puts values at a constant rate, over so many keys in turn. A put that is late counts from when it was due, so that a stall is not
// hidden by the puts that it delayed.
type writer struct {
	b        *bench
	cli      *clientv3.Client
	fill     lab.FillOptions
	revision atomic.Int64
	n        atomic.Int64
}

const (
	writerKeys    = 20_000
	writerWorkers = 100
)

func newWriter(b *bench, c *lab.Cluster) *writer {
	return &writer{b: b, cli: c.Client(b), fill: lab.FillOptions{ValueSize: valueBytes, Seed: 3}}
}

// sliceOf is what one measurement saw.
type sliceOf struct {
	seconds     float64
	latencies   []float64 // in seconds, sorted
	first, last int64
	at          map[int64]time.Time // when a revision was acknowledged
}

// run writes for so long, or until a condition holds.
func (w *writer) run(d time.Duration, until func() bool) *sliceOf {
	start := time.Now()
	s := &sliceOf{first: w.revision.Load() + 1, at: map[int64]time.Time{}}
	var done atomic.Bool
	var mu sync.Mutex
	var wg sync.WaitGroup
	var due atomic.Int64
	for range writerWorkers {
		wg.Go(func() {
			for !done.Load() {
				at := start.Add(time.Duration(due.Add(1)) * time.Second / recordRate)
				if at.Sub(start) > d {
					return
				}
				time.Sleep(time.Until(at))
				rev := w.put()
				now := time.Now()
				mu.Lock()
				s.latencies = append(s.latencies, now.Sub(at).Seconds())
				s.at[rev] = now
				mu.Unlock()
			}
		})
	}
	for until != nil && !done.Load() {
		time.Sleep(200 * time.Millisecond)
		if until() {
			done.Store(true)
		} else if time.Since(start) > d {
			w.b.Fatalf("what was awaited while writing did not happen in %v", d)
		}
	}
	wg.Wait()
	s.last, s.seconds = w.revision.Load(), time.Since(start).Seconds()
	slices.Sort(s.latencies)
	return s
}

func (w *writer) put() int64 {
	i := int(w.n.Add(1))
	resp, err := w.cli.Put(w.b.Context(), w.fill.Key(i%writerKeys), string(w.fill.Value(i)))
	if err != nil {
		w.b.Fatalf("put: %v", err)
	}
	rev := resp.Header.Revision
	for old := w.revision.Load(); old < rev && !w.revision.CompareAndSwap(old, rev); old = w.revision.Load() {
	}
	return rev
}

// p99 is the 99th percentile of the latencies, in ms.
func (s *sliceOf) p99() float64 { return 1000 * s.latencies[len(s.latencies)*99/100] }

// lags are, for each revision of the slice, the seconds until its segment was in the store.
func (s *sliceOf) lags(segs []stored) (out []float64) {
	for _, seg := range segs {
		for rev := max(seg.first, s.first); rev <= min(seg.last, s.last); rev++ {
			if at, ok := s.at[rev]; ok {
				out = append(out, seg.at.Sub(at).Seconds())
			}
		}
	}
	return out
}

// stored is the size of the segments that lie within the slice, and how many revisions they hold.
func (s *sliceOf) stored(segs []stored) (bytes, revisions int64) {
	for _, seg := range segs {
		if seg.first >= s.first && seg.last <= s.last {
			bytes, revisions = bytes+seg.size, revisions+seg.last-seg.first+1
		}
	}
	return bytes, revisions
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// gzippedJSON is how long the events of the revisions first to last are as JSON, one per line and gzipped, as tools keep them that watch with
// etcd's client.
func gzippedJSON(b *bench, c *lab.Cluster, first, last int64) int64 {
	var n counter
	z := gzip.NewWriter(&n)
	enc := json.NewEncoder(z)
	for resp := range c.Client(b).Watch(b.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(first)) {
		if err := resp.Err(); err != nil {
			b.Fatalf("watch: %v", err)
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision > last {
				continue
			}
			if err := enc.Encode(ev); err != nil {
				b.Fatalf("%v", err)
			}
		}
		if resp.Header.Revision >= last && (len(resp.Events) == 0 || resp.Events[len(resp.Events)-1].Kv.ModRevision >= last) {
			break
		}
	}
	if err := z.Close(); err != nil {
		b.Fatalf("%v", err)
	}
	return int64(n)
}
