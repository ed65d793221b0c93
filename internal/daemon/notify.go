package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier talks to systemd (sd_notify(3)); without systemd it talks to nobody.
type notifier struct {
	log   *slog.Logger
	state *state
	pulse *pulse
	limit time.Duration // systemd's WatchdogSec=; 0 without
}

// newNotifier takes systemd's variables out of the environment, so that no child of ours can speak in our name.
func newNotifier(s *state, p *pulse, log *slog.Logger) *notifier {
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not used", "error", err)
	}
	return &notifier{log: log, state: s, pulse: p, limit: limit}
}

func (n *notifier) send(text string) {
	if _, err := sd.SdNotify(false, text); err != nil {
		n.log.Debug("systemd was not told", "error", err)
	}
}

func (n *notifier) ready()    { n.send(sd.SdNotifyReady + "\nSTATUS=" + n.status(time.Now())) }
func (n *notifier) stopping() { n.send(sd.SdNotifyStopping + "\nSTATUS=stopping") }

// reloading must carry the time, so that systemd can tell this reload from an earlier one (sd_notify(3), MONOTONIC_USEC=).
func (n *notifier) reloading() { n.send(sd.SdNotifyReloading + "\n" + sd.SdNotifyMonotonicUsec()) }

// run is the actor: it keeps systemd's watchdog quiet only while every loop has shown lately that it lives.
func (n *notifier) run(ctx context.Context) error {
	every := 10 * time.Second
	if n.limit > 0 {
		every = min(every, n.limit/4)
	}
	warned := false
	for sleep(ctx, every); ctx.Err() == nil; sleep(ctx, every) {
		n.send("STATUS=" + n.status(time.Now()))
		if silent := n.pulse.silent(); len(silent) > 0 {
			if !warned {
				n.log.Error("a part of the daemon does not move; the watchdog is left to act", "silent", silent)
			}
			warned = true
			continue
		}
		warned = false
		if n.limit > 0 {
			n.send(sd.SdNotifyWatchdog)
		}
	}
	return nil
}

// status is the line that `systemctl status` shows.
func (n *notifier) status(now time.Time) string {
	var parts []string
	for name, c := range n.state.all() {
		parts = append(parts, name+": "+c.status(now))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

func (c *clusterState) status(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, j := range c.jobs {
		if since := j.runningSince(); !since.IsZero() {
			return fmt.Sprintf("%s for %s", name, now.Sub(since).Round(time.Second))
		}
	}
	switch {
	case c.storeErr != nil:
		return "the store does not answer"
	case !c.seen:
		return "starting"
	case c.held.newest == nil:
		return "no backup yet"
	}
	m := c.held.newest
	text := fmt.Sprintf("newest backup of %s at revision %d", m.ID.Time().Format(time.RFC3339), m.Database.Revision)
	if c.changes != nil {
		text += ", " + c.changes.line(now)
	}
	return text
}

func (j *jobState) runningSince() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.running
}
