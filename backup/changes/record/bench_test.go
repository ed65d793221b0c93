package record

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// BenchmarkSustained writes 1 KiB values at 5,000 a second for b.N times ten seconds, while a process of its own records, and reports that process's share of one
// core and the memory that it held at most.
func BenchmarkSustained(b *testing.B) {
	const rate, writers = 5000, 50
	t := benchT{b}
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	r := &rig{c: c, dir: b.TempDir()}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	r.ids = []age.Identity{id}
	child := r.child(t, b.TempDir(), "usual")
	time.Sleep(2 * time.Second) // it has begun to record, or the figure is too good: checked below by the segments
	var clients []*clientv3.Client
	for range 4 {
		clients = append(clients, c.Client(t))
	}
	begin, used := time.Now(), cpu(b, child.PID())
	n := b.N * 10 * rate
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for i := w; i < n; i += writers {
				if d := time.Until(begin.Add(time.Duration(i) * time.Second / rate)); d > 0 {
					time.Sleep(d)
				}
				key := fmt.Sprintf("/registry/pods/ns-%d/pod-%05d", rng.IntN(10), rng.IntN(20000))
				if _, err := clients[w%len(clients)].Put(b.Context(), key, jsonText(rng, 1024)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	seconds := time.Since(begin).Seconds()
	share := (cpu(b, child.PID()) - used).Seconds() / seconds
	b.ReportMetric(float64(n)/seconds, "writes/s")
	b.ReportMetric(100*share, "%core")
	b.ReportMetric(float64(status(b, child.PID(), "VmHWM:"))/1024, "MB-peak")
	b.ReportMetric(float64(status(b, child.PID(), "RssAnon:"))/1024, "MB-anonymous")
	time.Sleep(3 * time.Second)
	stored := folderSize(b, r.dir)
	b.ReportMetric(float64(stored)/float64(n), "bytes/write")
}

// jsonText is as Kubernetes' objects are: half of it repeats.
func jsonText(rng *rand.Rand, n int) string {
	var s strings.Builder
	for s.Len() < n {
		fmt.Fprintf(&s, `{"apiVersion":"v1","kind":"Pod","metadata":{"uid":"%016x-%016x"}},`, rng.Uint64(), rng.Uint64())
	}
	return s.String()[:n]
}

// benchT makes a lab.T of a benchmark.
type benchT struct{ *testing.B }

func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	var user, system int64
	if _, err := fmt.Sscan(fields[12], &user); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[13], &system); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100
}

func status(b *testing.B, pid int, field string) (kib int64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field)
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}

func folderSize(b *testing.B, dir string) (n int64) {
	b.Helper()
	var st syscall.Stat_t
	entries := []string{dir}
	for len(entries) > 0 {
		path := entries[0]
		entries = entries[1:]
		list, err := os.ReadDir(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range list {
			if e.IsDir() {
				entries = append(entries, path+"/"+e.Name())
			} else if err := syscall.Stat(path+"/"+e.Name(), &st); err == nil {
				n += st.Size
			}
		}
	}
	return n
}

// BenchmarkTake is the recorder's own work for one event of 1 KiB: from the message as it came to the sealed segment.
func BenchmarkTake(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	q, err := openQueue(b.TempDir(), 1<<30, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := &Recorder{o: Options{SegmentSize: 8 << 20, SpoolDir: q.dir, Recipients: []age.Recipient{id.Recipient()}, Log: slog.New(slog.DiscardHandler)}, queue: q, kick: make(chan struct{}, 1)}
	r.tail.buf = buffer{dir: q.dir, limit: int(r.o.SegmentSize) + bufferSlack}
	r.sealer = sealer{o: &r.o, queue: q}
	r.known = knowledge{located: true, timeline: repo.Timeline{Cluster: 1, Cut: 1}, version: "3.7.3"}
	if err := r.tail.restart(1); err != nil {
		b.Fatal(err)
	}
	r.tail.resume(1, fingerprint{})
	rng := rand.New(rand.NewPCG(1, 0))
	msg := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: 1 << 40}, Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{
		Key: []byte("/registry/pods/ns-1/pod-00001"), CreateRevision: 2, ModRevision: 2, Version: 1, Value: []byte(jsonText(rng, 1024)),
	}}}}
	var resp watch.Response
	wire, err := proto.Marshal(msg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(wire)))
	b.ResetTimer()
	for i := range b.N {
		b.StopTimer()
		ev := msg.Events[0].Kv
		ev.ModRevision, ev.Value = int64(i)+2, []byte(jsonText(rng, 1024))
		if wire, err = proto.Marshal(msg); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := resp.Parse(wire); err != nil {
			b.Fatal(err)
		}
		if _, err := r.take(&resp, time.Now()); err != nil {
			b.Fatal(err)
		}
		for s := q.head(); s != nil; s = q.head() {
			q.done()
		}
	}
	b.StopTimer()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapSys)/(1<<20), "MB-heap")
}
