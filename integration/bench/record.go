package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

const (
	recordRate  = 5000             // puts of 1 KiB per second
	recordSlice = 10 * time.Second // of each measurement
	recordFlush = 10 * time.Second
	recordPairs = 4 // of slices, with stewardd and without, for each round
	// Revisions of history: what a slice without stewardd writes is still there when it is started again, or a full snapshot would be measured.
	kept = 300_000
	// A segment of 8 MiB takes two seconds to fill: what is this far behind waits for its segment, and for nothing else.
	liveRevisions = 3 * recordRate
	// stewardd runs as its unit has it run (CPUSchedulingPolicy=batch, Nice=5); the S3 server, which would be another machine, gives way to all that
	// would be on a master, and has a disk of its own: memory.
	daemonNice, storeNice = 5, 15
)

// records measures what recording costs, at a constant rate of writes: for etcd's clients (the latency of a put while stewardd records,
// against the latency while it does not, in turn), for the host, and for the store. Each round has a repository of its own. Whether a pair of slices begins
// with stewardd or without alternates; before each slice with it, it has caught up with what was written while it did not run.
func (b *bench) records() {
	r := b.startRecording()
	w := newWriter(b, r.etcd)
	w.run(r.slice, nil) // warm

	var with, without, cpu, anon, lags []float64
	var stored, written, first, last int64
	for i := range b.rounds {
		r.begin(b, w, fmt.Sprint("recorded", i))
		for k := range recordPairs {
			if k%2 == 0 {
				without = append(without, w.run(r.slice, nil).p99())
			}
			d := r.resume(b, w)
			before := cpuOf(b, d.PID())
			stop, peak := make(chan struct{}), make(chan float64)
			go func() { peak <- watchAnon(d.PID(), stop) }()
			s := w.run(r.slice, nil)
			cpu = append(cpu, 100*(cpuOf(b, d.PID())-before)/s.seconds)
			r.settle(b, s.last)
			close(stop)
			anon = append(anon, <-peak)
			d.Stop()
			with = append(with, s.p99())
			segs := r.segments(b)
			lags = append(lags, s.lags(segs)...)
			bytes, revisions := s.stored(segs)
			stored, written = stored+bytes, written+revisions*int64(valueBytes+len(w.fill.Key(0)))
			first, last = max(s.first, s.last-kept/2), s.last // what etcd has not compacted yet
			if k%2 == 1 {
				without = append(without, w.run(r.slice, nil).p99())
			}
		}
	}
	b.ratioIn("ms", "etcd's put latency, 99th percentile, while stewardd records 5,000 writes/s of 1 KiB, against without", 1.05, "with", with, "without", without)
	b.limit("stewardd while recording that, of one core", 25, "%", cpu)
	b.limit("the same, anonymous memory", 100, "MB", anon)
	slices.Sort(lags)
	lag := lags[len(lags)*99/100]
	limit := (recordFlush + 2*time.Second).Seconds()
	b.add(figure{
		what: "from a write to its segment in the store, 99th percentile, flush 10 s", target: fmt.Sprintf("≤ %.0f s", limit), value: lag, format: "%.1f s", ok: lag <= limit,
		detail: fmt.Sprintf("median %.1f, highest %.1f s of %d revisions", lags[len(lags)/2], lags[len(lags)-1], len(lags)),
	})
	json := float64(gzippedJSON(b, r.etcd, first, last))
	perMB := float64(stored) / float64(written)
	theirs := json / float64((last-first+1)*int64(valueBytes+len(w.fill.Key(0))))
	b.add(figure{
		what: "bytes stored per byte written, against gzip of the same events as JSON", target: "none", value: perMB / theirs, format: "%.2f", ok: true,
		detail: fmt.Sprintf("%.0f kB against %.0f kB per MB of keys and values", 1000*perMB, 1000*theirs),
	})
}

// recordRig is a member that syncs, as a master's does, and a daemon's configuration.
type recordRig struct {
	*rig
	slice time.Duration
}

