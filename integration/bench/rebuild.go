package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
)

// rebuilds measures what a moment between two snapshots costs: events applied per second onto nothing and onto a large database, a
// whole restore of a million revisions, and beside them the usual way: writing the events through etcd's client, one by one.
func (b *bench) rebuilds() {
	r := b.start()
	const small, large, whole = 1_000_000, 600_000, 1_000_000
	little := &rig{dir: r.dir, s3: r.s3, identity: r.identity, recipient: r.recipient, cluster: "little", etcd: lab.StartEtcd(b, lab.EtcdOptions{Version: "3.6"})}

	rate, mb := b.rebuild(little, "400", eventLog{keys: 100_000, valueSize: 400}, small)
	b.atLeast("rebuild: events of 400 bytes onto an empty cluster, from S3, decrypted, with fsync", 300_000, rate)
	b.limit("the same, anonymous memory", 150, "MB", mb)
	b.replay(little.etcd, median(rate))

	b.whole(little, whole)

	rate, mb = b.rebuild(r, "2gb", eventLog{keys: b.mb * 1e6 / perKey, valueSize: valueBytes}, large)
	b.atLeast(fmt.Sprintf("rebuild: events of 1 KiB onto a database of %d MB, from S3, decrypted, with fsync", b.mb), 120_000, rate)
	b.limit("the same, anonymous memory", 150, "MB", mb)
}

// rebuild gives a repository of its own a snapshot of the rig's cluster and so many events behind it, and applies them in each round.
func (b *bench) rebuild(r *rig, cluster string, l eventLog, events int64) (rates, anon []float64) {
	c := *r
	c.cluster, l.recipient = cluster, r.recipient
	base, work := filepath.Join(r.dir, cluster+".db"), filepath.Join(r.dir, cluster+".work.db")
	b.took(c.backUp())
	b.took(c.steward("backup", "export", "newest", "--identity", r.identity, "--to", base))
	last := b.recorded(&c, l, events)
	for range b.rounds {
		if err := copyFile(base, work); err != nil {
			b.Fatalf("copy the snapshot: %v", err)
		}
		o, mb := b.child(r, task{Cluster: cluster, Path: work, Target: last})
		if o.Applied != events {
			b.Fatalf("%d events were applied, want %d", o.Applied, events)
		}
		rates, anon = append(rates, float64(events)/o.Seconds), append(anon, mb)
	}
	for _, path := range []string{base, work} {
		if err := os.Remove(path); err != nil {
			b.Fatalf("clean up: %v", err)
		}
	}
	return rates, anon
}

func (r *rig) backUp() *exec.Cmd {
	return r.steward("backup", "create", "--endpoints", r.etcd.Endpoint(0), "--recipient", r.recipient)
}

// recorded makes the change log behind the repository's only snapshot; the last revision is returned.
func (b *bench) recorded(r *rig, l eventLog, events int64) int64 {
	rp, _, err := openRepo(b.Context(), r.s3.StoreConfig(), r.cluster, "")
	if err != nil {
		b.Fatalf("open the repository: %v", err)
	}
	cat, err := rp.Catalog(b.Context())
	if err != nil || len(cat.Backups()) != 1 {
		b.Fatalf("the repository has not one backup: %v", err)
	}
	snap := cat.Backups()[0]
	last := int64(snap.Revision) + events
	if err := l.put(b.Context(), rp, snap.Timeline, int64(snap.Revision)+1, last); err != nil {
		b.Fatalf("write the change log: %v", err)
	}
	return last
}

// whole times `steward restore data-dir` from a snapshot of a small cluster and the revisions behind it.
func (b *bench) whole(r *rig, events int64) {
	c := *r
	c.cluster = "whole"
	b.took(c.backUp())
	last := b.recorded(&c, eventLog{keys: 300_000, valueSize: valueBytes, recipient: r.recipient}, events)
	target := filepath.Join(r.dir, "whole")
	var took, anon []float64
	for range b.rounds {
		s, mb := b.took(c.steward("restore", "data-dir", "--to-revision", fmt.Sprint(last), "--identity", r.identity, "--data-dir", target, "--name", "default",
			"--initial-cluster", "default=http://localhost:2380", "--initial-advertise-peer-urls", "http://localhost:2380", "--yes"))
		took, anon = append(took, s), append(anon, mb)
		if err := os.RemoveAll(target); err != nil {
			b.Fatalf("clean up: %v", err)
		}
	}
	b.add(figure{
		what: fmt.Sprintf("`restore data-dir --to-revision` over %d revisions of 1 KiB, from S3, decrypted", events), target: "≤ 10 s",
		value: median(took), format: "%.1f s", ok: median(took) <= 10, detail: list(took),
	})
	b.limit("the same, anonymous memory", 150, "MB", anon)
}

// replay writes as many events as it can in a few seconds through etcd's client, one revision after the other, as tools that keep
// events and not records restore them.
func (b *bench) replay(c *lab.Cluster, ours float64) {
	cli := c.Client(b)
	fill := lab.FillOptions{ValueSize: 400}
	var n int
	start := time.Now()
	for ; time.Since(start) < 5*time.Second; n++ {
		if _, err := cli.Do(b.Context(), clientv3.OpPut(fill.Key(n), string(fill.Value(n%distinctValues)))); err != nil {
			b.Fatalf("replay: %v", err)
		}
	}
	theirs := float64(n) / time.Since(start).Seconds()
	b.add(figure{
		what: "rebuild against writing the same events through etcd's client, one after the other", target: "none", value: ours / theirs, format: "%.0f times as fast", ok: true,
		detail: fmt.Sprintf("%.0f against %.0f events/s", ours, theirs),
	})
}

// atLeast adds the median of rates, in events per second.
func (b *bench) atLeast(what string, limit float64, rates []float64) {
	v := median(rates)
	b.add(figure{what: what, target: fmt.Sprintf("≥ %.0f/s", limit), value: v, format: "%.0f/s", ok: v >= limit, detail: "median of " + integers(rates)})
}

func integers(v []float64) string {
	s := ""
	for _, x := range v {
		s += fmt.Sprintf(" %.0f", x)
	}
	return s[1:]
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
