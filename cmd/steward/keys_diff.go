package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"etcd-steward/backup"
	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
)

func keysDiffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "compare two restore points, or one with the live cluster",
		UsageText: "steward keys diff [KEY [RANGE_END]] [--prefix] --from-revision REVISION | --from-time TIME | --from-id ID [--to-... | --live] [flags]",
		ArgsUsage: "[KEY [RANGE_END]]",
		Description: `Compares what a client would read: keys, values and leases. From one restore point (--from-...) to another (--id, --to-revision, --to-time, or the
newest), or to the running cluster (--live); --live without a --from-... begins at the newest point. Without a KEY, all keys. One line for each key
that differs, "-" gone, "+" new, "~" changed, and the values before and after. --exact also shows keys that were written again with the same value.
Nothing is restored.

   steward keys diff --from-time -1h --identity steward-identity.txt
   steward keys diff /registry/secrets/ --prefix --from-time -15m --live --keys-only --identity steward-identity.txt

Exits with 0 when nothing differs, with 3 when something does, and otherwise as every command.`,
		Flags: append(append(append(rangeFlags(), fromFlags()...),
			&cli.StringFlag{Name: "from-id", Usage: "begin at this snapshot `BACKUP`"},
			&cli.StringFlag{Name: "from-timeline", Usage: "the `TIMELINE` of the point to begin at, when it exists on several"},
			&cli.BoolFlag{Name: "live", Usage: "compare with the running cluster", DisableDefaultText: true},
			&cli.BoolFlag{Name: "exact", Usage: "also what was written again with the same value", DisableDefaultText: true},
		), append(pointFlags(), spoolFlag())...),
		Action: action(keysDiff),
	}
}

// sides are the two that are compared.
type sides struct {
	From backup.Resolved `json:"from"`
	To   any             `json:"to"` // a backup.Resolved, or a livePlace

	before, after iter.Seq2[changes.KeyValue, error]
	close         []func() error
}

func (s *sides) Close() (err error) {
	for _, f := range s.close {
		err = errors.Join(err, f())
	}
	return err
}

func keysDiff(c *call) (err error) {
	boundMemory()
	r := keys.Prefix("")
	if c.Args().Len() > 0 || c.Bool("prefix") || c.Bool("from-key") {
		if r, _, err = c.keyRange(); err != nil {
			return err
		}
	}
	s := &sides{}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := c.openSides(s, r); err != nil {
		return err
	}
	same := keys.SameValue
	if c.Bool("exact") {
		same = keys.Identical
	}
	out := c.differencePrinter(s)
	n := 0
	for d, err := range keys.Diff(s.before, s.after, same) {
		if err != nil {
			return err
		}
		n++
		if err := out.difference(&d); err != nil {
			return err
		}
	}
	if err := out.end(n); err != nil || n == 0 {
		return err
	}
	return fail.New(fail.Wanting, answered(fmt.Errorf("%d keys differ", n)), "steward keys history KEY shows when a key was changed")
}

// openSides finds both points before anything is downloaded.
func (c *call) openSides(s *sides, r keys.Range) error {
	from, err := c.pointOf(c.String("from-id"), "from")
	if err != nil {
		return err
	}
	to, err := c.point()
	if err != nil {
		return err
	}
	live := c.Bool("live")
	switch {
	case live && to != (backup.Point{}):
		return usage(c.Context, "--live is one side, --from-... the other: there is no room for --id or --to-...")
	case !live && from == (backup.Point{}):
		return usage(c.Context, "from where? Give --from-revision, --from-time or --from-id, or --live to compare the newest point with the running cluster")
	}
	o, err := c.viewOptions()
	if err != nil {
		return err
	}
	locate := backup.LocateOptions{Identities: o.Identities}
	a, err := backup.Locate(c.ctx, o.Repo, from, locate)
	if err != nil {
		return err
	}
	s.From = a.Resolved()
	c.told("from ", s.From)
	var b *backup.Located
	if !live {
		if b, err = backup.Locate(c.ctx, o.Repo, to, locate); err != nil {
			return err
		}
		s.To = b.Resolved()
		c.told("to ", b.Resolved())
	} else if err := c.openLive(s, a, r); err != nil {
		return err
	}
	progress, stop := c.bars()
	o.Progress = progress
	err = c.openViews(s, o, a, b, r)
	stop(err == nil)
	return err
}

