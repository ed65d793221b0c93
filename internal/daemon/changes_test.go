package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
)

var (
	line  = repo.Timeline{Cluster: 7, Cut: 1}
	later = repo.Timeline{Cluster: 7, Cut: 2}
)

// TestChangesNotReady: each reason alone, and that an idle cluster is none.
func TestChangesNotReady(t *testing.T) {
	now := time.Now()
	status := func(s record.Status) func(*changesState) {
		return func(c *changesState) { c.begin(func() record.Status { return s }, nil) }
	}
	recording := record.Status{State: record.Recording, Through: 7, ThroughTime: now.Add(-5 * time.Second)}
	for _, c := range []struct {
		name   string
		change func(*changesState)
		demand []demand
		want   []string
	}{
		{"all well", status(recording), nil, nil},
		{"just begun", func(*changesState) {}, nil, nil},
		{"nothing for long", func(c *changesState) { c.since = now.Add(-5 * time.Minute) }, nil, []string{"changes: changes are not recorded for 5m0s, more than 2m0s: starting"}},
		{
			"idle for a day, and said so", status(record.Status{State: record.Recording, Through: 7, ThroughTime: now.Add(-time.Second)}), nil, nil,
		},
		{
			"dead", status(record.Status{State: record.Reconnecting, Problem: "no voter", Through: 7, ThroughTime: now.Add(-3 * time.Minute)}), nil,
			[]string{"changes: changes after revision 7 are not recorded for 3m0s, more than 2m0s: reconnecting: no voter"},
		},
		{"another daemon records", func(c *changesState) {
			status(record.Status{State: record.Standby})(c)
			c.since = now.Add(-time.Hour)
			c.marked(repo.Recorded{Through: 9, Time: now.Add(-time.Minute)})
		}, nil, nil},
		{"another daemon does not", func(c *changesState) {
			status(record.Status{State: record.Standby, Problem: "recorded by b"})(c)
			c.marked(repo.Recorded{Through: 9, Time: now.Add(-10 * time.Minute)})
		}, nil, []string{"changes: changes after revision 9 are not recorded for 10m0s, more than 2m0s: standby: recorded by b"}},
		{
			"full", status(record.Status{State: record.Full, UploadProblem: "put: unreachable", ThroughTime: now}), nil,
			[]string{"changes: the spool is full, and etcd is not read until the store takes what waits: put: unreachable"},
		},
		{"refused", func(c *changesState) { c.failed(fail.Refused(errors.New("another cluster"), "")) }, nil, []string{"changes: recording refused: another cluster"}},
		{"refused before, and works now", func(c *changesState) {
			c.failed(fail.Refused(errors.New("another cluster"), ""))
			status(recording)(c)
		}, nil, nil},
		{"a gap without its snapshot", status(recording), []demand{{kind: record.SignalGap, revision: 40}}, []string{"changes: a full snapshot at revision 40 or above must follow (gap)"}},
		{"rights changed", status(recording), []demand{{kind: record.SignalAuth}}, nil},
		{"the store shows a gap", func(c *changesState) {
			status(recording)(c)
			c.marked(repo.Recorded{Timeline: line, Time: now})
			c.listed(&repo.Catalog{Segments: []repo.Segment{{Timeline: line, First: 5, Last: 9}}})
		}, []demand{{kind: record.SignalGap, revision: 4}}, []string{"changes: changes up to revision 9 are recorded, but no full snapshot leads beyond 0"}},
	} {
		s := newChangesState()
		s.set(2*time.Minute, 1<<30)
		c.change(s)
		if diff := cmp.Diff(c.want, s.notReady(now, c.demand)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestChangesCounters: what a recorder counted is still counted after the next one has begun.
func TestChangesCounters(t *testing.T) {
	s := newChangesState()
	for i := range 3 {
		s.begin(func() record.Status {
			return record.Status{State: record.Recording, Events: 10, Segments: 2, Bytes: 100, UploadFailures: 1, Reconnects: 1, Turns: 1, Healed: 1}
		}, nil)
		n := int64(i + 1)
		for during := range 2 {
			if got := s.status(); got.Events != 10*n || got.Segments != 2*n || got.Bytes != 100*n || got.UploadFailures != n || got.Reconnects != n || got.Turns != n || got.Healed != n {
				t.Errorf("after %d recorders (ended: %d): %+v", n, during, got)
			}
			if during == 0 {
				s.end()
			}
		}
	}
}

// TestPace: whatever the flush interval, a hand-over ends before the others are not ready, and the mark is written more than once before.
func TestPace(t *testing.T) {
	for _, flush := range []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Hour} {
		p := paceOf(config.Changes{Flush: config.Duration(flush)})
		if p.limit < 2*p.mark+flush || p.limit < p.turn+p.mark+flush || p.turn < 5*time.Second || p.turn > 30*time.Second || p.mark > time.Minute || p.progress > 5*time.Second {
			t.Errorf("flush %s: %+v", flush, p)
		}
	}
	if p := paceOf(config.Changes{Flush: config.Duration(10 * time.Second)}); p.limit > 4*time.Minute {
		t.Errorf("by default a recorder that is dead is noticed after %s", p.limit)
	}
}

// offline is the revision of a snapshot that was not streamed from etcd.
const offline repo.Revision = 1000

func always(repo.Entry) bool { return true }

// TestDemandMet: a snapshot must be of the demanded revision and timeline, whenever it was begun; without a revision, it must be begun later.
func TestDemandMet(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration, tl repo.Timeline, rev repo.Revision) repo.Entry {
		return repo.Entry{Timeline: tl, Revision: rev, ID: repo.NewSnapshotID(now.Add(-ago))}
	}
	gap := demand{kind: record.SignalGap, timeline: line, revision: 40, at: now}
	auth := demand{kind: record.SignalAuth, timeline: line, at: now}
	for _, c := range []struct {
		name string
		d    demand
		e    repo.Entry
		want bool
	}{
		{"later, and lagging", gap, at(-time.Minute, line, 39), false},
		{"exact", gap, at(-time.Minute, line, 40), true},
		{"earlier, and far enough", gap, at(time.Minute, line, 41), true},
		{"of another timeline", gap, at(0, later, 41), false},
		{"rights before", auth, at(time.Second, line, 99), false},
		{"rights after", auth, at(0, line, 1), true},
		{"rights after, but made from a change log", auth, at(0, line, offline), false},
		{"made from a change log, and far enough", gap, at(0, line, offline), true},
		{"dated in the future", auth, at(-time.Hour, line, 1), false},
	} {
		if got := c.d.metBy(c.e, func(e repo.Entry) bool { return e.Revision != offline }); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
	d := newDemands()
	d.add(gap)
	d.add(auth)
	gap.revision = 50
	d.add(gap)
	if all := d.all(); len(all) != 2 {
		t.Errorf("demands of one kind are not one: %+v", all)
	}
	d.look([]repo.Entry{at(0, line, 45)}, always)
	if all := d.all(); len(all) != 1 || all[0].revision != 50 {
		t.Errorf("left: %+v, want the newer gap", all)
	}
}

// demandRig is runners of several daemons whose job is demanded.
type demandRig struct {
	mu  sync.Mutex
	rev repo.Revision // of the newest snapshot
	h   history
}

func (g *demandRig) runner(t *testing.T, st *clockedStore, who string, d *demands, takes time.Duration, err func() error) *runner {
	t.Helper()
	look := func(context.Context, time.Time) (bool, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		d.look([]repo.Entry{{Timeline: line, Revision: g.rev, ID: repo.NewSnapshotID(time.Now())}}, always)
		return !d.pending(), nil
	}
	return newRunner(t, st, who, job{
		schedule: parse(t, "0 0 1 1 *", "UTC"), retries: 3, demands: d, met: look, done: func(context.Context, time.Time) (bool, error) { return true, nil },
		run: func(ctx context.Context) error {
			g.h.add(who)
			sleep(ctx, takes)
			if e := err(); e != nil {
				return e
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.rev += 10
			return ctx.Err()
		},
	})
}

func well() error { return nil }

// TestDemandAtOnce: what is demanded is done at once, once, by one of several daemons that demand it.
func TestDemandAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:30Z")
		g, st := &demandRig{}, newStore(t)
		var runners []*runner
		began := time.Now()
		for i := range 3 {
			d := newDemands()
			runners = append(runners, g.runner(t, st, fmt.Sprint("master", i), d, 8*time.Second, well))
			time.AfterFunc(10*time.Second+time.Duration(i)*time.Millisecond, func() {
				d.add(demand{kind: record.SignalGap, timeline: line, revision: 5, at: wallNow()})
			})
		}
		runFor(5*time.Minute, runners...)
		runs := g.h.all()
		if len(runs) != 1 || runs[0].at.Sub(began) > 11*time.Second {
			t.Errorf("began at %s, runs %v, want one at once", began, runs)
		}
		for _, r := range runners {
			if r.job.demands.pending() || len(r.state.failures) != 0 {
				t.Errorf("%s: still %v, failures %v", r.holder, r.job.demands.all(), r.state.failures)
			}
		}
	})
}

