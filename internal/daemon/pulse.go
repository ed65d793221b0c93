package daemon

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// pulse is the table of the loops that must show that they live. The health page and systemd's watchdog read it.
type pulse struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// staleAfter is how long a loop may be silent: several times beatEvery, so that a busy host is not taken for a dead loop.
const staleAfter = 45 * time.Second

func newPulse() *pulse { return &pulse{last: map[string]time.Time{}} }

// beat says that the loop called id lives.
func (p *pulse) beat(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[id] = time.Now()
}

// forget says that the loop ended as it should.
func (p *pulse) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, id)
}

// silent names the loops that have not beaten for staleAfter.
func (p *pulse) silent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for id, at := range p.last {
		if quiet := time.Since(at); quiet > staleAfter {
			ids = append(ids, fmt.Sprintf("%s: silent for %s", id, quiet.Round(time.Second)))
		}
	}
	slices.Sort(ids)
	return ids
}
