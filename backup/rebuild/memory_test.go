package rebuild_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// TestMemory: the heap does not grow with a segment or a transaction: here one transaction is one segment of 100 MB.
func TestMemory(t *testing.T) {
	const events, size, limit = 100_000, 1000, 100 << 20
	value := bytes.Repeat([]byte("v"), size)
	path := filepath.Join(t.TempDir(), "segment")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := changes.NewSealWriter(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := changes.NewEncoder(w, changes.Header{
		ClusterID: timeline.Cluster, Timeline: timeline, First: 2, Last: 2, Events: events, EtcdVersion: "3.6.16", Host: "h", Steward: "s", Created: time.Unix(1, 0).UTC(),
	})
	for i := int64(0); i < events && err == nil; i++ {
		var ev changes.Event
		ev.SetRevision(2, i, false)
		key := []byte{byte(i >> 16), byte(i >> 8), byte(i), 'k'}
		ev.Value = changes.AppendKeyValue(nil, changes.KeyValue{Key: key, CreateRevision: 2, ModRevision: 2, Version: 1, Value: value})
		err = enc.Event(&ev)
	}
	if err == nil {
		err = enc.Close()
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	seg := repo.Segment{Timeline: timeline, First: 2, Last: 2}
	open := func(context.Context) (rebuild.Records, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return changes.NewSegment(f, seg, nil)
	}
	db := newHistory().file(t, 1, 0)
	high := heapPeak()
	res, err := rebuild.To(t.Context(), rebuild.Options{Path: db, Target: 2, Segments: []rebuild.Segment{{Name: "large", First: 2, Last: revision.Revision(2), Open: open}}})
	if got := high(); err != nil || res.Applied != events || got > limit {
		t.Fatalf("%+v, %v: %d MB of heap, want at most %d", res, err, got>>20, limit>>20)
	} else {
		t.Logf("%d MB of heap", got>>20)
	}
}

// heapPeak watches the heap until the returned function is called, which gives the most that was seen.
func heapPeak() func() uint64 {
	runtime.GC()
	var most uint64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() uint64 { close(stop); wg.Wait(); return most }
}
