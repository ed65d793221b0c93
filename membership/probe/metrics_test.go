package probe

import (
	"math"
	"strings"
	"testing"
)

const someMetrics = `# TYPE etcd_server_has_leader gauge
etcd_server_has_leader 1
# TYPE etcd_server_leader_changes_seen_total counter
etcd_server_leader_changes_seen_total 3
# TYPE etcd_server_quota_backend_bytes gauge
etcd_server_quota_backend_bytes 2.147483648e+09
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 90
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 98
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 100
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 100
etcd_disk_wal_fsync_duration_seconds_sum 0.1
etcd_disk_wal_fsync_duration_seconds_count 100
`

func TestParseMetrics(t *testing.T) {
	m := parseMetrics(strings.NewReader(someMetrics))
	if m == nil || m.LeaderChanges != 3 || m.Quota != 2<<30 || m.Fsync.Count != 100 || len(m.Fsync.Buckets) != 4 {
		t.Fatalf("got %+v", m)
	}
	if p99, ok := m.Fsync.Quantile(0.99); !ok || math.Abs(p99-0.003) > 1e-9 {
		t.Errorf("99th percentile %v, want 3 ms", p99)
	}
	if _, ok := m.Commit.Quantile(0.99); ok {
		t.Error("a percentile of nothing")
	}
	for name, text := range map[string]string{"nothing": "", "a page": "<html>", "others' metrics": "# TYPE x gauge\nx 1\n"} {
		if m := parseMetrics(strings.NewReader(text)); m != nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	// Cut off in the middle: what came before it counts.
	if m := parseMetrics(strings.NewReader(someMetrics[:len(someMetrics)-200])); m == nil || m.Quota != 2<<30 {
		t.Errorf("cut off: %+v", m)
	}
}

func TestSince(t *testing.T) {
	buckets := func(a, b uint64) Histogram {
		return Histogram{Count: a + b, Buckets: []Bucket{{0.001, a}, {1, a + b}}}
	}
	if h := buckets(100, 10).Since(buckets(90, 0)); h.Count != 20 || h.Buckets[0].Count != 10 {
		t.Errorf("got %+v", h)
	}
	for name, before := range map[string]Histogram{"nothing": {}, "started again": buckets(1000, 0), "other buckets": {Count: 1, Buckets: []Bucket{{0.5, 1}, {1, 1}}}, "less of one": {Count: 50, Buckets: []Bucket{{0.001, 0}, {1, 200}}}} {
		if h := buckets(100, 10).Since(before); h.Count != 110 {
			t.Errorf("%s: got %+v", name, h)
		}
	}
}

// FuzzMetrics: what a server may say makes no panic, and no number that is none.
func FuzzMetrics(f *testing.F) {
	f.Add(someMetrics)
	f.Add("# TYPE etcd_server_has_leader gauge\netcd_server_has_leader NaN\netcd_server_quota_backend_bytes +Inf\n")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseMetrics(strings.NewReader(text))
		if m == nil {
			return
		}
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			if v, ok := m.Fsync.Quantile(q); ok && math.IsInf(v, 0) {
				t.Errorf("quantile %v is %v of %+v", q, v, m.Fsync)
			}
		}
		if m.Quota < 0 || math.IsNaN(m.LeaderChanges) {
			t.Errorf("got %+v", m)
		}
	})
}
