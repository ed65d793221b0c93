// Package record runs the change log of one cluster: it watches a member, makes segments of what happens, and puts them into the repository.
//
// It promises that what it records is contiguous, revision by revision, or that the gap is reported and a full snapshot
// demanded; that everything up to Status.Through is in the store; that memory and spool are bounded whatever the store does; that several
// recorders of one cluster do no harm; and that events of a history that was cut never follow those of the one before. It takes no
// snapshots and keeps no schedule of them: it says when one is needed.
package record

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
)

// Options say what to record, and where to. Repo, Cluster and SpoolDir are required.
type Options struct {
	Repo    *repo.Repo
	Cluster snapshot.Cluster
	// Recipients can read the segments; none means that they are not encrypted.
	Recipients []age.Recipient
	// SpoolDir is this recorder's own folder for what the store does not take; it is made with mode 0700. SpoolMax is how much may wait,
	// in bytes; 0 means 1 GiB. Beyond it the watch is not read until there is room.
	SpoolDir string
	SpoolMax int64
	// Flush is how long the first change of a segment waits at most; 0 means 10 s. SegmentSize is the content in bytes at which a segment is closed
	// before; 0 means 8 MiB.
	Flush       time.Duration
	SegmentSize int64
	// Host names this machine in what is written.
	Host string
	Log  *slog.Logger // nil: none
	// Signal is called with what somebody has to know, or to act upon. It must not block.
	Signal func(Signal)
	// Stored is called for every segment that is in the store, with the time from its first change to now. It must not block.
	Stored func(s repo.Segment, lag time.Duration)

	// CatchUpMax is how many revisions a watch may be behind; 0 means 100,000. For every 1000 that etcd gives to a watch that is behind, it reads all that
	// are missing, so the work grows with the square: 100,000 of 500 bytes cost a member some 12 s of one core with etcd 3.6, 40 s with 3.7.
	// What is further behind is left to a full snapshot, which holds every revision since its compaction.
	CatchUpMax repo.Revision
	// Progress is how often the member is asked for its revision; 0 means 5 s. Stall is after how long without an answer another member is
	// asked; 0 means 30 s.
	Progress, Stall time.Duration
	// MarkEvery is how often repo.Recorded is written; 0 means one minute.
	MarkEvery time.Duration
	// LeasesEvery is how often leases and the auth revision are looked at; 0 means 10 s.
	LeasesEvery time.Duration
	// ProofEvery is how often a member is asked for its HashKV; 0 means hourly, a negative one means only after Prove.
	ProofEvery time.Duration
	// TurnTTL is how long another daemon waits for a dead one before it records; 0 means 30 s.
	TurnTTL time.Duration
	// SuspectEvery is how often a full snapshot is demanded while the server is of a version known to lose events; 0 means hourly.
	SuspectEvery time.Duration
}

func (o *Options) defaults() error {
	if o.Repo == nil || o.SpoolDir == "" || len(o.Cluster.Endpoints) == 0 {
		return errors.New("record: no repository, no spool folder or no endpoint")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Signal == nil {
		o.Signal = func(Signal) {}
	}
	if o.Stored == nil {
		o.Stored = func(repo.Segment, time.Duration) {}
	}
	for _, d := range []struct {
		v        *time.Duration
		standard time.Duration
	}{
		{&o.Flush, 10 * time.Second},
		{&o.Progress, 5 * time.Second},
		{&o.Stall, 30 * time.Second},
		{&o.MarkEvery, time.Minute},
		{&o.LeasesEvery, 10 * time.Second},
		{&o.ProofEvery, time.Hour},
		{&o.TurnTTL, 30 * time.Second},
		{&o.SuspectEvery, time.Hour},
	} {
		if *d.v == 0 {
			*d.v = d.standard
		}
	}
	if o.SpoolMax == 0 {
		o.SpoolMax = 1 << 30
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 8 << 20
	}
	if o.CatchUpMax == 0 {
		o.CatchUpMax = 100000
	}
	return nil
}

// Recorder records one cluster. Status and Prove may be called at any time.
type Recorder struct {
	o      Options
	queue  *queue
	status statusBox
	prove  chan struct{}
	reach  func(context.Context) (*member, error) // connect; tests have a member of their own

	mu     sync.Mutex // held while the tail changes and a segment is made
	tail   tail
	sealer sealer
	notes  notes
	book   leaseBook
	known  knowledge
	whole  int            // bytes of a message that are read whole
	unread int            // how often the segment that is next for the store could not be read; the uploads' own
	unsure bool           // nothing shows that what is held back follows the spool
	ended  *repo.Recorded // the mark of a timeline that was found to have ended
	kick   chan struct{}  // the open segment has its first event
	late   bool           // the open segment is due as soon as it ends with a whole revision
}

// knowledge is what is known of the log's end, and of the cluster when it was last seen.
type knowledge struct {
	located  bool
	away     bool // located by the spool alone, and what is recorded since is held back
	timeline repo.Timeline
	check    fingerprint // of a revision that was recorded
	plain    bool        // begin right behind the log's end: what is before it is gone
	highest  repo.Revision
	from     repo.Revision // where the log was begun
	term     uint64
	auth     uint64
	authSeen bool // auth is of this timeline
	faults   int  // watches in a row that were faulty
	stalls   int  // watches in a row that were silent
	large    bool // the next message is too large to be read whole
	gaps     []repo.RecordedGap
	suspect  time.Time // when a full snapshot was last demanded because of the server's version
	version  string
}

// New prepares a recorder and takes over what an earlier one left in the spool folder.
func New(o Options) (*Recorder, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	q, err := openQueue(o.SpoolDir, o.SpoolMax, o.Log)
	if err != nil {
		return nil, err
	}
	r := &Recorder{o: o, queue: q, prove: make(chan struct{}, 1), kick: make(chan struct{}, 1), whole: wholeMax}
	r.tail.buf = buffer{dir: o.SpoolDir, limit: int(o.SegmentSize) + bufferSlack}
	r.reach = r.connect
	r.sealer = sealer{o: &r.o, queue: q}
	if end := q.end.mark; end.Ended != "" {
		r.ended = &end
	}
	r.status.set(func(s *Status) { s.State = Starting })
	return r, nil
}

// bufferSlack is what the open segment may hold in memory beyond the size at which it is closed: the rest of a revision.
const bufferSlack = 2 << 20

// wholeMax is how long a watch's message may be before it is asked for in fragments: gRPC and the recorder hold it once each.
const wholeMax = 24 << 20

// Run records until ctx ends, and then returns ctx's error once everything is stored or spooled, in at most half a minute. It returns
// before only when this cluster may not write to the repository (fail.Unsafe). A Recorder runs once.
func (r *Recorder) Run(ctx context.Context) error {
	uploads, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { r.upload(uploads) })
	err := r.run(ctx)
	r.mu.Lock()
	err = errors.Join(err, r.seal())
	r.mu.Unlock()
	r.queue.finish(lastUploads)
	stop()
	wg.Wait()
	r.status.set(func(s *Status) { s.State = Stopped })
	return errors.Join(err, r.queue.close())
}

