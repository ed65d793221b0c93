package snapshot

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdog: it barks when nothing moves for its time, and says who is waited for; never while something moves.
func TestWatchdog(t *testing.T) {
	for name, tc := range map[string]struct {
		local       bool
		words, hint string
	}{
		"member": {false, "the member has sent nothing for 30s", "another member"},
		"disk":   {true, "the spool has taken nothing for 30s", "disk"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				w := startWatchdog(30*time.Second, cancel)
				defer w.stop()
				for range 100 { // 40 minutes of one message every 25 s
					time.Sleep(25 * time.Second)
					w.progress()
				}
				w.local(tc.local)
				begun := time.Now()
				if err := context.Cause(ctx); err != nil {
					t.Fatalf("it barked although there was progress: %v", err)
				}
				<-ctx.Done()
				if took := time.Since(begun); took < 30*time.Second || took > 40*time.Second {
					t.Errorf("it barked after %v, want 30 s and not much more", took)
				}
				wantError(t, context.Cause(ctx), tc.words, tc.hint)
			})
		})
	}
}
