package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/maintain"
)

func alarmListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "show the alarms that etcd has raised",
		UsageText: "steward alarm list [flags]",
		Description: `An alarm holds for the whole cluster, whichever member raised it, also when that member is gone. NOSPACE: a database reached its quota, and
etcd refuses writes. CORRUPT: members' data differ, and etcd refuses everything. Exit code 3 says that there are alarms.

   steward alarm list`,
		Action: action(listAlarms),
	}
}

func alarmDisarmCommand() *cli.Command {
	return &cli.Command{
		Name:      "disarm",
		Usage:     "take alarms away whose cause is gone",
		UsageText: "steward alarm disarm [flags]",
		Description: `NOSPACE is taken away when every database is below 90 % of its quota: ` + "`steward nospace`" + ` makes the room. CORRUPT only when all members' data
are equal by etcd's own hash. Alarms of members that are gone are taken away like the others.

   steward alarm disarm
   steward alarm disarm --kind NOSPACE`,
		Flags:  []cli.Flag{&cli.StringFlag{Name: "kind", Usage: "only alarms of this `KIND`: NOSPACE or CORRUPT"}, rehearseFlag(), reasonFlag()},
		Action: action(disarmAlarms),
	}
}

func listAlarms(c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	_, v, err := c.maintenance(cfg)
	if err != nil {
		return err
	}
	alarms := maintain.Alarms(v)
	if err := c.answer(map[string]any{"alarms": alarms}, func(w io.Writer) error { return alarmTable(w, alarms) }); err != nil {
		return err
	}
	if len(alarms) == 0 {
		return nil
	}
	return fail.New(fail.Wanting, answered(fmt.Errorf("%s raised", term.Counted(len(alarms), "alarm is", "alarms are"))), alarmHint(alarms))
}

// alarmHint is about CORRUPT first: nothing else is done while it is raised.
func alarmHint(alarms []maintain.Alarm) string {
	if alarms[0].Kind == "CORRUPT" { // they are in the order of their kinds
		return "steward health says which member differs; when all are equal again: steward alarm disarm"
	}
	return "steward nospace"
}

func alarmTable(w io.Writer, alarms []maintain.Alarm) error {
	if len(alarms) == 0 {
		_, err := fmt.Fprintln(w, "no alarm is raised")
		return err
	}
	var rows [][]string
	for _, a := range alarms {
		note := ""
		if a.Gone {
			note = "its member is gone"
		}
		rows = append(rows, []string{a.Kind, a.Name, a.ID, note})
	}
	return term.Table(w, term.Columns("kind", "member", "id", "note"), rows)
}

func disarmAlarms(c *call) error {
	kind := strings.ToUpper(c.String("kind"))
	if kind != "" && kind != "NOSPACE" && kind != "CORRUPT" {
		return usage(c.Context, "--kind %s: want NOSPACE or CORRUPT", c.String("kind"))
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cluster, _, err := c.maintenance(cfg)
	if err != nil {
		return err
	}
	v, err := cluster.LookForDisarm(c.ctx)
	if err != nil {
		return err
	}
	alarms := []maintain.Alarm{}
	for _, a := range maintain.Alarms(v) {
		if kind == "" || a.Kind == kind {
			alarms = append(alarms, a)
		}
	}
	answer := func(what string) error {
		return c.answer(map[string]any{"disarmed": alarms, "dry_run": c.Bool("dry-run")}, func(w io.Writer) error {
			if len(alarms) > 0 {
				if _, err := fmt.Fprintln(w, what); err != nil {
					return err
				}
			}
			return alarmTable(w, alarms)
		})
	}
	if len(alarms) == 0 {
		return answer("")
	}
	if err := c.passed(maintain.GatesOfDisarm(v, alarms)); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return answer("would be disarmed:")
	}
	if err := cluster.Disarm(c.ctx, v, alarms); err != nil {
		return err
	}
	if v, err = cluster.Look(c.ctx); err != nil {
		return err
	}
	for _, again := range maintain.Alarms(v) {
		for _, a := range alarms {
			if a == again {
				return fail.Hint(fmt.Errorf("alarm %s of %s is raised again", a.Kind, a.Name), "its cause is not gone: steward nospace, or steward health")
			}
		}
	}
	return answer("disarmed:")
}
