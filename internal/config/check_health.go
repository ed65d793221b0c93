package config

import (
	"time"

	"etcd-steward/internal/config/schedule"
)

// Bounds of looking. Every look is a few small questions to each member; a comparison makes each read its whole database.
const (
	lookMax    = 10 * time.Minute
	compareMax = 7 * 24 * time.Hour
)

func (c *Config) checkHealth(ps *Problems, i int) {
	h, at := c.Clusters[i].Health, index("clusters", i)+".health"
	c.upTo(ps, at+".interval", h.Interval, lookMax)
	c.upTo(ps, at+".compare", h.Compare, compareMax)
	if h.Compare < h.Interval {
		ps.add(c.firstGiven(at+".compare", at+".interval"), "%s.compare: %s is shorter than the interval, %s", at, h.Compare, h.Interval)
	}
}

// Watched says whether the daemon looks at the cluster's members. One that takes no snapshots may have no way to them, so it does only when the file says so.
func (cl *Cluster) Watched() bool {
	return cl.Health.Enabled && (cl.Snapshot.Schedule != schedule.Never || cl.config.given(cl.at+".health.enabled"))
}
