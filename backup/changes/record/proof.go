package record

import (
	"context"
	"fmt"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

const (
	// proofTries is how often a member is asked for one proof: a follower may not have come to the revision yet, or have compacted it meanwhile.
	proofTries = 5
	proofPause = time.Second
	// proofTimeout bounds one HashKV: a member hashes about 3 GB a second.
	proofTimeout = 2 * time.Minute
)

// proofs asks for a member's HashKV at the interval, and when Prove was called.
func (s *session) proofs(ctx context.Context) {
	var tick <-chan time.Time
	if s.r.o.ProofEvery > 0 {
		t := time.NewTicker(s.r.o.ProofEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-s.r.prove:
		}
		if err := s.proof(ctx); err != nil && ctx.Err() == nil {
			s.r.o.Log.Warn("no proof was taken", "error", err)
		}
	}
}

// proof takes one, from a follower if there is one: hashing costs a member a core for a second, and the leader has enough to do.
func (s *session) proof(ctx context.Context) (err error) {
	endpoint := s.m.Endpoint
	for _, m := range s.m.all {
		if m.ID != 0 && !m.Leader && !m.Learner && m.Quorum {
			endpoint = m.Endpoint
			break
		}
	}
	for try := range proofTries {
		if try > 0 {
			sleep(ctx, proofPause)
		}
		if err = s.proofFrom(ctx, endpoint); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (s *session) proofFrom(ctx context.Context, endpoint string) error {
	r := s.r
	r.mu.Lock()
	rev, t := r.tail.have, r.known.timeline
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	resp, err := s.m.cli.HashKV(ctx, endpoint, int64(rev))
	if err != nil {
		return fmt.Errorf("ask %s for the hash of revision %d: %w", endpoint, rev, err)
	}
	compact := repo.Revision(max(0, resp.CompactRevision))
	if id := repo.ClusterID(resp.Header.ClusterId); id != t.Cluster || resp.HashRevision != 0 && repo.Revision(resp.HashRevision) != rev || compact > rev {
		return fmt.Errorf("%s answers for revision %d of cluster %s, compacted at %d, when asked for %d of %s", endpoint, resp.HashRevision, id, compact, rev, t.Cluster)
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known.timeline != t || !r.known.located {
		return nil
	}
	r.notes.addProof(changes.Proof{Revision: rev, CompactRevision: compact, Hash: resp.Hash, MemberID: resp.Header.MemberId, Time: now})
	r.status.set(func(st *Status) { st.Proof, st.ProofTime = rev, now })
	return nil
}
