// Package backup is the verbs over a repository: create, list, show, verify, prune, compact, export and copy.
//
// It promises that a backup exists only once its bytes were hashed and opened (the manifest is written last), that a verification has
// read every byte, that nothing is deleted which a stored plan does not name, and that a file or a copy appears whole or not at all.
// It prints nothing, keeps no configuration, and knows of no schedule; restoring is the business of package restore.
package backup

import (
	"context"
	"time"
)

// Progress is told how far a stage is: bytes done, and bytes in total (0 when that is not known). Stages may run at the same time
// and report from several goroutines. Nil is allowed wherever a Progress is.
type Progress func(stage string, done, total int64)

func (p Progress) report(stage string, done, total int64) {
	if p != nil {
		p(stage, done, total)
	}
}

// stage is the progress of one stage whose total is known.
func (p Progress) stage(name string, total int64) func(done int64) {
	return func(done int64) { p.report(name, done, total) }
}

// cleanupTime bounds what is done after the caller's context has ended.
const cleanupTime = 30 * time.Second

// detached is a context for cleaning up: it outlives ctx, for a bounded time.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// workers is how many small objects are read at once: enough to hide a store's latency, few enough not to be throttled.
const workers = 16
