package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/rebuild/keys"
	"etcd-steward/internal/fail"
)

// keysGroup is what looks at raw etcd keys. What a value means is for others.
func keysGroup() *cli.Command {
	return group("keys", "look at keys at any restore point, without restoring anything", keysGetCommand(), keysHistoryCommand(), keysDiffCommand())
}

// rangeFlags are etcdctl's, for which keys are meant and what is shown of them.
func rangeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "prefix", Usage: "all keys that begin with KEY; without a KEY, all", DisableDefaultText: true},
		&cli.BoolFlag{Name: "from-key", Usage: "all keys from KEY on, in the order of their bytes", DisableDefaultText: true},
		&cli.BoolFlag{Name: "keys-only", Usage: "no values", DisableDefaultText: true},
		&cli.BoolFlag{Name: "hex", Usage: "keys and values in hex", DisableDefaultText: true},
	}
}

// keyRange are the keys that are asked for; one says that it can be a single one.
func (c *call) keyRange() (r keys.Range, one bool, err error) {
	args, err := c.args(0, 2, "a key")
	if err != nil {
		return r, false, err
	}
	prefix, from := c.Bool("prefix"), c.Bool("from-key")
	key := ""
	if len(args) > 0 {
		key = args[0]
	}
	switch {
	case prefix && from:
		return r, false, usage(c.Context, "--prefix and --from-key do not go together")
	case len(args) == 2 && (prefix || from):
		return r, false, usage(c.Context, "a range's end goes neither with --prefix nor with --from-key")
	case prefix:
		return keys.Prefix(key), false, nil
	case from:
		return keys.Range{Key: []byte(key), End: []byte{0}}, false, nil
	case key == "":
		return r, false, usage(c.Context, "a key is missing: give one, or --prefix for all")
	case len(args) == 2 && args[1] == "":
		return r, false, usage(c.Context, "a range's end cannot be empty: --from-key has none")
	case len(args) == 2:
		return keys.Range{Key: []byte(key), End: []byte(args[1])}, false, nil
	}
	return keys.Range{Key: []byte(key)}, true, nil
}

// rangeText is what was asked for, for messages.
func (c *call) rangeText() string {
	a := c.Args().Slice()
	switch {
	case c.Bool("prefix") && len(a) == 0:
		return "any key"
	case c.Bool("prefix"):
		return "a key that begins with " + visible([]byte(a[0]), false)
	case c.Bool("from-key") && len(a) == 0:
		return "any key"
	case c.Bool("from-key"):
		return "a key from " + visible([]byte(a[0]), false) + " on"
	case len(a) == 2:
		return "a key from " + visible([]byte(a[0]), false) + " to before " + visible([]byte(a[1]), false)
	}
	return "the key " + visible([]byte(a[0]), false)
}

// limit is --limit; 0 means all.
func (c *call) limit() (int, error) {
	n := c.Int("limit")
	if n < 0 || c.IsSet("limit") && n == 0 {
		return 0, usage(c.Context, "--limit %d: want 1 or more", n)
	}
	return n, nil
}

// viewOptions opens the repository for a look.
func (c *call) viewOptions() (backup.ViewOptions, error) {
	o := backup.ViewOptions{Note: func(n string) { c.note("%s", n) }}
	cfg, err := c.config()
	if err != nil {
		return o, err
	}
	if o.Identities, err = c.identities(cfg); err != nil {
		return o, err
	}
	if o.Scratch, err = c.spoolDir(cfg); err != nil {
		return o, err
	}
	o.Repo, err = c.existing(cfg)
	return o, err
}

// told prints which point is looked at, and what is not known of a time.
func (c *call) told(what string, p backup.Resolved) {
	c.note("%s%s", what, p)
	if doubt := p.Doubt(); doubt != "" {
		c.note("%s", doubt)
	}
	for _, n := range p.Notes {
		c.note("%s", n)
	}
}

// timeLayout is RFC 3339 with milliseconds, as precise as marks are.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// notThere is the answer that there is no such key: exit code 3.
func (c *call) notThere(where string) error {
	return fail.New(fail.Wanting, answered(fmt.Errorf("there is not %s %s", c.rangeText(), where)), "steward keys history shows what became of a key; `steward backup list` which points there are")
}
