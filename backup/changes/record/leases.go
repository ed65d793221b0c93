package record

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
)

const (
	// leasesKnown bounds the leases that are remembered; of more, only the events tell.
	leasesKnown = 200000
	// leasesAsked is how many leases' TTLs are asked for at a time. Their TTL as granted never changes, so each is asked for once.
	leasesAsked = 500
	// leasesAll is how often all leases are listed in a segment, and not only the new ones.
	leasesAll = 10 * time.Minute
	// leasesSoon is how long a lease that came with an event waits for others, so as to be asked for together.
	leasesSoon = 200 * time.Millisecond
	// authEvery is how often the auth revision is asked for. Each question is an entry in the cluster's raft log.
	authEvery = time.Minute
)

// leaseBook remembers leases from session to session. Only one session's goroutine uses it.
type leaseBook struct {
	granted map[clientv3.LeaseID]changes.Lease
	listed  time.Time // when all of them were last written
	limit   int       // how many are remembered; 0 means leasesKnown
	denied  bool
}

// lookAtLeases keeps the notes' leases: the new ones soon after an event came with them, and all of them now and then.
func (s *session) lookAtLeases(ctx context.Context) {
	book := &s.r.book
	book.limit = cmp.Or(book.limit, leasesKnown)
	if book.granted == nil {
		book.granted = map[clientv3.LeaseID]changes.Lease{}
	}
	tick := time.NewTicker(s.r.o.LeasesEvery)
	defer tick.Stop()
	for all := true; ; {
		err := s.noteLeases(ctx, all)
		if denied := errors.Is(err, rpctypes.ErrPermissionDenied); err != nil && ctx.Err() == nil && (!denied || !book.denied) {
			book.denied = denied // said once
			s.r.o.Log.Warn("leases are not recorded", "endpoint", s.m.Endpoint, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			all = true
		case <-s.leased:
			sleep(ctx, leasesSoon)
			all = false
		}
	}
}

// noteLeases asks for the leases that are not known yet: those of events, and with all, those that the member lists.
func (s *session) noteLeases(ctx context.Context, all bool) error {
	r, book := s.r, &s.r.book
	r.mu.Lock()
	at := r.tail.have
	var ids []clientv3.LeaseID
	for _, id := range r.tail.leases {
		ids = append(ids, clientv3.LeaseID(id))
	}
	r.tail.leases = r.tail.leases[:0]
	r.mu.Unlock()
	asked, cut := time.Now(), false
	present := map[clientv3.LeaseID]bool{}
	if all {
		list, cancel := context.WithTimeout(ctx, askTimeout)
		resp, err := s.m.cli.Leases(list)
		cancel()
		if err != nil {
			return fmt.Errorf("list leases: %w", err)
		}
		cut = len(resp.Leases) > book.limit
		for _, l := range resp.Leases[:min(len(resp.Leases), book.limit)] {
			present[l.ID] = true
			ids = append(ids, l.ID)
		}
		for id := range book.granted {
			if !present[id] {
				delete(book.granted, id)
			}
		}
	}
	found, rest, err := s.grants(ctx, ids)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.notes.addLeases(found, false, at, asked) // they are in the book, and will not be asked for again
		return err
	}
	if !all || rest > 0 || time.Since(book.listed) < leasesAll {
		r.notes.addLeases(found, false, at, asked)
		return nil
	}
	list := make([]changes.Lease, 0, len(present))
	for id := range present {
		if l, ok := book.granted[id]; ok { // otherwise it is gone since it was listed
			list = append(list, l)
		}
	}
	book.listed = asked
	r.notes.addLeases(list, !cut, at, asked)
	r.status.set(func(st *Status) { st.Leases = len(list) })
	return nil
}

// grants asks for the TTLs of leases that are not in the book, a bounded number at a time; rest is how many are left for the next time. With an error,
// found are those that were answered before it.
func (s *session) grants(ctx context.Context, ids []clientv3.LeaseID) (found []changes.Lease, rest int, err error) {
	book := &s.r.book
	for _, id := range ids {
		if _, ok := book.granted[id]; ok {
			continue
		}
		if len(found) == leasesAsked || len(book.granted) >= book.limit {
			rest++
			continue
		}
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		resp, err := s.m.cli.TimeToLive(ask, id)
		cancel()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			continue
		}
		if err != nil {
			return found, 0, fmt.Errorf("ask for lease %x: %w", int64(id), err)
		}
		if resp.TTL < 0 {
			continue // gone already; its keys went with it
		}
		l := changes.Lease{ID: int64(id), Granted: resp.GrantedTTL, Remaining: resp.TTL}
		book.granted[id] = l
		found = append(found, l)
	}
	return found, rest, nil
}

// lookAtAuth demands a full snapshot when users, roles or rights have changed: neither they nor passwords are in a watch.
func (s *session) lookAtAuth(ctx context.Context) {
	tick := time.NewTicker(min(authEvery, 6*s.r.o.LeasesEvery))
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		resp, err := s.m.cli.AuthStatus(ask)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.r.o.Log.Debug("the auth revision is not known", "endpoint", s.m.Endpoint, "error", err)
		default:
			s.r.noteAuth(resp.AuthRevision)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Recorder) noteAuth(rev uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := &r.known
	if k.authSeen && k.auth == rev {
		return
	}
	changed := k.authSeen
	k.auth, k.authSeen = rev, true
	r.notes.auth = &changes.Auth{Revision: r.tail.have, Auth: rev}
	if changed {
		r.signal(Signal{Kind: SignalAuth, NeedFull: true, Timeline: k.timeline, Text: "users, roles or rights changed, which the change log does not hold: a full snapshot does"})
	}
}
