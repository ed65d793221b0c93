package main

import (
	"bytes"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

// How often --watch draws, and does what costs more.
const (
	drawEvery  = 2 * time.Second
	hashEvery  = 30 * time.Second
	storeEvery = time.Minute
)

// watchable refuses what does not go with --watch, before anything is asked.
func (c *call) watchable() error {
	switch {
	case !c.Bool("watch"):
		return nil
	case c.json():
		return usage(c.Context, "--watch and -o json do not go together")
	case c.IsSet("timeout"):
		return usage(c.Context, "--watch and --timeout do not go together")
	case !term.IsTerminal(c.stdout):
		return fail.New(fail.Usage, fmt.Errorf("--watch needs a terminal to draw on"), "without one: steward health -o json, again and again")
	}
	return nil
}

// watch draws until it is interrupted. What costs more than a moment is not asked for every time: its last answer stays.
func (k *checkup) watch() error {
	screen, ok := term.NewScreen(k.c.stdout)
	if !ok {
		return fail.New(fail.Usage, fmt.Errorf("--watch needs a terminal to draw on"), "without one: steward health -o json")
	}
	defer screen.Close()
	if err := screen.Draw("asking ..."); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	history := health.NewHistory()
	var hashed *probe.View
	var kept *health.Backup
	var hashedAt, storeAt time.Time
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		hash, store := time.Since(hashedAt) >= hashEvery, time.Since(storeAt) >= storeEvery
		in, err := k.look(hash, store)
		if err != nil {
			return err
		}
		if hash {
			hashed, hashedAt = in.View, time.Now()
		} else {
			keepHashes(in.View, hashed)
		}
		if store {
			kept, storeAt = in.Backup, time.Now()
		}
		in.Backup, in.History = kept, history
		findings := health.Judge(in)
		history.Add(in.View)
		var page bytes.Buffer
		fmt.Fprintf(&page, "%s  every %v, Ctrl-C ends it\n", term.Time(in.Now), drawEvery)
		if err := k.report(in, findings).write(&page, in.Now); err != nil {
			return err
		}
		if err := screen.Draw(page.String()); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
		select {
		case <-k.c.ctx.Done():
			return k.c.ctx.Err()
		case <-tick.C:
		}
	}
}

// keepHashes puts the hashes of an earlier view into a new one: they are still what those members said of one revision.
func keepHashes(v, earlier *probe.View) {
	v.Hashed = true
	for i := range v.Answers {
		a := &v.Answers[i]
		if b := earlier.ByID(a.MemberID); a.Err == nil && b != nil && b.ClusterID == a.ClusterID {
			a.Hash, a.HashErr = b.Hash, b.HashErr
		}
	}
}
