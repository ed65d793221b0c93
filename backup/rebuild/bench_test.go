package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

// bulk is a log of one put per revision, over so many keys in turn.
type bulk struct {
	keys, valueSize int
	id              *age.X25519Identity
}

func (k bulk) put(ev *changes.Event, fill lab.FillOptions, values [][]byte, rev int64) {
	i := int(rev) % k.keys
	n := 1 + (rev-2)/int64(k.keys)
	ev.SetRevision(rev, 0, false)
	ev.Value = changes.AppendKeyValue(ev.Value[:0], changes.KeyValue{
		Key: []byte(fill.Key(i)), CreateRevision: max(1, rev-(n-1)*int64(k.keys)), ModRevision: rev, Version: n, Value: values[int(rev)%len(values)],
	})
}

// segments writes the revisions first to last as encrypted segments of about 8 MiB, which are opened from files.
func (k bulk) segments(tb testing.TB, first, last int64) (segs []rebuild.Segment) {
	tb.Helper()
	fill := lab.FillOptions{ValueSize: k.valueSize}
	values := make([][]byte, 4096)
	for i := range values {
		values[i] = fill.Value(i)
	}
	per := int64(8<<20/(k.valueSize+80)) + 1
	dir := tb.TempDir()
	var ev changes.Event
	for ; first <= last; first += per {
		end := min(first+per-1, last)
		var buf bytes.Buffer
		w, err := changes.NewSealWriter(&buf, []age.Recipient{k.id.Recipient()})
		if err != nil {
			tb.Fatal(err)
		}
		enc, err := changes.NewEncoder(w, changes.Header{
			ClusterID: timeline.Cluster, Timeline: timeline, First: revision.Revision(first), Last: revision.Revision(end),
			Events: end - first + 1, EtcdVersion: "3.6.16", Host: "h", Steward: "s", Created: time.Unix(1, 0).UTC(),
		})
		for rev := first; rev <= end && err == nil; rev++ {
			k.put(&ev, fill, values, rev)
			err = enc.Event(&ev)
		}
		if err == nil {
			err = enc.Close()
		}
		if err == nil {
			err = w.Close()
		}
		path := filepath.Join(dir, fmt.Sprint(first))
		if err == nil {
			err = os.WriteFile(path, buf.Bytes(), 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
		seg := repo.Segment{Timeline: timeline, First: revision.Revision(first), Last: revision.Revision(end), Encrypted: true}
		segs = append(segs, rebuild.Segment{Name: path, First: seg.First, Last: seg.Last, Open: func(context.Context) (rebuild.Records, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return changes.NewSegment(f, seg, []age.Identity{k.id})
		}})
	}
	return segs
}

// peak samples the process's anonymous memory until it is asked for the highest value, in MB above what it began with.
func peak() func() float64 {
	debug.FreeOSMemory()
	start, most := rssAnon(), 0.0
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				most = max(most, rssAnon())
			}
		}
	})
	return func() float64 { close(stop); wg.Wait(); return max(most, start) }
}

// cpuSeconds is what the process has used so far: on a busy machine it says more than the time.
func cpuSeconds() float64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

func rssAnon() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	rest, _, _ = strings.Cut(rest, " kB")
	n, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
	return n / 1024
}

func copyFile(tb testing.TB, from string) string {
	tb.Helper()
	in, err := os.Open(from)
	if err != nil {
		tb.Fatal(err)
	}
	defer in.Close()
	to := filepath.Join(tb.TempDir(), "db")
	out, err := os.Create(to)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		tb.Fatal(err)
	}
	out.Close()
	return to
}

// BenchmarkTo measures a rebuild end to end from files: decryption, decompression, checks, writing, one fsync.
//
//	go test -run - -bench To -benchtime 1x ./backup/rebuild
func BenchmarkTo(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		base, size     int64 // records in the snapshot
		events, values int
		keys           int
	}{
		{"400B onto nothing", 0, 0, 600_000, 400, 100_000},
		{"1KiB onto 2GB", 1_600_000, 1024, 1_000_000, 1024, 700_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			snap := newHistory().file(b, 1, 0)
			last := int64(1)
			if c.base > 0 {
				last += c.base
				k := bulk{keys: c.keys, valueSize: int(c.size), id: id}
				if _, err := rebuild.To(b.Context(), rebuild.Options{Path: snap, Target: revision.Revision(last), Segments: k.segments(b, 2, last)}); err != nil {
					b.Fatal(err)
				}
			}
			k := bulk{keys: c.keys, valueSize: c.values, id: id}
			segs := k.segments(b, last+1, last+int64(c.events))
			st, _ := os.Stat(snap)
			var took time.Duration
			var used, anon float64
			for b.Loop() {
				b.StopTimer()
				path := copyFile(b, snap)
				mem := peak()
				b.StartTimer()
				start, cpu := time.Now(), cpuSeconds()
				if _, err := rebuild.To(b.Context(), rebuild.Options{Path: path, Target: revision.Revision(last + int64(c.events)), Segments: segs}); err != nil {
					b.Fatal(err)
				}
				took, used, anon = took+time.Since(start), used+cpuSeconds()-cpu, max(anon, mem())
				b.StopTimer()
				_ = os.Remove(path)
				b.StartTimer()
			}
			b.ReportMetric(float64(c.events)*float64(b.N)/took.Seconds(), "events/s")
			b.ReportMetric(used/float64(b.N), "cpu-s")
			b.ReportMetric(anon, "anon-MB")
			b.ReportMetric(float64(st.Size())/1e6, "snapshot-MB")
		})
	}
}
