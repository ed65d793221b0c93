package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/term"
	"etcd-steward/membership/probe"
)

func memberListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Aliases:   []string{"ls"},
		Usage:     "show the members, and what the cluster can still lose",
		UsageText: "steward member list [flags]",
		Description: `Asks every member at once, the ones that others name as well, for at most --timeout (5s by default). REACHABLE is
from here. LAG is how many raft entries the member has still to apply. Below the table stands what the cluster can still lose, and where members disagree:
that is a sign of two histories, and worth a look with steward health. It works with one member left and without quorum.

   steward member list
   steward member list --endpoints https://10.0.0.1:2379 -o json`,
		Action: action(listMembers),
	}
}

// memberList is the answer of `member list`.
type memberList struct {
	ClusterID string       `json:"cluster_id,omitempty"`
	Leader    string       `json:"leader,omitempty"` // ID in hex
	State     clusterState `json:"state"`
	Members   []memberRow  `json:"members"`
	// Disagreements are what members say differently from most.
	Disagreements []string `json:"disagreements,omitempty"`
	// Silent are endpoints that were given, answer nothing, and belong to no member that is known.
	Silent []string `json:"silent_endpoints,omitempty"`
}

func listMembers(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	access, err := c.access(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := c.within(lookTimeout)
	defer cancel()
	v, err := probe.Look(ctx, access, probe.Options{})
	if err != nil {
		return err
	}
	if len(v.Answering()) == 0 {
		return nobodyAnswers(v)
	}
	agreed := v.Agreed()
	l := memberList{ClusterID: fmt.Sprintf("%016x", agreed.ClusterID), State: stateOf(v), Members: memberRows(v)}
	if agreed.Leader != 0 {
		l.Leader = fmt.Sprintf("%016x", agreed.Leader)
	}
	for _, d := range agreed.Dissent {
		l.Disagreements = append(l.Disagreements, agreed.NameOf(d.Member)+": "+d.Text)
	}
	for _, a := range v.Answers {
		if a.Err != nil && a.Named == 0 {
			l.Silent = append(l.Silent, fmt.Sprintf("%s: %v", a.Endpoint, a.Err))
		}
	}
	return c.answer(l, func(w io.Writer) error { return memberTable(w, l, time.Now()) })
}

func memberTable(w io.Writer, l memberList, now time.Time) error {
	columns := term.Columns("id", "name", "role", "reachable", "version", ">db", ">lag", "certificate", "peer urls", "client urls")
	var rows [][]string
	var below problems
	for _, m := range l.Members {
		rows = append(rows, []string{
			m.ID, m.Name, m.Role, m.status(), m.Version, sizeOrNothing(m.DBSize), m.number(m.Lag), m.certificate(now), strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","),
		})
		below.add(m.label(), m.Problem)
	}
	for _, s := range l.Silent {
		below = append(below, term.Clean(s))
	}
	if err := term.Table(w, columns, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n%s.\n", l.State); err != nil {
		return err
	}
	for _, d := range l.Disagreements {
		if _, err := fmt.Fprintln(w, term.Clean("THEY DISAGREE: "+d)); err != nil {
			return err
		}
	}
	return below.write(w)
}

// lookTimeout bounds a look at a cluster when --timeout says nothing else.
const lookTimeout = 5 * time.Second

// within is the command's context, bounded by so long when --timeout was not given.
func (c *call) within(d time.Duration) (context.Context, context.CancelFunc) {
	if c.IsSet("timeout") {
		if d = c.Duration("timeout"); d <= 0 {
			return c.ctx, func() {}
		}
	}
	// A little is left for the answer.
	return context.WithTimeout(c.ctx, d-min(d/10, 300*time.Millisecond))
}

// access is how the cluster's members are reached.
func (c *call) access(cfg *config.Config) (probe.Access, error) {
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return probe.Access{}, fail.New(fail.Usage, err, "--cluster NAME")
	}
	etcd, err := cl.Etcd()
	if err != nil {
		return probe.Access{}, err
	}
	a := probe.Access{Endpoints: etcd.Endpoints, TLS: etcd.TLS, Username: etcd.Username, Password: etcd.Password}
	if d := c.Duration("timeout"); d > 0 {
		a.Timeout = min(2*time.Second, d*2/5)
	}
	return a, nil
}

// nobodyAnswers is the failure of a look at which nothing was seen.
func nobodyAnswers(v *probe.View) error {
	var all []string
	hint := ""
	for _, a := range v.Answers {
		all = append(all, fmt.Sprintf("%s: %v", a.Endpoint, a.Err))
		hint = cmp.Or(hint, fail.HintOf(a.Err))
	}
	return fail.New(fail.Failed, errors.New("no member can be asked: "+strings.Join(all, "; ")), hint)
}
