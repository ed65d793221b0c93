package snapshot

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"etcd-steward/internal/fail"
)

// watchdog ends a stream on which nothing moves. It counts progress, not time: a large database may take as long as it needs.
type watchdog struct {
	timeout time.Duration
	count   atomic.Uint64 // of messages, and of changes of whose turn it is
	waiting atomic.Bool   // for the sinks
	quit    chan struct{}
	joined  sync.WaitGroup
}

func startWatchdog(timeout time.Duration, bark context.CancelCauseFunc) *watchdog {
	w := &watchdog{timeout: timeout, quit: make(chan struct{})}
	w.joined.Go(func() { w.watch(bark) })
	return w
}

// checks per timeout: it barks at most this part of it too late.
const checks = 8

func (w *watchdog) watch(bark context.CancelCauseFunc) {
	tick := time.NewTicker(max(w.timeout/checks, time.Millisecond))
	defer tick.Stop()
	last, since := w.count.Load(), time.Now()
	for {
		select {
		case <-w.quit:
			return
		case <-tick.C:
		}
		if n := w.count.Load(); n != last {
			last, since = n, time.Now()
			continue
		}
		if time.Since(since) < w.timeout {
			continue
		}
		if w.waiting.Load() {
			bark(fail.Hint(fmt.Errorf("the spool has taken nothing for %v", w.timeout), "look at the disk of the spool folder"))
		} else {
			bark(fail.Hint(fmt.Errorf("the member has sent nothing for %v", w.timeout),
				"the member hangs, or the network does: look at its log, take the snapshot from another member, or raise the stall timeout"))
		}
		return
	}
}

// progress says that something moved.
func (w *watchdog) progress() { w.count.Add(1) }

// local says whether the stream waits for this machine, not for the member.
func (w *watchdog) local(yes bool) {
	w.waiting.Store(yes)
	w.count.Add(1)
}

func (w *watchdog) stop() {
	close(w.quit)
	w.joined.Wait()
}
