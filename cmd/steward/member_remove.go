package main

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/membership"
)

func memberRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Aliases:   []string{"rm"},
		Usage:     "remove a member",
		UsageText: "steward member remove MEMBER [--force REASON] [flags]",
		Description: `MEMBER is a hexadecimal ID, a name or a URL; all three are shown before anything is done. The leadership is moved away first. On the
removed member's machine etcd is stopped and kept from starting, and its data renamed: at once if that is this machine, else by the command that is printed.

   steward member remove m3
   steward member remove 8e9e05c52164694d --force "m3 is sold"`,
		Flags:  []cli.Flag{forceFlag(), dryRunFlag(), spoolFlag(), stateFlag()},
		Action: action(memberRemove),
	}
}

func memberRemove(c *call) error {
	a, err := c.args(1, 1, "the MEMBER to remove")
	if err != nil {
		return err
	}
	m, err := c.change(host.Remove)
	if err != nil {
		return err
	}
	p, err := m.origin.Remove(a[0])
	if err != nil {
		return err
	}
	return m.carryOut(p, upperFirst(p.Title)+"?", func(b membership.Basis) (string, bool) { return m.party(b, b.Removes) })
}

// party is the part of a member's own machine, if that is this one.
func (m *change) party(b membership.Basis, id membership.ID) (string, bool) {
	for _, s := range b.Members {
		if s.ID == id && m.site.Host.Is(s) {
			return membership.PartyOf(s), true
		}
	}
	return "", false
}

func memberPromoteCommand() *cli.Command {
	return &cli.Command{
		Name:      "promote",
		Usage:     "make a learner a voter, when it has caught up",
		UsageText: "steward member promote MEMBER [flags]",
		Description: `Waits until the learner has all that the leader has (which is stricter than etcd's own rule), promotes it, and compares the data of all members.

   steward member promote m4`,
		Flags: []cli.Flag{forceFlag(), dryRunFlag(), spoolFlag(), stateFlag()},
		Action: action(func(c *call) error {
			a, err := c.args(1, 1, "the MEMBER to promote")
			if err != nil {
				return err
			}
			m, err := c.change(host.Other)
			if err != nil {
				return err
			}
			p, err := m.origin.Promote(a[0])
			if err != nil {
				return err
			}
			return m.carryOut(p, upperFirst(p.Title)+"?", nobodyHere)
		}),
	}
}

func memberUpdateCommand() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "tell the cluster that a member is at another peer URL",
		UsageText: "steward member update MEMBER PEER_URL [flags]",
		Description: `For a member whose address changed and whose data is there. On its machine etcd's configuration is rewritten and etcd restarted: at
once if that is this machine, else by the command that is printed. Several URLs are separated by commas.

   steward member update m1 https://10.0.0.1:2380`,
		Flags:  []cli.Flag{forceFlag(), dryRunFlag(), spoolFlag(), stateFlag()},
		Action: action(memberUpdate),
	}
}

func memberUpdate(c *call) error {
	a, err := c.args(2, 2, "the MEMBER and its new PEER_URL")
	if err != nil {
		return err
	}
	m, err := c.change(host.Other)
	if err != nil {
		return err
	}
	urls := strings.Split(a[1], ",")
	p, err := m.origin.Update(a[0], urls, c.listens(urls))
	if err != nil {
		return err
	}
	return m.carryOut(p, upperFirst(p.Title)+"?", func(b membership.Basis) (string, bool) { return m.party(b, b.Updates.ID) })
}

// listens says whether something listens at all of the URLs already.
func (c *call) listens(urls []string) bool {
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return false
		}
		conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(c.ctx, "tcp", u.Host)
		if err != nil {
			return false
		}
		_ = conn.Close()
	}
	return true
}

func memberMoveLeaderCommand() *cli.Command {
	return &cli.Command{
		Name:      "move-leader",
		Usage:     "move the leadership to another voter",
		UsageText: "steward member move-leader [MEMBER] [flags]",
		Description: `Without MEMBER it goes to the voter that has applied most. It waits until all members follow the new leader for some seconds.

   steward member move-leader m2`,
		Action: action(memberMoveLeader),
	}
}

func memberMoveLeader(c *call) error {
	a, err := c.args(0, 1, "")
	if err != nil {
		return err
	}
	if len(a) == 1 && a[0] == "" {
		return fail.New(fail.Usage, fmt.Errorf("an empty MEMBER"), "steward member list")
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	site, err := c.site(cfg)
	if err != nil {
		return err
	}
	to := ""
	if len(a) == 1 {
		to = a[0]
	}
	leader, err := site.MoveLeader(c.ctx, to, c.note)
	if err != nil {
		return err
	}
	return c.answer(leader, textAnswer("%s leads", leader))
}
