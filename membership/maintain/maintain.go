// Package maintain does what an etcd cluster needs beside changes of its members: defragmentation of one member after the other, compaction of history,
// alarms, and the way out of a database that is full.
//
// What is going to be done is decided by pure functions from a view (membership/probe), and refused where it would endanger data or quorum. What is done stops
// at the first failure, asks for the cluster's health before each further step, and can be asked for again after an interruption at any moment. It promises
// that never more than one member is defragmented at a time, and that nothing but history and free pages is removed.
// Its caller says which disks are seen (Rooms): whether a file that is rewritten finds room on the others, nobody here knows. It takes no backup: its caller does.
package maintain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// Cluster is where maintenance is done, and who is told.
type Cluster struct {
	Access probe.Access
	Say    func(line string) // one line for people; nil: nobody listens
	Rooms  func() Rooms      // asked before each member; nil: no disk is seen
}

func (c *Cluster) rooms() Rooms {
	if c.Rooms == nil {
		return nil
	}
	return c.Rooms()
}

func (c *Cluster) say(format string, a ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, a...))
	}
}

// pause waits, or returns why it may not.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Bounds of looking and waiting.
const (
	lookLimit   = 10 * time.Second
	healthWait  = 60 * time.Second // after each step
	healthEvery = 500 * time.Millisecond
	callLimit   = 10 * time.Second
	settledLag  = 100  // raft entries that a member may lack of what it knows
	behindLimit = 5000 // raft entries behind the leader: beyond, it gets the whole database
	hashLimit   = 2 * time.Minute
)

// look asks everybody, within a bound.
func (c *Cluster) look(ctx context.Context, o probe.Options) (*probe.View, error) {
	limit := lookLimit
	if o.Hash {
		limit += hashLimit
		o.HashTimeout = hashLimit
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := probe.Look(bounded, c.Access, o)
	if err != nil {
		return nil, err
	}
	return v, context.Cause(ctx)
}

// Look is what the plans of this package are made from: every member's status, and its quota where it tells.
func (c *Cluster) Look(ctx context.Context) (*probe.View, error) {
	return c.look(ctx, probe.Options{Metrics: true})
}

// Gate is a condition that is not met.
type Gate struct {
	Rule     string // what is wanted
	Member   uint64 // of whom; 0: of the cluster
	Evidence string // what was seen
	Safe     string // what would make it safe
	Force    bool   // a reason that somebody gives is enough to go on
}

// String says it in one sentence.
func (g Gate) String() string { return g.Rule + ": " + g.Evidence }

// Pass refuses with exit code 4 when a gate is closed; what was forced is returned, to be said.
func Pass(gates []Gate, force string) (forced []string, err error) {
	var closed []Gate
	hard := false
	for _, g := range gates {
		if g.Force && force != "" {
			forced = append(forced, fmt.Sprintf("forced (%s): %s", force, g))
			continue
		}
		closed = append(closed, g)
		hard = hard || !g.Force
	}
	if len(closed) == 0 {
		return forced, nil
	}
	var texts []string
	for _, g := range closed {
		texts = append(texts, g.String())
	}
	hint := closed[0].Safe
	if !hard {
		hint += `; or --force "REASON", if you know better`
	}
	return forced, fail.Refused(errors.New("refused: "+strings.Join(texts, "; ")), hint)
}

// known leaves open to a reason only what was closed when it was given: whoever gave it did not know of what is closed since.
func known(now, then []Gate) []Gate {
	for i := range now {
		now[i].Force = now[i].Force && slices.ContainsFunc(then, func(g Gate) bool { return g.Rule == now[i].Rule && g.Member == now[i].Member })
	}
	return now
}

// nobody is the error for a cluster of which nothing answers.
func nobody(v *probe.View) error {
	for _, a := range v.Answers {
		if a.Err != nil {
			return fail.Hint(fmt.Errorf("no member answers: %s: %w", a.Endpoint, a.Err), fail.HintOf(a.Err))
		}
	}
	return errors.New("no member answers")
}
