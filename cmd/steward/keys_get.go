package main

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/changes"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/internal/term"
)

func keysGetCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "print keys and values as they were at a restore point",
		UsageText: "steward keys get KEY [RANGE_END] [--prefix] [--to-revision REVISION | --to-time TIME | --id ID] [flags]",
		ArgsUsage: "KEY [RANGE_END]",
		Description: `Fetches the snapshot before the restore point, and the change log from there on, and reads them: nothing is restored, no etcd is asked.
Without a restore point it is the newest that was recorded. A key, then its value, a line each, with what cannot be printed as \xNN.
--print-value-only gives a single key's value as it is when the output is no terminal, so that it can be put back:

   steward keys get /registry/configmaps/default/a --to-time -15m --identity steward-identity.txt
   steward keys get /registry/secrets/ --prefix --keys-only --to-revision 4790113 --identity steward-identity.txt
   steward keys get KEY --print-value-only --identity steward-identity.txt | etcdctl put KEY

Exits with 3 when there is no such key at that point.`,
		Flags: append(append(rangeFlags(),
			&cli.BoolFlag{Name: "print-value-only", Usage: "only values", DisableDefaultText: true},
			&cli.IntFlag{Name: "limit", Usage: "at most this `NUMBER` of keys", DefaultText: "all"},
		), append(pointFlags(), spoolFlag())...),
		Action: action(keysGet),
	}
}

func keysGet(c *call) error {
	boundMemory()
	r, one, err := c.keyRange()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	if c.Bool("keys-only") && c.Bool("print-value-only") {
		return usage(c.Context, "--keys-only and --print-value-only leave nothing to print")
	}
	p, err := c.point()
	if err != nil {
		return err
	}
	o, err := c.viewOptions()
	if err != nil {
		return err
	}
	l, err := backup.Locate(c.ctx, o.Repo, p, backup.LocateOptions{Identities: o.Identities})
	if err != nil {
		return err
	}
	c.told("", l.Resolved())
	progress, stop := c.bars()
	o.Progress = progress
	v, err := backup.OpenView(c.ctx, l.Snapshot, o)
	stop(err == nil)
	if err != nil {
		return err
	}
	n, err := c.printKeys(v, l, r, limit, c.keyPrinter(l, one))
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	if n == 0 {
		return c.notThere(fmt.Sprintf("at revision %d", l.Revision))
	}
	return nil
}

// printKeys prints up to limit keys, and counts them.
func (c *call) printKeys(v *backup.View, l *backup.Located, r keys.Range, limit int, out keyPrinter) (n int, err error) {
	more := false
	for kv, err := range v.Get(c.ctx, l, r) {
		if err != nil {
			return n, err
		}
		if more = limit > 0 && n == limit; more {
			break
		}
		n++
		if err := out.key(&kv); err != nil {
			return n, err
		}
	}
	if more && !c.json() {
		c.note("there are more: --limit %d", limit)
	}
	return n, out.end(n, more)
}

// keyPrinter writes the answer of `keys get`.
type keyPrinter struct {
	key func(*changes.KeyValue) error
	end func(n int, more bool) error
}

func (c *call) keyPrinter(l *backup.Located, one bool) keyPrinter {
	if c.json() {
		return c.keyDocument(l)
	}
	w := bufio.NewWriter(c.stdout)
	lines := !c.Bool("hex")
	end := func(int, bool) error { return w.Flush() }
	switch raw := !term.IsTerminal(c.stdout) && !c.Bool("hex"); {
	case c.Bool("print-value-only") && raw && one:
		return keyPrinter{func(kv *changes.KeyValue) error { _, err := w.Write(kv.Value); return err }, end}
	case c.Bool("print-value-only") && raw:
		return keyPrinter{func(kv *changes.KeyValue) error { _, err := fmt.Fprintf(w, "%s\n", kv.Value); return err }, end}
	case c.Bool("print-value-only"):
		return keyPrinter{func(kv *changes.KeyValue) error { _, err := fmt.Fprintln(w, c.text(kv.Value, lines)); return err }, end}
	case c.Bool("keys-only"):
		return keyPrinter{func(kv *changes.KeyValue) error { _, err := fmt.Fprintln(w, c.text(kv.Key, false)); return err }, end}
	}
	return keyPrinter{func(kv *changes.KeyValue) error {
		_, err := fmt.Fprintf(w, "%s\n%s\n", c.text(kv.Key, false), c.text(kv.Value, lines))
		return err
	}, end}
}

// keyDocument is -o json.
func (c *call) keyDocument(l *backup.Located) keyPrinter {
	d := newDocument(c.stdout, l.Resolved(), "kvs")
	return keyPrinter{
		key: func(kv *changes.KeyValue) error { return d.add(c.kvJSON(kv)) },
		end: func(n int, more bool) error {
			return d.end(struct {
				counted
				More bool `json:"more"`
			}{counted{n}, more})
		},
	}
}
