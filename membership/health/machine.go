package health

import (
	"fmt"
	"time"

	"etcd-steward/membership/probe"
)

// disks judges how long the disks take.
func (j *judge) disks() {
	for _, a := range j.ours() {
		if a.Metrics == nil {
			continue
		}
		before := j.History.metrics(a.MemberID, j.Now.Add(-j.limit.Window))
		j.slow(a, SlowFsync, "to make its log durable", a.Metrics.Fsync, before.Fsync, j.limit.FsyncInfo, j.limit.FsyncWarn, j.limit.FsyncCrit)
		j.slow(a, SlowCommit, "to commit its database", a.Metrics.Commit, before.Commit, j.limit.CommitInfo, j.limit.CommitWarn, 0)
	}
}

func (j *judge) slow(a *probe.Answer, k Kind, what string, all, before probe.Histogram, info, warn, crit float64) {
	h, since := all.Since(before), "since "+a.Metrics.Started.UTC().Format(time.RFC3339)
	if before.Count > 0 && h.Count < all.Count {
		since = "of late"
	}
	p99, ok := h.Quantile(0.99)
	if !ok || p99 < info || h.Count < 100 { // a hundred, or the 99th percentile is the slowest of all
		return
	}
	severity := Info
	switch {
	case crit > 0 && p99 >= crit:
		severity = Critical
	case p99 >= warn:
		severity = Warning
	}
	confidence := Certain
	if since != "of late" {
		confidence = Likely // it may be long ago
	}
	j.add(severity, k, a.MemberID, Finding{
		Text: fmt.Sprintf("its disk takes %.0f ms %s, one time in a hundred", p99*1000, what), Evidence: fmt.Sprintf("99th percentile of %d, %s", h.Count, since),
		Next: "give etcd a disk of its own, an SSD; see what else writes to it", Confidence: confidence,
	})
}

// clockMargin is what an HTTP date, which is cut to the second, can be wrong by, besides the way there.
const clockMargin = 500 * time.Millisecond

// clocks judges members' clocks. When all differ from ours the same way, ours is wrong.
func (j *judge) clocks() {
	var known []*probe.Answer
	early, late := true, true
	for _, a := range j.up {
		if a.ClockKnown {
			known = append(known, a)
			early, late = early && a.Clock < -j.limit.Clock-clockMargin, late && a.Clock > j.limit.Clock+clockMargin
		}
	}
	if len(known) > 1 && (early || late) {
		j.add(Warning, Clock, 0, Finding{Text: "this host's clock differs from all members'", Evidence: "theirs is " + offset(known[0].Clock), Next: "here: timedatectl, or chronyc tracking"})
		return
	}
	for _, a := range known {
		if a.Clock.Abs() > j.limit.Clock+clockMargin+a.RTT/2 {
			j.add(Warning, Clock, a.MemberID, Finding{Text: "its clock differs from this host's", Evidence: offset(a.Clock) + ", to half a second", Next: "on its host: timedatectl, or chronyc tracking"})
		}
	}
}

func offset(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%.1f s behind", -d.Seconds())
	}
	return fmt.Sprintf("%.1f s ahead", d.Seconds())
}
