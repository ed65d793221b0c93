package config

import (
	"time"

	"etcd-steward/internal/config/schedule"
)

// Bounds of what is recorded. A segment is put together in memory; a flush costs a request.
const (
	flushMax               = time.Hour
	segmentMin, segmentMax = Size(64 << 10), Size(64 << 20)
	spoolMin, spoolMax     = Size(1 << 20), Size(1 << 40)
)

func (c *Config) checkChanges(ps *Problems, i int) {
	cl := c.Clusters[i]
	ch, at := cl.Changes, index("clusters", i)+".changes"
	if ch.Enabled && c.given(at+".enabled") && cl.Snapshot.Schedule == schedule.Never {
		ps.add(c.origin(at+".enabled"), "%s.enabled: needs a snapshot.schedule: changes alone restore nothing", at)
	}
	c.upTo(ps, at+".flush", ch.Flush, flushMax)
	segment := c.sized(ps, at+".segment", ch.Segment, segmentMin, segmentMax)
	spool := c.sized(ps, at+".spool", ch.Spool, spoolMin, spoolMax)
	if segment && spool && ch.Spool < 2*ch.Segment {
		ps.add(c.firstGiven(at+".spool", at+".segment"), "%s.spool: %s does not hold two segments of %s", at, ch.Spool, ch.Segment)
	}
}

// sized checks a size against what can be meant.
func (c *Config) sized(ps *Problems, field string, s, low, high Size) bool {
	if s < low || s > high {
		ps.add(c.origin(field), "%s: %s is not between %s and %s", field, s, low, high)
		return false
	}
	return true
}
