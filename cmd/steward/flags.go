package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
)

// part is a set of global flags that belong together. Every command accepts all of them, so that a script can always give the same;
// its help shows the parts that it uses.
type part uint

const (
	everywhere part = 1 << iota
	anyStore        // how an S3 store is reached
	anyEtcd         // how etcd is reached
	sealing         // to whom backups are encrypted
	opening         // with what they are decrypted
	asking          // --yes
	all        = everywhere | anyStore | anyEtcd | sealing | opening | asking
)

// A setting is a global flag that stands for a field of the configuration, and the variable that does the same.
type setting struct {
	flag, field, env string
	part             part
	usage            string
	kind             settingKind
}

type settingKind int

const (
	text settingKind = iota
	list
	toggle
)

// settings are in order of their parts. Those of etcd have etcdctl's names; its variables are read by the configuration itself.
var settings = []setting{
	{"store", "store", "STEWARD_STORE", everywhere, "`URL` of the store: s3://bucket/prefix or file:///path", text},
	{"s3-endpoint", "s3.endpoint", "STEWARD_S3_ENDPOINT", anyStore, "`URL` of the S3 server, when it is not AWS", text},
	{"s3-region", "s3.region", "STEWARD_S3_REGION", anyStore, "`REGION` of the bucket", text},
	{"s3-ca-file", "s3.ca_file", "STEWARD_S3_CA_FILE", anyStore, "`FILE` with the only authorities to trust for the S3 server", text},
	{"s3-profile", "s3.profile", "STEWARD_S3_PROFILE", anyStore, "`PROFILE` of the shared AWS files to take keys from", text},
	{"s3-path-style", "s3.path_style", "", anyStore, "address buckets as endpoint/bucket", toggle},
	{"recipient", "encryption.recipients", "STEWARD_RECIPIENTS", sealing, "age public `KEY` to encrypt to; may be repeated", list},
	{"no-encryption", "encryption.none", "", sealing, "write backups that anybody with access to the store can read", toggle},
	{"endpoints", "cluster.endpoints", "", anyEtcd, "client `URLS` of etcd, separated by commas [$ETCDCTL_ENDPOINTS]", list},
	{"cacert", "cluster.tls.ca", "", anyEtcd, "`FILE` with etcd's certificate authorities [$ETCDCTL_CACERT]", text},
	{"cert", "cluster.tls.cert", "", anyEtcd, "`FILE` with the client certificate [$ETCDCTL_CERT]", text},
	{"key", "cluster.tls.key", "", anyEtcd, "`FILE` with the client certificate's key [$ETCDCTL_KEY]", text},
	{"user", "cluster.username", "", anyEtcd, "`NAME` to authenticate with; its password comes from --password-file or [$ETCDCTL_USER, $ETCDCTL_PASSWORD]", text},
	{"password-file", "cluster.password_file", "", anyEtcd, "`FILE` with the password", text},
}

var partNames = map[part]string{anyStore: "S3", anyEtcd: "etcd", sealing: "encryption", opening: "encryption", everywhere: "everywhere", asking: "everywhere"}

// globalFlags are the global flags, of which those outside of `shown` are accepted but not shown.
func globalFlags(shown part) []cli.Flag {
	hidden := func(p part) bool { return shown&p == 0 }
	flags := []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` (default: " + config.DefaultPath + ", if there is one) [$STEWARD_CONFIG]", Category: "everywhere"},
		&cli.StringFlag{Name: "cluster", Usage: "`NAME` of the cluster in the configuration and in the store [$STEWARD_CLUSTER]", Category: "everywhere"},
		&cli.StringFlag{Name: "etcd", Usage: "`NAME` of this machine's etcd, where there are several: its unit's or its pod's", Category: "etcd", Hidden: hidden(anyEtcd)},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json", Category: "everywhere"},
		&cli.DurationFlag{Name: "timeout", Usage: "give up after this `DURATION`, as in 30m", DefaultText: "never", Category: "everywhere"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask", Category: "everywhere", Hidden: hidden(asking), DisableDefaultText: true},
		&cli.GenericFlag{Name: "identity", Value: &words{}, Usage: "`FILE` with an age identity to decrypt with; may be repeated [$STEWARD_IDENTITY]", Category: "encryption", Hidden: hidden(opening)},
	}
	for _, s := range settings {
		usage := s.usage
		if s.env != "" {
			usage += " [$" + s.env + "]"
		}
		switch s.kind {
		case text:
			flags = append(flags, &cli.StringFlag{Name: s.flag, Usage: usage, Category: partNames[s.part], Hidden: hidden(s.part)})
		case list:
			flags = append(flags, &cli.GenericFlag{Name: s.flag, Value: &words{}, Usage: usage, Category: partNames[s.part], Hidden: hidden(s.part)})
		case toggle:
			flags = append(flags, &cli.BoolFlag{Name: s.flag, Usage: usage, Category: partNames[s.part], Hidden: hidden(s.part), DisableDefaultText: true})
		}
	}
	return flags
}

// words is the value of a flag that may be repeated; each value may be a list with commas.
type words []string

// Set implements flag.Value.
func (w *words) Set(text string) error {
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s == "" {
			return errors.New("an empty value")
		}
		*w = append(*w, s)
	}
	return nil
}

// String implements flag.Value.
func (w *words) String() string { return strings.Join(*w, ",") }

func wordsOf(c *cli.Context, flag string) []string {
	if w, ok := c.Generic(flag).(*words); ok && w != nil {
		return *w
	}
	return nil
}

// overrides are the settings that were given, as flags or in the environment; a flag wins.
func overrides(c *cli.Context, lookup func(string) (string, bool)) []config.Flag {
	var given []config.Flag
	for _, s := range settings {
		value, name := "", "--"+s.flag
		switch {
		case c.IsSet(s.flag) && s.kind == toggle:
			value = fmt.Sprint(c.Bool(s.flag))
		case c.IsSet(s.flag) && s.kind == list:
			value = strings.Join(wordsOf(c, s.flag), ",")
		case c.IsSet(s.flag):
			value = c.String(s.flag)
		case s.env != "":
			value, _ = lookup(s.env)
			if name = "environment " + s.env; value == "" {
				continue
			}
		default:
			continue
		}
		given = append(given, config.Flag{Name: name, Field: s.field, Value: value})
	}
	return given
}

// wrongFlag turns the flag parser's complaint into one of ours, with a suggestion for a flag that does not exist.
func wrongFlag(c *cli.Context, err error) error {
	hint := c.Command.HelpName + " --help"
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		var names []string
		for _, f := range c.Command.VisibleFlags() {
			names = append(names, f.Names()...)
		}
		if best := resembling(name, names); best != "" {
			hint = fmt.Sprintf("did you mean --%s? `%s` lists all flags", best, hint)
		}
		err = fmt.Errorf("`%s` has no flag --%s", c.Command.HelpName, name)
	}
	return fail.New(fail.Usage, err, hint)
}
