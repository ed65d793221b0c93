package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/version"
)

// Limits of one attempt. A snapshot that moves no byte is given up much earlier, by its stall timeout.
const (
	snapshotLimit = 6 * time.Hour
	pruneLimit    = 2 * time.Hour
	verifyLimit   = 12 * time.Hour
	otherRetries  = 3 // of prune and verify: their next tick is soon enough
)

// jobs are those of the cluster's schedules that are not switched off.
func (c *cluster) jobs() []job {
	at := c.cfg.Schedules()
	jitter := time.Duration(c.cfg.Snapshot.Jitter)
	// Daemons that can decrypt check more than those that cannot, so these do not take the others' ticks.
	check := "verify-bytes"
	if c.canOpen() {
		check = "verify-database"
	}
	var due []job
	for _, j := range []job{
		{name: "snapshot", schedule: at.Snapshot, retries: c.cfg.Snapshot.Retries, limit: snapshotLimit, done: c.streamedSince, run: c.snapshot, demands: c.state.demands, met: c.met, first: c.waitsFor()},
		{name: "compact", schedule: at.Compact, retries: otherRetries, limit: verifyLimit, run: c.compact},
		{name: "prune", schedule: at.Prune, retries: otherRetries, limit: pruneLimit, run: c.prune},
		{name: check, schedule: at.Verify, retries: otherRetries, limit: verifyLimit, run: func(ctx context.Context) error { return c.verify(ctx, nil) }},
		{name: "verify-deep", schedule: at.Deep, retries: otherRetries, limit: verifyLimit, run: func(ctx context.Context) error { return c.verify(ctx, c.boot) }},
	} {
		if j.jitter = jitter; !j.schedule.IsNever() {
			due = append(due, j)
		}
	}
	return due
}

// waitsFor is what the first snapshot waits for: a recorder that begins, if there is one.
func (c *cluster) waitsFor() <-chan struct{} {
	if c.changes == nil {
		return nil
	}
	return c.begun
}

// canOpen says whether this daemon can read what it checks.
func (c *cluster) canOpen() bool { return len(c.identities) > 0 || c.unencrypted }

// snapshot takes one backup.
func (c *cluster) snapshot(ctx context.Context) error {
	c.log.Info("taking a backup", "job", "snapshot")
	m, err := backup.Create(ctx, backup.CreateOptions{
		Repo: c.repo, Cluster: c.etcd, Unencrypted: c.unencrypted, Host: c.host, Program: version.Get().Version,
		Progress: stages(c.log.With("job", "snapshot")),
		Spool:    snapshot.SpoolOptions{Dir: c.spool, Recipients: c.recipients, StallTimeout: time.Duration(c.cfg.Snapshot.StallTimeout)},
		Chosen: func(m snapshot.Member) {
			c.log.Info("streaming", "job", "snapshot", "member", m.Name, "endpoint", m.Endpoint, "note", m.Note)
		},
	})
	if err != nil {
		return &etcdError{err} // unless it is the store's, the disk's and so on, as reason finds out first
	}
	c.log.Info("backup done", "job", "snapshot", "id", m.ID, "revision", m.Database.Revision, "keys", m.Database.Keys,
		"bytes", m.Database.Size, "stored", m.Object.Size, "member", m.Source.MemberName, "stream_seconds", m.Source.Seconds)
	return nil
}

// compact makes a full snapshot from the newest one and the change log.
func (c *cluster) compact(ctx context.Context) error {
	if some, err := c.since(ctx, time.Time{}); err != nil || !some {
		return err // nothing was backed up yet
	}
	out, err := backup.Compact(ctx, backup.CompactOptions{
		Repo: c.repo, Identities: c.identities, Recipients: c.recipients, Unencrypted: c.unencrypted, Scratch: filepath.Join(c.spool, "scratch"),
		Host: c.host, Program: version.Get().Version, Progress: stages(c.log.With("job", "compact")),
	})
	if errors.Is(err, store.Denied) {
		return fmt.Errorf("%w: %w", errNotAllowed, err)
	}
	if err != nil {
		return err
	}
	if out.Nothing != "" {
		c.log.Info("nothing to compact", "job", "compact", "why", out.Nothing)
		return nil
	}
	m := out.Backup
	c.log.Info("compacted", "job", "compact", "id", m.ID, "revision", m.Database.Revision, "from", out.From, "from_revision", out.FromRevision,
		"segments", out.Segments, "stored", m.Object.Size, "seconds", m.MadeFrom.Seconds, "proven_by_member", m.MadeFrom.Proof != nil)
	for _, n := range out.Notes {
		c.log.Info("note", "job", "compact", "id", m.ID, "text", n)
	}
	return nil
}