// openViews fetches the snapshots, one that both points begin with once.
func (c *call) openViews(s *sides, o backup.ViewOptions, a, b *backup.Located, r keys.Range) error {
	v, err := backup.OpenView(c.ctx, a.Snapshot, o)
	if err != nil {
		return err
	}
	s.close = append(s.close, v.Close)
	s.before = v.Get(c.ctx, a, r)
	if b == nil {
		return nil
	}
	if b.Snapshot.ID != a.Snapshot.ID {
		if v, err = backup.OpenView(c.ctx, b.Snapshot, o); err != nil {
			return err
		}
		s.close = append(s.close, v.Close)
	}
	s.after = v.Get(c.ctx, b, r)
	return nil
}

// livePlace is the running cluster as a side.
type livePlace struct {
	Live      bool           `json:"live"`
	ClusterID repo.ClusterID `json:"cluster_id"`
	Revision  int64          `json:"revision"`
	Endpoints []string       `json:"endpoints"`
}

// liveTimeout bounds the first question to the cluster; the pages after it have only --timeout.
const liveTimeout = 5 * time.Second

// openLive connects to the cluster and fixes the revision at which it is read.
func (c *call) openLive(s *sides, a *backup.Located, r keys.Range) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return fail.New(fail.Usage, err, "--cluster NAME")
	}
	etcd, err := cl.Etcd()
	if err != nil {
		return err
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: etcd.Endpoints, TLS: etcd.TLS, Username: etcd.Username, Password: etcd.Password, DialTimeout: liveTimeout, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithNoProxy()}, Context: c.ctx,
	})
	if err != nil {
		return fmt.Errorf("connect to %v: %w", etcd.Endpoints, err)
	}
	s.close = append(s.close, cli.Close)
	ctx, cancel := context.WithTimeout(c.ctx, liveTimeout)
	defer cancel()
	resp, err := cli.Get(ctx, "\x00")
	if err != nil {
		return fail.New(fail.Failed, fmt.Errorf("ask %v for the newest revision: %w", etcd.Endpoints, err), "check --endpoints, --cacert, --cert and --key: steward config show")
	}
	at := livePlace{Live: true, ClusterID: repo.ClusterID(resp.Header.ClusterId), Revision: resp.Header.Revision, Endpoints: etcd.Endpoints}
	s.To = at
	c.note("to the cluster at %v, revision %d", etcd.Endpoints, at.Revision)
	if at.ClusterID != a.Timeline.Cluster {
		c.note("the running cluster %s is another one than that of the restore point, %s: its revisions mean something else", at.ClusterID, a.Timeline.Cluster)
	}
	s.after = keys.Live(c.ctx, cli, r, at.Revision)
	return nil
}

// differencePrinter writes the answer of `keys diff`.
type differencePrinter struct {
	difference func(*keys.Difference) error
	end        func(n int) error
}

func (c *call) differencePrinter(s *sides) differencePrinter {
	if c.json() {
		return c.differenceDocument(s)
	}
	w := bufio.NewWriter(c.stdout)
	return differencePrinter{
		difference: func(d *keys.Difference) error {
			sign, what := "~", ""
			switch {
			case d.Before == nil:
				sign, what = "+", fmt.Sprintf("revision %d", d.After.ModRevision)
			case d.After == nil:
				sign, what = "-", fmt.Sprintf("revision %d", d.Before.ModRevision)
			default:
				what = fmt.Sprintf("revision %d -> %d", d.Before.ModRevision, d.After.ModRevision)
				if d.Before.Lease != d.After.Lease {
					what += fmt.Sprintf(", lease %x -> %x", d.Before.Lease, d.After.Lease)
				}
			}
			_, err := fmt.Fprintf(w, "%s %s  (%s)\n", sign, c.text(d.Key, false), what)
			if d.Before != nil && !c.Bool("keys-only") && err == nil {
				_, err = fmt.Fprintf(w, "    - %s\n", c.short(d.Before.Value))
			}
			if d.After != nil && !c.Bool("keys-only") && err == nil {
				_, err = fmt.Fprintf(w, "    + %s\n", c.short(d.After.Value))
			}
			return err
		},
		end: func(int) error { return w.Flush() },
	}
}

// differenceJSON is one key that differs.
type differenceJSON struct {
	Key    []byte  `json:"key"`
	Change string  `json:"change"`
	Before *kvJSON `json:"before,omitempty"`
	After  *kvJSON `json:"after,omitempty"`
}

// differenceDocument is -o json.
func (c *call) differenceDocument(s *sides) differencePrinter {
	doc := newDocument(c.stdout, s, "differences")
	return differencePrinter{
		difference: func(d *keys.Difference) error {
			out := differenceJSON{Key: d.Key, Change: "changed", Before: c.kvJSON(d.Before), After: c.kvJSON(d.After)}
			switch {
			case d.Before == nil:
				out.Change = "added"
			case d.After == nil:
				out.Change = "removed"
			}
			return doc.add(out)
		},
		end: func(n int) error { return doc.end(counted{n}) },
	}
}
