package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are those of a member's metrics that say how well it is.
type Metrics struct {
	// Fsync is how long its disk took to make entries of the log durable, Commit to commit the database; both since it was started.
	Fsync, Commit Histogram
	// LeaderChanges is how often it saw another leader, since it was started.
	LeaderChanges   float64
	Quota           int64 // bytes
	DBSize, DBInUse int64
	Started         time.Time
	// Peers are the members that it has connections with, both ways or one.
	Peers map[uint64]bool
}

// Histogram counts durations by their upper bounds.
type Histogram struct {
	Count   uint64
	Buckets []Bucket // by Le, each counts all below
}

// Bucket is how many took at most Le seconds.
type Bucket struct {
	Le    float64
	Count uint64
}

// Quantile is the q-th quantile in seconds, interpolated within its bucket, as Prometheus does it. False when nothing was counted.
func (h Histogram) Quantile(q float64) (float64, bool) {
	if h.Count == 0 || len(h.Buckets) == 0 {
		return 0, false
	}
	want, below, from := q*float64(h.Count), uint64(0), 0.0
	for _, b := range h.Buckets {
		if float64(b.Count) >= want && b.Count > below {
			if math.IsInf(b.Le, 1) {
				return from, true
			}
			return from + (b.Le-from)*(want-float64(below))/float64(b.Count-below), true
		}
		if below = b.Count; !math.IsInf(b.Le, 1) {
			from = b.Le
		}
	}
	return from, true
}

// Since is what was counted after an earlier look at the same member; all of it when the member was started again since.
func (h Histogram) Since(before Histogram) Histogram {
	if before.Count > h.Count || len(before.Buckets) != len(h.Buckets) {
		return h
	}
	out := Histogram{Count: h.Count - before.Count}
	for i, b := range h.Buckets {
		if b.Le != before.Buckets[i].Le || b.Count < before.Buckets[i].Count {
			return h
		}
		out.Buckets = append(out.Buckets, Bucket{Le: b.Le, Count: b.Count - before.Buckets[i].Count})
	}
	return out
}

// read are the families that are read. All others are passed over line by line: there are hundreds, and what a page is parsed into takes many times its size.
var read = []string{
	"etcd_server_has_leader", "etcd_server_leader_changes_seen_total", "etcd_server_quota_backend_bytes", "etcd_mvcc_db_total_size_", "etcd_disk_wal_fsync_duration_seconds",
	"etcd_disk_backend_commit_duration_seconds", "etcd_network_active_peers", "process_start_time_seconds",
}

// Bounds of what is parsed.
const (
	maxLine   = 64 << 10
	maxParsed = 256 << 10
)

// only are the lines of the families that are read.
func only(r io.Reader) io.Reader {
	var out bytes.Buffer
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() && out.Len() < maxParsed {
		line := bytes.TrimPrefix(lines.Bytes(), []byte("# TYPE "))
		if slices.ContainsFunc(read, func(name string) bool { return bytes.HasPrefix(line, []byte(name)) }) {
			out.Write(lines.Bytes())
			out.WriteByte('\n')
		}
	}
	return &out
}

// parseMetrics reads etcd's /metrics. Nil when it is none.
func parseMetrics(r io.Reader) *Metrics {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, _ := parser.TextToMetricFamilies(only(r)) // what was read before an error is good
	if families["etcd_server_has_leader"] == nil && families["etcd_mvcc_db_total_size_in_bytes"] == nil {
		return nil
	}
	m := &Metrics{
		Fsync:         histogram(families["etcd_disk_wal_fsync_duration_seconds"]),
		Commit:        histogram(families["etcd_disk_backend_commit_duration_seconds"]),
		LeaderChanges: value(families["etcd_server_leader_changes_seen_total"]),
		Quota:         int64(max(value(families["etcd_server_quota_backend_bytes"]), 0)),
		DBSize:        int64(value(families["etcd_mvcc_db_total_size_in_bytes"])),
		DBInUse:       int64(value(families["etcd_mvcc_db_total_size_in_use_in_bytes"])),
	}
	for _, peer := range families["etcd_network_active_peers"].GetMetric() {
		for _, l := range peer.GetLabel() {
			if id, err := strconv.ParseUint(l.GetValue(), 16, 64); err == nil && l.GetName() == "Remote" && peer.GetGauge().GetValue() > 0 {
				if m.Peers == nil {
					m.Peers = map[uint64]bool{}
				}
				m.Peers[id] = true
			}
		}
	}
	if at := value(families["process_start_time_seconds"]); at > 0 {
		m.Started = time.UnixMilli(int64(at * 1000))
	}
	return m
}

// value is that of a family with one metric.
func value(f *dto.MetricFamily) float64 {
	if len(f.GetMetric()) == 0 {
		return 0
	}
	m := f.GetMetric()[0]
	v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue() // one of them is set
	if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > 1<<62 {
		return 0
	}
	return v
}

func histogram(f *dto.MetricFamily) (h Histogram) {
	if len(f.GetMetric()) == 0 {
		return h
	}
	m := f.GetMetric()[0].GetHistogram()
	h.Count = m.GetSampleCount()
	for _, b := range m.GetBucket() {
		h.Buckets = append(h.Buckets, Bucket{Le: b.GetUpperBound(), Count: b.GetCumulativeCount()})
	}
	slices.SortFunc(h.Buckets, func(a, b Bucket) int { return cmp.Compare(a.Le, b.Le) })
	return h
}
