package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
	"etcd-steward/internal/term"
	"etcd-steward/membership/maintain"
	"etcd-steward/membership/probe"
)

// reasonFlag is --force where nothing is kept but what the command says.
func reasonFlag() cli.Flag {
	return &cli.StringFlag{Name: "force", Usage: "do it although a condition that may be passed is not met, for this `REASON`"}
}

func rehearseFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing", DisableDefaultText: true}
}

func pauseFlag() cli.Flag {
	return &cli.DurationFlag{Name: "pause", Value: maintain.DefaultPause, Usage: "`DURATION` between two members"}
}

// maintenance is what the commands of maintenance begin with.
func (c *call) maintenance(cfg *config.Config) (*maintain.Cluster, *probe.View, error) {
	if _, err := c.args(0, 0, ""); err != nil {
		return nil, nil, err
	}
	if c.IsSet("force") && strings.TrimSpace(c.String("force")) == "" {
		return nil, nil, usage(c.Context, "--force wants a reason, as in --force \"m3 is dead for good\"")
	}
	if c.Duration("pause") < 0 {
		return nil, nil, usage(c.Context, "--pause %v: want 0 or more", c.Duration("pause"))
	}
	access, err := c.access(cfg)
	if err != nil {
		return nil, nil, err
	}
	cluster := &maintain.Cluster{Access: access, Say: func(line string) { c.note("%s", line) }, Rooms: roomsHere}
	v, err := cluster.Look(c.ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(v.Answering()) == 0 {
		return nil, nil, nobodyAnswers(v)
	}
	return cluster, v, nil
}

// maintenanceLock is who defragments; maintenanceTTL, how long one that was killed keeps others out.
const (
	maintenanceLock = "maintenance"
	maintenanceTTL  = 30 * time.Second
	maintenanceAsks = 15 * time.Second // how long a store that does not answer is waited for
)

// alone keeps a second operator's defragmentation out while f runs, through the store: two at once could stop two members at the same moment. Where there is no
// store, or it cannot be asked, that is up to the operators: a full etcd must not wait for it.
func (c *call) alone(cfg *config.Config, f func() error) error {
	if cfg.Store == "" {
		return f()
	}
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	asking := time.AfterFunc(maintenanceAsks, func() { cancel(fmt.Errorf("no answer within %v", maintenanceAsks)) })
	bounded := *c
	bounded.ctx = ctx
	r, err := bounded.existing(cfg)
	if err == nil {
		lock := &planLock{store: r.Store(), machine: plan.Machine{Host: hostname()}, ttl: maintenanceTTL}
		var release func()
		if _, release, err = lock.Hold(ctx, maintenanceLock); err == nil {
			asking.Stop()
			defer release()
			return f()
		}
	}
	if held := new(plan.HeldError); errors.As(err, &held) {
		return fail.Refused(fmt.Errorf("another defragmentation of this cluster is under way: %w", held), "wait for it to end, then the same again")
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	c.note("warning: the store cannot be used to keep a second operator out: %v", err)
	return f()
}

// passed refuses what is closed, and says what was forced.
func (c *call) passed(gates []maintain.Gate) error {
	forced, err := maintain.Pass(gates, c.String("force"))
	for _, line := range forced {
		c.note("warning: %s", line)
	}
	return err
}

// recordedThrough is up to which revision the change log of this cluster holds everything; 0 when no store is configured, or it holds none of this cluster.
// A store that cannot be asked is an error: a compaction could make a gap.
func (c *call) recordedThrough(cfg *config.Config, v *probe.View) (int64, error) {
	if cfg.Store == "" {
		return 0, nil
	}
	r, err := c.existing(cfg)
	if err != nil {
		return 0, err
	}
	mark, ok, err := r.LatestRecorded(c.ctx)
	if err != nil || !ok || uint64(mark.Timeline.Cluster) != v.Agreed().ClusterID || mark.Ended != "" {
		return 0, err
	}
	return int64(mark.Through), nil
}

// recordedOrForced is recordedThrough, which --force makes optional when the store cannot be asked. What the store says counts also with --force: the reason may
// be for something else, such as a member that is away.
func (c *call) recordedOrForced(cfg *config.Config, v *probe.View) (int64, error) {
	through, err := c.recordedThrough(cfg, v)
	switch {
	case err == nil:
		return through, nil
	case c.IsSet("force"):
		c.note("warning: the store cannot be asked how far the change log is: %v", err)
		return 0, nil
	}
	return 0, fail.Hint(fmt.Errorf("find out how far the change log is: %w", err), `a compaction beyond it would make a gap; --force "REASON" does not look`)
}

// percent reads 45, 45% or 0.45.
func percent(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), "%"), 64)
	if err == nil && v > 1 || strings.HasSuffix(text, "%") {
		v /= 100
	}
	if err != nil || v < 0 || v > 1 {
		return 0, errors.New("want a share of the file, as in 45%")
	}
	return v, nil
}

// sizeRows are members' databases for a table.
func sizeRows(sizes []maintain.Size) [][]string {
	var rows [][]string
	for _, s := range sizes {
		row := []string{s.Name, term.Bytes(s.Size), term.Bytes(s.InUse), "", ""}
		if s.Quota > 0 {
			row[3], row[4] = term.Bytes(s.Quota), fmt.Sprintf("%.0f %%", 100*float64(s.Size)/float64(s.Quota))
		}
		rows = append(rows, row)
	}
	return rows
}