func (b *bench) startRecording() *recordRig {
	memory, err := os.MkdirTemp("/dev/shm", "steward-bench-")
	if err != nil {
		b.Fatalf("a folder for the store: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(memory) })
	base := &rig{dir: b.TempDir(), s3: lab.StartS3(b, lab.S3Options{Dir: memory})}
	base.etcd = lab.StartEtcd(b, lab.EtcdOptions{Version: "3.6", ExtraArgs: []string{"--quota-backend-bytes=34359738368", "--auto-compaction-mode=revision", fmt.Sprintf("--auto-compaction-retention=%d", kept)}})
	yields(b, base.s3.Proc.PID(), unix.SCHED_NORMAL, storeNice)
	base.newIdentity(b)
	return &recordRig{rig: base, slice: recordSlice}
}

// begin makes a new repository, and runs stewardd, and the writes at their rate, until the full snapshot that a new log needs is in the store.
func (r *recordRig) begin(b *bench, w *writer, cluster string) {
	r.cluster = cluster
	st := r.s3.StoreConfig().S3
	err := os.WriteFile(r.config(), fmt.Appendf(nil, `store: %s
s3: {endpoint: %q, ca_file: %s, path_style: true}
encryption: {recipients: [%s]}
listen: 127.0.0.1:0
clusters:
  - name: %s
    endpoints: [%s]
    snapshot: {schedule: "0 0 1 1 *"}
    verify: {schedule: never, deep: never}
    changes: {flush: %s}
`, r.s3.URL(), st.Endpoint, st.CAFile, r.recipient, r.cluster, r.etcd.Endpoint(0), recordFlush), 0o600)
	if err != nil {
		b.Fatalf("%v", err)
	}
	d := r.startDaemon(b)
	backups := filepath.Join(r.objects(), "*", "snapshots", "*", "*.json")
	w.run(3*time.Minute, func() bool {
		found, err := filepath.Glob(backups)
		return err == nil && len(found) > 0
	})
	d.Stop()
}

// resume starts stewardd again and goes on writing until it records what is written now: a watch that is behind costs etcd more than one that is not, for
// as long as it is behind, and that is not what is measured.
func (r *recordRig) resume(b *bench, w *writer) *lab.Process {
	d := r.startDaemon(b)
	rev := w.revision.Load()
	w.run(3*time.Minute, func() bool {
		at := r.through(b)
		return at > rev && w.revision.Load()-at < liveRevisions
	})
	w.run(r.slice/2, nil) // the rest of what it was behind
	return d
}

func (r *recordRig) config() string { return filepath.Join(r.dir, r.cluster+".yaml") }

func (r *recordRig) startDaemon(b *bench) *lab.Process {
	cmd := exec.Command(filepath.Join(lab.Root(), "bin", "stewardd"), "--config", r.config())
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+r.s3.Access, "AWS_SECRET_ACCESS_KEY="+r.s3.Secret, "STATE_DIRECTORY="+filepath.Join(r.dir, r.cluster))
	d := lab.Start(b, "stewardd", cmd)
	yields(b, d.PID(), unix.SCHED_BATCH, daemonNice)
	return d
}

// yields gives a process and all its threads a policy and a niceness; threads that they start have the same.
func yields(b *bench, pid, policy, nice int) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) == 0 {
		b.Fatalf("threads of %d: %v", pid, err)
	}
	for _, t := range threads {
		id, _ := strconv.Atoi(filepath.Base(t))
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(policy), Nice: int32(nice)}
		if err := unix.SchedSetAttr(id, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			b.Fatalf("scheduling of %d: %v", pid, err)
		}
	}
}

// objects is the repository's folder in the S3 server's.
func (r *recordRig) objects() string { return filepath.Join(r.s3.Dir, r.s3.Bucket, "lab", r.cluster) }

// settle waits until a revision is in the store.
func (r *recordRig) settle(b *bench, rev int64) {
	lab.Eventually(b, time.Minute, "what was written is in the store", func() error {
		if at := r.through(b); at < rev {
			return fmt.Errorf("at %d of %d", at, rev)
		}
		return nil
	})
}

// stored is a segment in the S3 server's folder.
type stored struct {
	first, last int64
	size        int64
	at          time.Time
}

func (r *recordRig) segments(b *bench) (out []stored) {
	found, err := filepath.Glob(filepath.Join(r.objects(), "*", "changes", "*", "*"))
	if err != nil {
		b.Fatalf("%v", err)
	}
	for _, path := range found {
		st, err := os.Stat(path)
		fields := strings.Split(filepath.Base(path), "-")
		if err != nil || len(fields) < 3 {
			continue
		}
		a, _ := strconv.ParseInt(fields[0], 16, 64)
		z, _ := strconv.ParseInt(fields[1], 16, 64)
		out = append(out, stored{a, z, st.Size(), st.ModTime()})
	}
	return out
}

// through is the last revision of the segments in the store.
func (r *recordRig) through(b *bench) (last int64) {
	for _, s := range r.segments(b) {
		last = max(last, s.last)
	}
	return last
}

// cpuOf is the CPU time that a process has used, in seconds (proc(5): stat, utime and stime in ticks of 10 ms).
func cpuOf(b *bench, pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatalf("%v", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	u, _ := strconv.ParseFloat(f[11], 64)
	s, _ := strconv.ParseFloat(f[12], 64)
	return (u + s) / 100
}