// TestDemandAgain: a snapshot that lags behind what is demanded is followed by another; and work that is demanded all the time takes a tenth of it.
func TestDemandAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:30Z")
		g, d := &demandRig{}, newDemands()
		r := g.runner(t, newStore(t), "a", d, time.Minute, well)
		d.add(demand{kind: record.SignalGap, timeline: line, revision: 25, at: wallNow()})
		runFor(59*time.Minute, r)
		if runs := g.h.all(); len(runs) != 3 || d.pending() {
			t.Errorf("runs %v, left %v, want three until the revision is reached", runs, d.all())
		}
		more := newDemands()
		r = g.runner(t, newStore(t), "a", more, time.Minute, func() error {
			more.add(demand{kind: record.SignalAuth, timeline: line, revision: 1 << 40, at: wallNow()})
			return nil
		})
		more.add(demand{kind: record.SignalAuth, timeline: line, revision: 1 << 40, at: wallNow()})
		before := len(g.h.all())
		runFor(10*time.Hour, r)
		if n := len(g.h.all()) - before; n < 40 || n > 60 {
			t.Errorf("%d runs of a minute within ten hours, want about 54", n)
		}
	})
}

// TestDemandFails: a demand that cannot be met is tried again, with pauses, until it can; a tick of the schedule that comes meanwhile is done as well.
func TestDemandFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:30Z")
		g, d := &demandRig{}, newDemands()
		well := time.Now().Add(30 * time.Minute)
		r := g.runner(t, newStore(t), "a", d, 0, func() error {
			if time.Now().Before(well) {
				return errors.New("etcd is away")
			}
			return nil
		})
		d.add(demand{kind: record.SignalFirst, timeline: line, revision: 5, at: wallNow()})
		runFor(2*time.Hour, r)
		runs := g.h.all()
		if d.pending() || len(runs) < 8 || len(runs) > 40 {
			t.Errorf("%d runs, left %v", len(runs), d.all())
		}
		if last := runs[len(runs)-1].at; last.Before(well) || last.Sub(well) > 5*time.Minute+time.Second {
			t.Errorf("met at %s, possible since %s", last, well)
		}
	})
}

// TestDemandWakes: a demand ends the pause of a tick that had failed: what was away is back.
func TestDemandWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2026-11-20T12:00:30Z")
		g, d := &demandRig{}, newDemands()
		away := true
		r := g.runner(t, newStore(t), "a", d, 0, func() error {
			if away {
				return errors.New("etcd is away")
			}
			return nil
		})
		r.job.done, r.job.retries = nil, 1000
		r.job.schedule = parse(t, "0 */12 * * *", "UTC")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.loop(ctx) }()
		time.Sleep(6 * time.Hour)
		away = false
		before := len(g.h.all())
		d.add(demand{kind: record.SignalFirst, timeline: line, revision: 5, at: wallNow()})
		time.Sleep(time.Second)
		if n := len(g.h.all()) - before; n != 1 {
			t.Errorf("%d runs within a second of the demand", n)
		}
		cancel()
		<-ended
	})
}