// stages logs when a stage of work begins and when it is done, for whoever looks closely.
func stages(log *slog.Logger) backup.Progress {
	var mu sync.Mutex
	begun, ended := map[string]bool{}, map[string]bool{}
	return func(stage string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if !begun[stage] {
			begun[stage] = true
			log.Debug("stage begins", "stage", stage, "total", total)
		}
		if done == total && total > 0 && !ended[stage] {
			ended[stage] = true
			log.Debug("stage ends", "stage", stage, "total", total)
		}
	}
}

// prune removes what retention does not keep.
func (c *cluster) prune(ctx context.Context) error {
	if some, err := c.since(ctx, time.Time{}); err != nil || !some {
		return err // nothing was backed up yet
	}
	res, err := backup.Prune(ctx, backup.PruneOptions{Repo: c.repo, Policy: c.cfg.Policy(), Location: c.cfg.Location(), Host: c.host})
	if errors.Is(err, store.Denied) {
		return fmt.Errorf("%w: %w", errNotAllowed, err)
	}
	if err != nil {
		return err
	}
	c.log.Info("pruned", "job", "prune", "kept", len(res.Keep), "removed", res.Removed, "freed", res.Freed, "left", len(res.Left),
		"segments_removed", res.SegmentsRemoved, "segments_locked", res.SegmentsLocked)
	for _, l := range res.Left {
		c.log.Info("stays for now", "job", "prune", "id", l.ID, "why", l.Kept, "locked_until", l.LockedUntil)
	}
	return nil
}

// verify checks the newest backup, what was never read of the change log, and all small documents of the repository.
func (c *cluster) verify(ctx context.Context, boot backup.Boot) error {
	if some, err := c.since(ctx, time.Time{}); err != nil || !some {
		return err
	}
	rep, err := backup.Verify(ctx, backup.VerifyOptions{
		Repo: c.repo, IDs: []repo.SnapshotID{backup.Newest}, Identities: c.identities, Scratch: filepath.Join(c.spool, "scratch"), Boot: boot, Host: c.host,
		Progress: stages(c.log.With("job", "verify")),
	})
	if errors.Is(err, store.Denied) {
		return fmt.Errorf("%w: %w", errNotAllowed, err)
	}
	if err != nil {
		return err
	}
	for _, v := range rep.Backups {
		c.log.Info("verified", "job", "verify", "id", v.ID, "level", v.Level, "ok", v.OK, "problem", v.Problem, "bytes", v.Bytes,
			"seconds", v.Seconds, "restore_seconds", v.RestoreSeconds, "note", v.Note)
	}
	for _, v := range rep.Changes {
		c.log.Info("verified", "job", "verify", "changes", v.Timeline, "from", v.First, "to", v.Last, "level", v.Level, "checked", v.Checked(), "ok", v.OK, "segments", v.Segments,
			"bytes", v.Bytes, "hashes_equal", v.Proofs, "findings", len(v.Findings), "notes", len(v.Notes), "seconds", v.Seconds)
	}
	if !rep.OK {
		return fail.New(fail.Wanting, fmt.Errorf("the repository is damaged: %s", damage(rep)), "steward backup verify --all shows everything; take a good backup now")
	}
	return nil
}

// damage is the first thing that is wrong, and how many there are.
func damage(rep *backup.Report) string {
	var all []string
	for _, v := range rep.Backups {
		if !v.OK {
			all = append(all, fmt.Sprintf("backup %s: %s", v.ID, v.Problem))
		}
	}
	for _, v := range rep.Changes {
		for _, f := range v.Findings {
			all = append(all, strings.TrimPrefix(f.Key+": "+f.Problem, ": "))
		}
	}
	for _, m := range rep.Missing {
		all = append(all, fmt.Sprintf("backup %s: its data is missing", m.ID))
	}
	for _, d := range rep.DamagedDocuments {
		all = append(all, d.Key+": "+d.Problem)
	}
	if len(all) == 1 {
		return all[0]
	}
	return fmt.Sprintf("%s, and %d more", all[0], len(all)-1)
}
