package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"etcd-steward/backup/changes/record"
)

// The metrics of the change log.
var (
	mChState    = metric("changes_state", "1 for what the recorder of this daemon is doing, 0 for what it is not.", "cluster", "state")
	mChRevision = metric("changes_recorded_revision", "Everything up to this revision is in the store.", "cluster")
	mChRecorded = metric("changes_recorded_timestamp_seconds", "The moment whose past is in the store; it moves on while nothing changes.", "cluster")
	mChAge      = metric("changes_age_seconds", "Time since that moment: what would be lost now.", "cluster")
	mChAgeLimit = metric("changes_age_limit_seconds", "Age above which the daemon is not ready.", "cluster")
	mChReceived = metric("changes_received_revision", "Last revision that this daemon has received.", "cluster")
	mChEvents   = metric("changes_events_total", "Events that this daemon recorded.", "cluster")
	mChBytes    = metric("changes_stored_bytes_total", "Size of the segments that this daemon stored.", "cluster")
	mChSegments = metric("changes_segments_total", "Segments that this daemon stored.", "cluster")
	mChLag      = metric("changes_lag_seconds", "Time from a segment's first change to when it was in the store.", "cluster")
	mChSpool    = metric("changes_spool_bytes", "What waits for the store.", "cluster")
	mChSpoolMax = metric("changes_spool_limit_bytes", "How much may wait.", "cluster")
	mChFailures = metric("changes_upload_failures_total", "Failed attempts to store a segment.", "cluster")
	mChReconn   = metric("changes_reconnects_total", "How often the watch was interrupted.", "cluster")
	mChTurns    = metric("changes_turns_total", "How often this daemon took recording over, from another or from nobody.", "cluster")
	mChHealed   = metric("changes_healed_total", "Faulty watches that another watch made good.", "cluster")
	mChGaps     = metric("changes_gaps_total", "Times that revisions were not recorded, by reason.", "cluster", "reason")
	mChGapTime  = metric("changes_last_gap_timestamp_seconds", "When revisions were last not recorded, by whichever daemon.", "cluster")
	mChDemanded = metric("changes_snapshots_demanded_total", "Full snapshots that the change log asked for, by reason.", "cluster", "reason")
	mChProof    = metric("changes_proof_revision", "Newest revision whose HashKV a member gave, as a proof.", "cluster")
	mChProofAt  = metric("changes_proof_timestamp_seconds", "When it did.", "cluster")
)

var changesDescs = []*prometheus.Desc{
	mChState, mChRevision, mChRecorded, mChAge, mChAgeLimit, mChReceived, mChEvents, mChBytes, mChSegments, mChLag, mChSpool, mChSpoolMax, mChFailures,
	mChReconn, mChTurns, mChHealed, mChGaps, mChGapTime, mChDemanded, mChProof, mChProofAt,
}

// recorderStates are all that there are, with the words of the label.
var recorderStates = map[record.State]string{
	record.Starting: "starting", record.Standby: "standby", record.Recording: "recording", record.Reconnecting: "reconnecting",
	record.Full: "full", record.Stopped: "stopped",
}

// gapReasons and signalKinds are shown from the start, so that an increase from nothing is one.
var (
	gapReasons  = []record.GapReason{record.GapCompacted, record.GapBehind, record.GapMissing, record.GapRepeated, record.GapDamaged}
	signalKinds = []record.SignalKind{
		record.SignalFirst, record.SignalGap, record.SignalAuth, record.SignalSuspect, record.SignalUnproven, record.SignalEnded, record.SignalDamaged,
	}
)

func (c *changesState) collect(ch chan<- prometheus.Metric, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.statusLocked()
	for state, word := range recorderStates {
		gauge(ch, mChState, truth(s.State == state), name, word)
	}
	if rev, at := c.recorded(s); !at.IsZero() {
		gauge(ch, mChRevision, float64(rev), name)
		gauge(ch, mChRecorded, stamp(at), name)
		gauge(ch, mChAge, time.Since(at).Seconds(), name)
	}
	gauge(ch, mChAgeLimit, c.limit.Seconds(), name)
	if s.Received > 0 {
		gauge(ch, mChReceived, float64(s.Received), name)
	}
	for d, n := range map[*prometheus.Desc]int64{
		mChEvents: s.Events, mChBytes: s.Bytes, mChSegments: s.Segments, mChFailures: s.UploadFailures, mChReconn: s.Reconnects, mChTurns: s.Turns, mChHealed: s.Healed,
	} {
		counter(ch, d, uint64(n), name)
	}
	c.lag.collect(ch, name)
	gauge(ch, mChSpool, float64(s.WaitingBytes), name)
	gauge(ch, mChSpoolMax, float64(c.spoolMax), name)
	for _, why := range gapReasons {
		counter(ch, mChGaps, c.gaps[why], name, string(why))
	}
	for _, kind := range signalKinds {
		counter(ch, mChDemanded, c.demanded[kind], name, string(kind))
	}
	if at := c.newestGap(); !at.IsZero() {
		gauge(ch, mChGapTime, stamp(at), name)
	}
	if s.Proof > 0 {
		gauge(ch, mChProof, float64(s.Proof), name)
		gauge(ch, mChProofAt, stamp(s.ProofTime), name)
	}
}

// newestGap is when revisions were last not recorded, by this daemon or by another; zero when never.
func (c *changesState) newestGap() time.Time {
	at := c.lastGap
	if c.mark != nil {
		for _, g := range c.mark.Gaps {
			if g.Time.After(at) {
				at = g.Time
			}
		}
	}
	return at
}

// lagBounds are the histogram's, in seconds; the default flush is 10.
var lagBounds = [...]float64{1, 2, 5, 10, 11, 12, 15, 30, 60, 300, 1800, 7200}

// lagCount is a histogram.
type lagCount struct {
	below [len(lagBounds)]uint64
	n     uint64
	sum   float64
}

func (l *lagCount) add(d time.Duration) {
	l.n++
	l.sum += d.Seconds()
	for i, b := range lagBounds {
		if d.Seconds() <= b {
			l.below[i]++
		}
	}
}

func (l *lagCount) collect(ch chan<- prometheus.Metric, name string) {
	buckets := map[float64]uint64{}
	for i, b := range lagBounds {
		buckets[b] = l.below[i]
	}
	ch <- prometheus.MustNewConstHistogram(mChLag, l.n, l.sum, buckets, name)
}
