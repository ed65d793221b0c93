package record

import (
	"sync"
	"time"

	"etcd-steward/backup/repo"
)

// State is what a recorder is doing.
type State string

// The states.
const (
	Starting     State = "starting"
	Standby      State = "standby"       // another daemon records
	Recording    State = "recording"     // a member is watched
	Reconnecting State = "reconnecting"  // between members, or waiting for one
	Full         State = "spool is full" // the watch is not read until the store takes what waits
	Stopped      State = "stopped"
)

// Status is a recorder's state at a moment, for metrics and people. Counters count from New.
type Status struct {
	State    State
	Problem  string // why it is reconnecting; "" while recording
	Timeline repo.Timeline
	// Endpoint, Member and Version are those of the member that is watched.
	Endpoint string
	Member   uint64
	Version  string
	// Received is the last revision that was received whole, Stored the last one that is in the store with all before it.
	Received, Stored repo.Revision
	// Through was the cluster's newest revision at ThroughTime, and everything up to it is in the store: what can be lost is what came after.
	Through     repo.Revision
	ThroughTime time.Time
	// Heard is when the member last said anything.
	Heard time.Time
	// Events, Segments and Bytes are what was stored, Bytes as it is stored.
	Events, Segments, Bytes int64
	// Waiting is the number of segments that are not in the store yet, WaitingBytes their size.
	Waiting, WaitingBytes int64
	UploadFailures        int64
	UploadProblem         string // the last upload's error; "" once one has succeeded
	Reconnects            int64
	// Turns is how often this recorder took over from another one, or from nobody.
	Turns int64
	// Healed counts watches that left out, repeated or disordered revisions, and were mended by another watch.
	Healed int64
	Gaps   int64
	Leases int
	// Proof is the newest revision that a member's HashKV was taken of.
	Proof     repo.Revision
	ProofTime time.Time

	told bool // that the spool is full
}

// SignalKind says what happened.
type SignalKind string

// The kinds of signals.
const (
	SignalFirst    SignalKind = "first"    // there is no full snapshot that this log follows
	SignalGap      SignalKind = "gap"      // revisions From to To were not recorded
	SignalAuth     SignalKind = "auth"     // users, roles or rights changed: a watch does not carry that
	SignalSuspect  SignalKind = "suspect"  // the server's version is known to lose events
	SignalUnproven SignalKind = "unproven" // it could not be checked that the log goes on where it ended
	SignalEnded    SignalKind = "ended"    // the timeline has ended; Run returns
	SignalHealed   SignalKind = "healed"   // a watch was faulty, another one was not
	SignalFull     SignalKind = "full"     // the spool is full: the store has been away for long
	SignalDamaged  SignalKind = "damaged"  // a spooled segment could not be stored as it was
)

// GapReason is why revisions were not recorded, in a word.
type GapReason string

// The reasons.
const (
	GapCompacted GapReason = "compacted" // history was gone before it was read
	GapBehind    GapReason = "behind"    // reading it would have harmed the member
	GapMissing   GapReason = "missing"   // the member's watch leaves them out
	GapRepeated  GapReason = "repeated"  // the member's watch gives others instead
	GapDamaged   GapReason = "damaged"   // the spooled segment was not what had been written
)

// Signal is something that somebody has to know. NeedFull demands a full snapshot, soon: one of Timeline at revision To or above, where To is given.
type Signal struct {
	Kind     SignalKind
	NeedFull bool
	Timeline repo.Timeline
	From, To repo.Revision // of a gap
	Reason   GapReason     // of SignalGap and SignalDamaged
	Text     string        // one line for people
}

// statusBox guards a Status.
type statusBox struct {
	mu sync.Mutex
	s  Status
}

func (b *statusBox) set(f func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.s)
}

// Status is what the recorder is doing now.
func (r *Recorder) Status() Status {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	s := r.status.s
	s.Waiting, s.WaitingBytes = r.queue.waiting()
	return s
}

// signal tells the daemon, and the log.
func (r *Recorder) signal(s Signal) {
	if s.Kind == SignalGap {
		r.status.set(func(st *Status) { st.Gaps++ })
	}
	log := r.o.Log.Warn
	switch s.Kind {
	case SignalGap, SignalEnded, SignalDamaged:
		log = r.o.Log.Error
	case SignalFirst, SignalAuth, SignalHealed:
		log = r.o.Log.Info
	}
	log(s.Text, "timeline", s.Timeline.String(), "kind", string(s.Kind), "need_full", s.NeedFull)
	r.o.Signal(s)
}
