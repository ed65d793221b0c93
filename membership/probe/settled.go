package probe

import (
	"context"
	"time"
)

const (
	// settleWithin is how long a change that was just made, of members or of the leader, may take until every member that has a quorum knows it.
	settleWithin = 5 * time.Second
	settlePause  = 200 * time.Millisecond
)

// Settled looks, and waits some seconds and looks again while members that have a quorum do not tell the same: one has not applied yet what was changed a moment ago.
// The last view is given as it is, also when they still differ then. Hashes and metrics are asked for again only once they agree.
func Settled(ctx context.Context, a Access, o Options) (*View, error) {
	v, err := Look(ctx, a, o)
	for until := time.Now().Add(settleWithin); err == nil && v.moving() && time.Now().Before(until); {
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return v, nil
		}
		var lists *View
		if lists, err = Look(ctx, a, Options{GivenOnly: o.GivenOnly}); err == nil && !lists.moving() {
			v, err = Look(ctx, a, o)
		}
	}
	return v, err
}

// moving says whether somebody who hears from the leader tells something else than the others of their cluster.
func (v *View) moving() bool {
	for _, d := range v.Agreed().Dissent {
		if a := v.ByID(d.Member); a != nil && a.Quorum && d.About != "cluster" {
			return true
		}
	}
	return false
}
