package daemon

import (
	"fmt"
	"slices"
	"time"
)

// notReady is every reason why backups cannot be relied on now; none when they can.
func (s *state) notReady(now time.Time) []string {
	var reasons []string
	for name, c := range s.all() {
		for _, why := range c.notReady(now) {
			reasons = append(reasons, name+": "+why)
		}
	}
	slices.Sort(reasons)
	if r := s.reloaded(); !r.ok {
		reasons = append(reasons, "config: the file on disk is bad; an older one is still used")
	}
	return reasons
}

func (c *clusterState) notReady(now time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var reasons []string
	switch {
	case c.storeErr != nil:
		reasons = append(reasons, fmt.Sprintf("store: %v", c.storeErr))
	case !c.seen:
		return []string{"store: not read yet"}
	}
	if h := c.held; c.seen && c.maxAge > 0 {
		if h.newest == nil {
			reasons = append(reasons, "there is no backup yet")
		} else if age := now.Sub(h.newest.ID.Time()); age > c.maxAge {
			reasons = append(reasons, fmt.Sprintf("the newest backup is %s old, more than %s", age.Round(time.Second), c.maxAge))
		} else if age < -skewMax {
			reasons = append(reasons, fmt.Sprintf("the newest backup is dated %s ahead: a clock is or was wrong, here or on host %s", -age.Round(time.Second), h.newest.Source.Host))
		}
	}
	if c.changes != nil {
		reasons = append(reasons, c.changes.notReady(now, c.demands.all())...)
	}
	if v := c.held.verified; v != nil && !v.OK {
		reasons = append(reasons, fmt.Sprintf("backup %s was found damaged: %s", v.ID, v.Problem))
	}
	return reasons
}
