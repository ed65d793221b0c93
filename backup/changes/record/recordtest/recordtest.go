// Package recordtest runs a recorder as tests need it: impatient, and waited for. It is for tests.
package recordtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
)

// Recorder is a running one.
type Recorder struct {
	*record.Recorder
	cancel context.CancelFunc
	done   chan error
}

// Start begins to record, several times a second in everything. Stop it.
func Start(o record.Options) (*Recorder, error) {
	const often = 200 * time.Millisecond
	o.Flush, o.Progress, o.LeasesEvery, o.MarkEvery = often, often, often, often
	if o.ProofEvery == 0 {
		o.ProofEvery = -1
	}
	if o.Host == "" {
		o.Host = "test"
	}
	rec, err := record.New(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{Recorder: rec, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- rec.Run(ctx) }()
	return r, nil
}

// Wait returns when everything up to a revision is in the store.
func (r *Recorder) Wait(ctx context.Context, rev repo.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		st := r.Status()
		if st.Through >= rev {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("revision %d is not stored: %s at %d: %s", rev, st.State, st.Through, st.Problem)
		case <-tick.C:
		}
	}
}

// Stop ends the recorder, and returns what it ended with.
func (r *Recorder) Stop() error {
	r.cancel()
	err := <-r.done
	r.done <- err // for whoever stops it again
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
