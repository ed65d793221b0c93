package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

// pointFlags name a restore point; without any of them it is the newest that can be reached.
func pointFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "id", Usage: "the snapshot `BACKUP` alone (newest: the newest one), or with --to-revision the one to rebuild from"},
	}, momentFlags()...)
}

// momentFlags are pointFlags for a command whose argument is the backup.
func momentFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "to-revision", Usage: "the restore point is this `REVISION`"},
		&cli.StringFlag{Name: "to-time", Usage: "the restore point is the last revision at or before this `TIME`: 2006-01-02T15:04:05Z, or -15m"},
		&cli.StringFlag{Name: "timeline", Usage: "the `TIMELINE` of the restore point, when it exists on several"},
	}
}

// point reads the flags of pointFlags. Those that contradict each other are wrong usage.
func (c *call) point() (backup.Point, error) { return c.pointFrom(c.String("id")) }

// pointFrom is point for a backup that is named by an argument; "" when it is not.
func (c *call) pointFrom(id string) (backup.Point, error) { return c.pointOf(id, "to") }

// pointOf reads the flags of one of two restore points: "to", or "from".
func (c *call) pointOf(id, which string) (p backup.Point, err error) {
	byRevision, byTime, onLine := "--"+which+"-revision", "--"+which+"-time", "--timeline"
	if which != "to" {
		onLine = "--" + which + "-timeline"
	}
	rev, at, line := c.String(byRevision[2:]), c.String(byTime[2:]), c.String(onLine[2:])
	switch {
	case rev != "" && at != "":
		return p, usage(c.Context, "%s and %s are two restore points: give one of them", byRevision, byTime)
	case id != "" && at != "":
		return p, usage(c.Context, "a backup and %s are two restore points: give one of them", byTime)
	case id != "" && line != "":
		return p, usage(c.Context, "a backup is of one timeline: %s does not go with it", onLine)
	}
	if id != "" {
		p.ID = ids([]string{id})[0]
		if p.ID != backup.Newest {
			if _, err := repo.ParseSnapshotID(string(p.ID)); err != nil {
				return p, fail.New(fail.Usage, err, "steward backup list")
			}
		}
	}
	if line != "" {
		if p.Timeline, err = repo.ParseTimeline(strings.ToLower(line)); err != nil {
			return p, fail.New(fail.Usage, err, "steward backup list")
		}
	}
	if rev != "" {
		n, err := strconv.ParseInt(rev, 10, 64)
		if err != nil || n < 1 {
			return p, usage(c.Context, "%s %q: want a number from 1", byRevision, rev)
		}
		p.Revision = repo.Revision(n)
	}
	if at != "" {
		p.Time, err = cover.ParseTime(at, time.Now())
	}
	return p, err
}
