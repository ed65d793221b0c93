package daemon

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"etcd-steward/internal/version"
)

// metric describes one metric; docs/METRICS.md lists the same names, and a test compares.
//
//nolint:unparam // the labels differ
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("steward_"+name, help, labels, nil)
}

// The metrics, all made from the state at the moment of a scrape.
var (
	mLastSuccess = metric("last_success_timestamp_seconds", "When the newest complete backup in the store was begun.", "cluster")
	mAge         = metric("backup_age_seconds", "Age of the newest complete backup in the store.", "cluster")
	mAgeLimit    = metric("backup_age_limit_seconds", "Age of the newest backup above which the daemon is not ready: two intervals of the schedule.", "cluster")
	mDuration    = metric("backup_duration_seconds", "How long etcd took to stream the newest backup.", "cluster")
	mBytes       = metric("backup_bytes", "Size of the newest backup: raw as etcd's database file, stored as an object.", "cluster", "kind")
	mRevision    = metric("backup_revision", "Revision of the newest backup.", "cluster")
	mKeys        = metric("backup_keys", "Live keys in the newest backup.", "cluster")
	mBackups     = metric("repository_backups", "Complete backups in the repository.", "cluster")
	mUnfinished  = metric("repository_unfinished", "Uploads in the repository without a manifest: going on, or abandoned.", "cluster")
	mRepoBytes   = metric("repository_bytes", "Size of all objects of the repository.", "cluster")
	mRepoObjects = metric("repository_objects", "Objects of the repository.", "cluster")

	mVerified         = metric("verified_timestamp_seconds", "When a backup was last verified.", "cluster", "level")
	mVerifiedRevision = metric("verified_revision", "Revision of the backup that was last verified.", "cluster")
	mVerifiedOK       = metric("verified_ok", "1 when the last verification found nothing, 0 when it found damage.", "cluster")
	mRestoreSeconds   = metric("verified_restore_seconds", "How long the last verification took to restore the backup into a scratch etcd.", "cluster")

	mJobFailures = metric("job_failures_total", "Failed attempts of a job of this daemon, by reason.", "cluster", "task", "reason")
	mJobRunning  = metric("job_running", "1 while this daemon does the job.", "cluster", "task")
	mJobSuccess  = metric("job_last_success_timestamp_seconds", "When this daemon last did the job itself.", "cluster", "task")
	mJobSeconds  = metric("job_duration_seconds", "How long the job took when this daemon last did it.", "cluster", "task")
	mJobNext     = metric("job_next_timestamp_seconds", "When the job is due next.", "cluster", "task")
	mJobDenied   = metric("job_not_allowed", "1 when the store's credentials do not allow the job.", "cluster", "task")

	mStoreUp     = metric("store_up", "1 when the store answered at the last try.", "cluster")
	mStoreErrors = metric("store_errors_total", "Errors of the store that were left after its retries, by kind.", "cluster", "kind")

	mReloadOK   = metric("config_reload_success", "1 when the config was good when it was last read, 0 when an older one is still used.")
	mReloadTime = metric("config_reload_timestamp_seconds", "When the config was last read.")
	mBuild      = metric("build_info", "Which build this is; always 1.", "version", "commit", "go", "etcd_libraries")
)

var descs = append([]*prometheus.Desc{
	mLastSuccess, mAge, mAgeLimit, mDuration, mBytes, mRevision, mKeys, mBackups, mUnfinished, mRepoBytes, mRepoObjects,
	mVerified, mVerifiedRevision, mVerifiedOK, mRestoreSeconds,
	mJobFailures, mJobRunning, mJobSuccess, mJobSeconds, mJobNext, mJobDenied, mStoreUp, mStoreErrors, mReloadOK, mReloadTime, mBuild,
}, slices.Concat(changesDescs, healthDescs)...)

// registry is the daemon's own: nothing that a library registers elsewhere appears in it.
func (s *state) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

var _ prometheus.Collector = (*state)(nil)

// Describe and Collect make the state a collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect is one scrape.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	b := version.Get()
	gauge(ch, mBuild, 1, b.Version, b.Commit, b.Go, b.Etcd)
	if r := s.reloaded(); !r.at.IsZero() {
		gauge(ch, mReloadOK, truth(r.ok))
		gauge(ch, mReloadTime, stamp(r.at))
	}
	for name, c := range s.all() {
		c.collect(ch, name)
	}
}

func (c *clusterState) collect(ch chan<- prometheus.Metric, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, n := range c.storeErrs {
		counter(ch, mStoreErrors, n, name, kind)
	}
	for job, j := range c.jobs {
		j.collect(ch, name, job)
	}
	if c.maxAge > 0 {
		gauge(ch, mAgeLimit, c.maxAge.Seconds(), name)
	}
	if c.seen || c.storeErr != nil {
		gauge(ch, mStoreUp, truth(c.storeErr == nil), name)
	}
	if c.changes != nil {
		c.changes.collect(ch, name)
	}
	if c.health != nil {
		c.health.collect(ch, name)
	}
	if !c.seen {
		return
	}
	h := c.held
	gauge(ch, mBackups, float64(h.backups), name)
	gauge(ch, mUnfinished, float64(h.unfinished), name)
	gauge(ch, mRepoBytes, float64(h.bytes), name)
	gauge(ch, mRepoObjects, float64(h.objects), name)
	if m := h.newest; m != nil {
		gauge(ch, mLastSuccess, stamp(m.ID.Time()), name)
		gauge(ch, mAge, time.Since(m.ID.Time()).Seconds(), name)
		if m.MadeFrom == nil { // etcd streamed nothing for one that was compacted
			gauge(ch, mDuration, m.Source.Seconds, name)
		}
		gauge(ch, mBytes, float64(m.Database.Size), name, "raw")
		gauge(ch, mBytes, float64(m.Object.Size), name, "stored")
		gauge(ch, mRevision, float64(m.Database.Revision), name)
		gauge(ch, mKeys, float64(m.Database.Keys), name)
	}
	if v := h.verified; v != nil {
		gauge(ch, mVerified, stamp(v.At), name, v.Level)
		gauge(ch, mVerifiedRevision, float64(h.verifiedRevision), name)
		gauge(ch, mVerifiedOK, truth(v.OK), name)
		if v.RestoreSeconds > 0 {
			gauge(ch, mRestoreSeconds, v.RestoreSeconds, name)
		}
	}
}

func (j *jobState) collect(ch chan<- prometheus.Metric, cluster, job string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for why, n := range j.failures {
		counter(ch, mJobFailures, n, cluster, job, why)
	}
	gauge(ch, mJobRunning, truth(!j.running.IsZero()), cluster, job)
	gauge(ch, mJobDenied, truth(j.notAllowed != ""), cluster, job)
	if !j.next.IsZero() {
		gauge(ch, mJobNext, stamp(j.next), cluster, job)
	}
	if !j.lastSuccess.IsZero() {
		gauge(ch, mJobSuccess, stamp(j.lastSuccess), cluster, job)
		gauge(ch, mJobSeconds, j.seconds, cluster, job)
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func stamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