// lastUploads is how long a recorder that ends still tries to store what it has; after that it stays in the spool for the next one.
const lastUploads = 20 * time.Second

// Prove asks for a proof soon: a member's HashKV of a revision that was recorded.
func (r *Recorder) Prove() {
	select {
	case r.prove <- struct{}{}:
	default:
	}
}

// run takes turns with other daemons until ctx ends.
func (r *Recorder) run(ctx context.Context) error {
	for {
		mine, release, err := r.takeTurn(ctx)
		if err != nil {
			return err
		}
		err = r.record(mine)
		lost := errors.Is(context.Cause(mine), errTurnLost)
		release()
		if ctx.Err() != nil || !lost {
			return err
		}
		r.mu.Lock()
		err = r.seal()
		r.known.located = false // whoever has the turn now gets further than we did
		r.mu.Unlock()
		if err != nil {
			r.o.Log.Error("a segment cannot be closed", "error", err)
		}
		r.o.Log.Info("another daemon records now")
	}
}

// record goes from session to session until ctx ends or something cannot go on.
func (r *Recorder) record(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { r.flush(ctx) })
	var failures int
	for ctx.Err() == nil {
		began := time.Now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			break
		}
		var final *refusedError
		switch {
		case errors.As(err, &final):
			return final.error
		case err == nil || errors.Is(err, errFull) || errors.Is(err, errAgain):
			continue
		}
		if time.Since(began) > time.Minute {
			failures = 0
		}
		failures++
		r.status.set(func(s *Status) { s.State, s.Problem = Reconnecting, err.Error(); s.Reconnects++ })
		r.o.Log.Warn("recording is interrupted", "error", err)
		sleep(ctx, backoff(failures))
	}
	return context.Cause(ctx)
}

// once makes one connection and records until it fails.
func (r *Recorder) once(ctx context.Context) error {
	// What is held back leaves only when the store is asked, for which there must be a member.
	if _, held, _ := r.queue.held(); held == 0 {
		if err := r.queue.waitRoom(ctx, func() { r.status.set(func(s *Status) { s.State = Full }) }); err != nil {
			return err
		}
	}
	r.mu.Lock()
	var err error
	if r.tail.length >= r.o.SegmentSize {
		err = r.seal() // it failed before
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	m, err := r.reach(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	if err := r.locate(ctx, m); err != nil {
		return err
	}
	if _, held, _ := r.queue.held(); held > 0 && r.queue.full() {
		r.tellFull()
		return errWaits
	}
	if err = r.tooFar(m); err == nil {
		err = r.session(ctx, m)
	}
	return r.digest(ctx, m, err)
}

// errFull ends a session: what was recorded waits for the store, and there is no room for more.
var errFull = errors.New("the spool is full")

// errWaits is errFull while the store does not answer and nothing can be decided about what is held back.
var errWaits = errors.New("the spool is full, and the store does not answer")

// errAgain ends a session that is begun again at once, otherwise.
var errAgain = errors.New("again")

// refusedError is a decision, not an accident: trying again would not change it.
type refusedError struct{ error }

// backoff grows from a quarter of a second to ten.
func backoff(failures int) time.Duration {
	return min(10*time.Second, 250*time.Millisecond<<min(failures-1, 6))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
