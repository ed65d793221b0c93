package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/term"
	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

func healthCommand() *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "say what is wrong with the cluster and its backups, and what to do",
		UsageText: "steward health [--watch] [flags]",
		Description: `Asks every member at once, the ones that others name as well, and the store; in all for at most --timeout (5s by
default), also when some swallow every packet. Each finding has its severity, what was seen, and the next command to type; docs/HEALTH.md explains them.
Members' data is compared (HashKV at one revision), which is the only sign of a cluster that has silently split; of a large database that takes more time.
Exits with 0 when nothing is worse than info, with 3 when something is, with 1 when no member could be asked.

   steward health
   steward health --timeout 1m -o json
   steward health --watch`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "draw it again every 2 seconds, until Ctrl-C; what a look back shows is found, too", DisableDefaultText: true},
		},
		Action: action(showHealth),
	}
}

func showHealth(c *call) error {
	if _, err := c.args(0, 0, ""); err != nil {
		return err
	}
	if err := c.watchable(); err != nil {
		return err
	}
	k, err := newCheckup(c)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		return k.watch()
	}
	in, err := k.look(true, true)
	if err != nil {
		return err
	}
	findings := health.Judge(in)
	r := k.report(in, findings)
	if err := c.answer(r, func(w io.Writer) error { return r.write(w, in.Now) }); err != nil {
		return err
	}
	return verdict(in.View, findings)
}

// verdict is the exit code.
func verdict(v *probe.View, findings []health.Finding) error {
	if len(v.Answering()) == 0 {
		return answered(nobodyAnswers(v))
	}
	if health.Worst(findings) == health.Info {
		return nil
	}
	return fail.New(fail.Wanting, answered(errors.New(tally(findings))), findings[0].Next)
}

// tally is how many findings of which severity there are.
func tally(findings []health.Finding) string {
	n := map[health.Severity]int{}
	for _, f := range findings {
		n[f.Severity]++
	}
	text := ""
	for _, s := range []struct {
		severity  health.Severity
		one, more string
	}{{health.Critical, "critical finding", "critical findings"}, {health.Warning, "warning", "warnings"}} {
		if n[s.severity] > 0 {
			if text != "" {
				text += ", "
			}
			text += term.Counted(n[s.severity], s.one, s.more)
		}
	}
	return text
}

// checkup is all that looks of one run share.
type checkup struct {
	c            *call
	cfg          *config.Config
	cluster      *config.Cluster
	access       probe.Access
	certificates []health.Certificate
	machine      *host.Machine
	asking       chan *health.Backup // a question to the store that is not answered yet
}

func newCheckup(c *call) (*checkup, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	k := &checkup{c: c, cfg: cfg}
	if k.access, err = c.access(cfg); err != nil {
		return nil, err
	}
	if k.cluster, err = cfg.Cluster(c.cluster()); err != nil {
		return nil, fail.New(fail.Usage, err, "--cluster NAME")
	}
	k.certificates, k.machine = health.OfFiles(k.cluster.TLS.CA, k.cluster.TLS.Cert), host.Detect("/")
	return k, nil
}

// look asks the members and, side by side, the store.
func (k *checkup) look(hash, store bool) (health.Input, error) {
	ctx, cancel := k.c.within(lookTimeout)
	defer cancel()
	in := health.Input{Certificates: k.certificates}
	var wg sync.WaitGroup
	if store {
		wg.Go(func() { in.Backup = k.backupWithin(ctx, k.backup) })
	}
	v, err := probe.Look(ctx, k.access, probe.Options{Hash: hash, Metrics: true})
	wg.Wait()
	if err != nil {
		return in, err
	}
	in.View, in.Now = v, time.Now()
	in.Certificates = slices.Concat(k.certificates, health.OfServers(v.ServerFiles(k.machine)))
	return in, nil
}

// healthReport is the answer of `health`.
type healthReport struct {
	Time      time.Time        `json:"time"`
	Cluster   string           `json:"cluster"`
	ClusterID string           `json:"cluster_id,omitempty"`
	Verdict   health.Severity  `json:"verdict"` // the worst severity
	State     clusterState     `json:"state"`
	Members   []memberRow      `json:"members"`
	Backup    *backupReport    `json:"backup"`
	Findings  []health.Finding `json:"findings"`
}

func (k *checkup) report(in health.Input, findings []health.Finding) healthReport {
	if findings == nil {
		findings = []health.Finding{}
	}
	r := healthReport{Time: in.Now.UTC().Truncate(time.Millisecond), Cluster: k.cluster.Name, Verdict: health.Worst(findings), State: stateOf(in.View), Members: memberRows(in.View), Findings: findings}
	if id := in.View.Agreed().ClusterID; id != 0 {
		r.ClusterID = fmt.Sprintf("%016x", id)
	}
	if in.Backup != nil && in.Backup.Configured && in.Backup.Err == nil {
		r.Backup = newBackupReport(in.Backup)
	}
	return r
}
