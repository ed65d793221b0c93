package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/backup/repo"
)

func keysHistoryCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "show how keys came to be what they are",
		UsageText: "steward keys history KEY [RANGE_END] [--prefix] [--from-time TIME] [--to-time TIME] [flags]",
		ArgsUsage: "KEY [RANGE_END]",
		Description: `Every change that is still there, oldest first, one line each: its revision, by when it had been seen, put or delete, the key, and the beginning of
the value. It goes back as far as one snapshot and the change log behind it reach; a key that was not changed since then shows its last change before.
With --from-time or --from-revision, less is fetched. Nothing is restored.

   steward keys history /registry/deployments/default/web --identity steward-identity.txt
   steward keys history /registry/secrets/ --prefix --from-time -2h --keys-only --identity steward-identity.txt

Exits with 3 when there is no change.`,
		Flags: append(append(append(rangeFlags(), fromFlags()...),
			&cli.IntFlag{Name: "limit", Usage: "at most this `NUMBER` of changes, the newest ones", DefaultText: "all"},
		), append(pointFlags(), spoolFlag())...),
		Action: action(keysHistory),
	}
}

// fromFlags name the point where something begins.
func fromFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "from-revision", Usage: "begin with this `REVISION`"},
		&cli.StringFlag{Name: "from-time", Usage: "begin at this `TIME`: 2006-01-02T15:04:05Z, or -15m"},
	}
}

func keysHistory(c *call) error {
	boundMemory()
	r, _, err := c.keyRange()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	until, err := c.point()
	if err != nil {
		return err
	}
	since, err := c.pointOf("", "from")
	if err != nil {
		return err
	}
	o, err := c.viewOptions()
	if err != nil {
		return err
	}
	s, err := backup.LocateSpan(c.ctx, o.Repo, since, until, backup.LocateOptions{Identities: o.Identities})
	if err != nil {
		return err
	}
	if s.Current != (repo.Timeline{}) {
		c.note("history of timeline %s, not of the current %s", s.Timeline, s.Current)
	}
	progress, stop := c.bars()
	o.Progress = func(stage string, done, total int64) {
		progress(stage, done, total)
		if stage == "fetch" && done == total {
			stop(true) // what comes now is printed
		}
	}
	n, err := c.printChanges(s, backup.History(c.ctx, s, r, o), limit)
	stop(err == nil)
	if err != nil {
		return err
	}
	if s.First < s.Complete && s.Complete > 1 {
		c.note("complete from revision %d on; of what was before, only each key's last change is there", s.Complete)
	}
	if n == 0 {
		return c.notThere(fmt.Sprintf("among the changes of the revisions %d to %d", max(s.First, 1), s.Last))
	}
	return nil
}

// printChanges prints the changes as they come, or the last ones of them.
func (c *call) printChanges(s *backup.Span, changes func(func(keys.Change, error) bool), limit int) (n int, err error) {
	out := c.changePrinter(s)
	var kept []keys.Change // a ring, when there is a limit
	for ch, err := range changes {
		if err != nil {
			return n, err
		}
		n++
		switch {
		case limit == 0:
			err = out.change(ch)
		case len(kept) < limit:
			kept = append(kept, own(ch))
		default:
			kept[(n-1)%limit] = own(ch)
		}
		if err != nil {
			return n, err
		}
	}
	for i := range kept {
		if err := out.change(kept[(max(0, n-limit)+i)%limit]); err != nil {
			return n, err
		}
	}
	if len(kept) < n && limit > 0 {
		c.note("%d older ones are not shown: --limit %d", n-len(kept), limit)
	}
	if limit > 0 {
		return n, out.end(len(kept))
	}
	return n, out.end(n)
}

// own is a change whose bytes are its own.
func own(ch keys.Change) keys.Change {
	ch.KeyValue.Key, ch.KeyValue.Value = bytes.Clone(ch.KeyValue.Key), bytes.Clone(ch.KeyValue.Value)
	return ch
}

// changePrinter writes the answer of `keys history`.
type changePrinter struct {
	change func(keys.Change) error
	end    func(n int) error
}

func (c *call) changePrinter(s *backup.Span) changePrinter {
	if c.json() {
		return c.changeDocument(s)
	}
	w := bufio.NewWriter(c.stdout)
	width := max(len("revision"), len(fmt.Sprint(s.Last)))
	head := false
	return changePrinter{
		change: func(ch keys.Change) error {
			if !head {
				head = true
				if _, err := fmt.Fprintf(w, "%*s  %-24s  %-6s  %s\n", width, "REVISION", "SEEN", "CHANGE", "KEY, VALUE"); err != nil {
					return err
				}
			}
			return c.changeLine(w, width, ch)
		},
		end: func(int) error { return w.Flush() },
	}
}

func (c *call) changeLine(w io.Writer, width int, ch keys.Change) error {
	what, value := "put", ""
	switch {
	case ch.Deleted:
		what = "delete"
	case !c.Bool("keys-only"):
		value = "  " + c.short(ch.KeyValue.Value)
	}
	_, err := fmt.Fprintf(w, "%*d  %-24s  %-6s  %s%s\n", width, ch.Revision, seen(ch.Time.After, ch.Time.By), what, c.text(ch.KeyValue.Key, false), value)
	return err
}

// seen is by when a change was seen, or, when only that is known, after when.
func seen(after, by time.Time) string {
	switch {
	case !by.IsZero():
		return by.UTC().Format(timeLayout)
	case !after.IsZero():
		return ">" + after.UTC().Format("2006-01-02T15:04:05.00Z07:00")
	}
	return "-"
}

// changeJSON is one change.
type changeJSON struct {
	Revision  repo.Revision `json:"revision"`
	Sub       int64         `json:"sub"`
	Type      string        `json:"type"`
	SeenAfter time.Time     `json:"seen_after,omitzero"`
	SeenBy    time.Time     `json:"seen_by,omitzero"`
	KV        *kvJSON       `json:"kv"`
}

// changeDocument is -o json.
func (c *call) changeDocument(s *backup.Span) changePrinter {
	d := newDocument(c.stdout, s, "changes")
	return changePrinter{
		change: func(ch keys.Change) error {
			out := changeJSON{Revision: ch.Revision, Sub: ch.Sub, Type: "PUT", SeenAfter: ch.Time.After, SeenBy: ch.Time.By, KV: c.kvJSON(&ch.KeyValue)}
			if ch.Deleted {
				out.Type = "DELETE"
			}
			return d.add(out)
		},
		end: func(n int) error { return d.end(counted{n}) },
	}
}
