package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"etcd-steward/internal/config"
	"etcd-steward/membership/health"
)

// TestHungStore: a store that hangs where no context is heard does not hold up the answer, is not asked a second time meanwhile, and its answer is taken when
// it comes.
func TestHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &checkup{cfg: &config.Config{Store: "file:///mnt/away"}}
		back, asked := make(chan struct{}), 0
		ask := func(context.Context) *health.Backup {
			asked++
			<-back
			return &health.Backup{Configured: true, NewestID: "x"}
		}
		look := func() *health.Backup {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			begun := time.Now()
			b := k.backupWithin(ctx, ask)
			if took := time.Since(begun); took > 4*time.Second+lastWords {
				t.Errorf("it took %v", took)
			}
			return b
		}
		for range 3 {
			if b := look(); b.Err == nil || b.Store != k.cfg.Store {
				t.Errorf("got %+v, want that it does not answer", b)
			}
		}
		close(back)
		if b := look(); b.NewestID != "x" || asked != 1 {
			t.Errorf("got %+v after %d questions", b, asked)
		}
	})
}
