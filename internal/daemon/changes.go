package daemon

import (
	"context"
	"errors"
	"time"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
)

// pace is how often a recorder says how far it is, and how long others wait for one that is silent. A cluster whose changes are stored every
// second is looked at more often than one where that takes minutes.
type pace struct {
	progress time.Duration // asking the member for its revision
	mark     time.Duration // writing, and reading, the mark in the store
	turn     time.Duration // for another daemon to take over from a dead one
	limit    time.Duration // age of what is recorded above which the daemon is not ready
}

func paceOf(ch config.Changes) pace {
	flush := time.Duration(ch.Flush)
	p := pace{
		progress: min(max(flush/2, time.Second), 5*time.Second),
		mark:     min(max(6*flush, 5*time.Second), time.Minute),
		turn:     min(max(3*flush, 5*time.Second), 30*time.Second),
	}
	// Others see what the mark says. A hand-over in between is no reason to complain.
	p.limit = 2*p.mark + p.turn + 4*flush + 10*time.Second
	return p
}

// Bounds of beginning again when recording cannot begin or was refused.
const (
	recordAgain    = time.Second
	recordAgainMax = time.Minute
	recordStop     = 35 * time.Second // after the end of the loop, a recorder that still runs hangs
)

// record is the actor that keeps the cluster's change log: it runs a recorder until loop ends, and another one when that gives up.
func (c *cluster) record(loop context.Context) {
	defer c.pulse.forget(c.id("changes"))
	handBack := c.takeOver(loop)
	defer handBack()
	ch := c.cfg.Changes
	c.log.Info("recording changes", "job", "changes", "from", c.etcd.Endpoints, "to", c.storeCfg.URL, "flush", ch.Flush.String(),
		"segment", ch.Segment.String(), "spool", c.changesDir, "spool_limit", ch.Spool.String())
	for wait := recordAgain; loop.Err() == nil; wait = min(2*wait, recordAgainMax) {
		began := time.Now()
		err := c.recordOnce(loop)
		if loop.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				c.log.Error("recording did not end well", "job", "changes", "error", err)
			}
			return
		}
		if errors.Is(err, record.ErrInUse) {
			wait = recordAgain // the recorder of the config before this one, most of the time
		} else if time.Since(began) > recordAgainMax {
			wait = recordAgain
		}
		if c.changes.failed(err) {
			c.log.Error("changes are not recorded; trying again", "job", "changes", "error", err, "hint", recordHint(err), "in", wait)
		}
		c.restBeating(loop, "changes", wait)
	}
}

// takeOver waits until the recorder of the config before this one has stored what it has and given the spool folder back. One that hangs is not waited for for ever:
// then the folder is in use, and that is an error.
func (c *cluster) takeOver(loop context.Context) (handBack func()) {
	patience := time.After(recordStop + time.Second)
	for {
		select {
		case c.state.recorder <- struct{}{}:
			return func() { <-c.state.recorder }
		case <-loop.Done():
			return func() {}
		case <-patience:
			return func() {}
		case <-time.After(c.beatPause()):
			c.pulse.beat(c.id("changes"))
		}
	}
}

// recordHint is the next thing to do about a recorder that gave up.
func recordHint(err error) string {
	if errors.Is(err, record.ErrInUse) {
		return "another stewardd on this host uses the same state folder: give each its own (STATE_DIRECTORY)"
	}
	return hint(err)
}

// recordOnce runs one recorder. It returns nil only after the loop's end.
func (c *cluster) recordOnce(loop context.Context) error {
	// Opened by itself, and unseen: a store that is away must not keep what is in etcd now from being read.
	st, err := store.Open(loop, c.storeCfg)
	if err != nil {
		return err
	}
	to, err := repo.OpenLater(st, c.name)
	if err != nil {
		return err
	}
	r, err := record.New(c.recordOptions(to))
	if err != nil {
		return err
	}
	c.changes.begin(r.Status, r.Prove)
	defer c.changes.end()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(loop) }()
	var marked time.Time
	for hung := (<-chan time.Time)(nil); ; {
		select {
		case err = <-ended:
			return err
		case <-hung:
			return errors.New("the recorder does not end")
		case <-time.After(c.beatPause()):
		}
		if loop.Err() != nil && hung == nil {
			hung = time.After(recordStop)
		}
		c.pulse.beat(c.id("changes"))
		s := c.changes.status()
		c.begunOnce(s.State)
		if s.State != record.Recording && time.Since(marked) >= paceOf(c.cfg.Changes).mark {
			marked = time.Now()
			c.lookAtMark(loop, to)
		}
	}
}

// beatPause is short until the recorder has begun, since the first snapshot waits for that.
func (c *cluster) beatPause() time.Duration {
	select {
	case <-c.begun:
		return time.Second
	default:
		return 50 * time.Millisecond
	}
}

// begunOnce lets the first snapshot begin once the recorder knows whether it needs one. Only the actor calls it.
func (c *cluster) begunOnce(s record.State) {
	select {
	case <-c.begun:
	default:
		if s != record.Starting {
			close(c.begun)
		}
	}
}

func (c *cluster) recordOptions(to *repo.Repo) record.Options {
	ch, p := c.cfg.Changes, paceOf(c.cfg.Changes)
	return record.Options{
		Repo: to, Cluster: c.etcd, Recipients: c.recipients, SpoolDir: c.changesDir, SpoolMax: int64(ch.Spool),
		Flush: time.Duration(ch.Flush), SegmentSize: int64(ch.Segment), Host: c.host, Log: c.log.With("job", "changes"),
		Signal: c.heard, Stored: c.changes.stored, Progress: p.progress, MarkEvery: p.mark, TurnTTL: p.turn,
	}
}

// heard is told what the recorder has to say, and logs itself. It must not block.
func (c *cluster) heard(s record.Signal) {
	c.changes.count(s)
	if s.NeedFull {
		c.state.demands.add(demand{kind: s.Kind, timeline: s.Timeline, revision: s.To, at: wallNow()})
	}
}

// lookAtMark reads how far the change log is, whoever records it.
func (c *cluster) lookAtMark(loop context.Context, in *repo.Repo) {
	ctx, cancel := context.WithTimeout(loop, lookLimit)
	defer cancel()
	mark, ok, err := in.LatestRecorded(ctx)
	switch {
	case err != nil:
		c.log.Debug("the change log's mark cannot be read", "error", err)
	case ok:
		c.changes.marked(mark)
	}
}

// restBeating waits and shows that the loop lives.
func (c *cluster) restBeating(loop context.Context, name string, d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until) && loop.Err() == nil; {
		c.pulse.beat(c.id(name))
		sleep(loop, min(time.Until(until), beatEvery))
	}
}

// refused says whether recording was refused as unsafe, as opposed to having failed.
func refused(err error) bool { return fail.ExitCode(err) == fail.Unsafe }
