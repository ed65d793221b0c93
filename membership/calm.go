package membership

import (
	"context"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// Term is the raft term in which the members follow their leader; 0: nobody leads.
func (c *Cluster) Term() (term uint64) {
	for _, m := range c.Members {
		if c.Up(m) {
			term = max(term, m.Answer.Term, m.Answer.After.Term)
		}
	}
	return term
}

// first is the action with which each kind of plan begins to change the members.
var first = map[string]string{KindAdd: doAdd, KindRemove: doRemove, KindReplace: doRemove, KindUpdate: doUpdate, KindPromote: doPromote}

// calmly does what changes the members when the leader has not changed since the plan was made, or not for a while.
func (s *Site) calmly(do func(context.Context, *plan.Task) (any, error)) func(context.Context, *plan.Task) (any, error) {
	return func(ctx context.Context, t *plan.Task) (any, error) {
		if first[t.Plan.Kind] == t.Step.Action {
			if err := s.calm(ctx, t); err != nil {
				return nil, err
			}
		}
		return do(ctx, t)
	}
}

// calm compares the raft term with that of when the plan was made, or in which the plan itself has moved the leadership. Another one means that there was an
// election since: then the leader is watched until it has led for a while.
func (s *Site) calm(ctx context.Context, t *plan.Task) error {
	c, b, err := s.look(ctx, t.Plan)
	if err != nil {
		return err
	}
	term, err := b.termOf(t)
	if err != nil || term == 0 || c.Term() == 0 || c.Term() == term || b.begun(c) { // without a leader, what follows has its own words
		return err
	}
	pace := s.Pace.filled()
	var leader ID
	var since time.Time
	t.Say("there was an election since the plan was made (term %d, now %d): the leader is watched until it has led for %v", term, c.Term(), pace.Calm)
	return s.until(ctx, t.Say, pace.Retry, "wait until the leader stays", func() (bool, error) {
		c, _, err := s.look(ctx, t.Plan)
		if err != nil {
			return c != nil, err
		}
		if now := c.Term(); now == 0 || now != term || c.Leader != leader {
			term, leader, since = now, c.Leader, time.Now()
		}
		if term != 0 && time.Since(since) >= pace.Calm {
			return true, nil
		}
		return false, changesNow(term, time.Since(since))
	})
}

func changesNow(term uint64, since time.Duration) error {
	why := fmt.Errorf("the leader changes now: the one of term %d leads for only %v", term, since.Round(time.Second))
	if term == 0 {
		why = fmt.Errorf("the leader changes now: there is none")
	}
	return fail.Refused(why, "find out why it does not stay (steward health), then go on with the same command")
}

// termOf is the term that a plan goes by.
func (b Basis) termOf(t *plan.Task) (uint64, error) {
	var moved struct {
		Term uint64 `json:"term"`
	}
	if _, has := t.Plan.Step(doMoveLeader); has {
		if _, err := t.Result(doMoveLeader, &moved); err != nil {
			return 0, err
		}
	}
	return max(b.Term, moved.Term), nil
}

// begun says whether the plan's change is there already, or the first part of it.
func (b Basis) begun(c *Cluster) bool {
	if _, there := c.Member(b.Removes); b.Removes != 0 {
		return !there
	}
	if b.Adds != nil {
		m, ok := b.newcomer(c.specs())
		return ok && !hasID(b.Members, m.ID)
	}
	if b.Updates != nil {
		m, ok := c.Member(b.Updates.ID)
		return ok && sameURLs(m.PeerURLs, b.Updates.PeerURLs)
	}
	return false
}

func hasID(members []Spec, id ID) bool {
	for _, m := range members {
		if m.ID == id {
			return true
		}
	}
	return false
}
