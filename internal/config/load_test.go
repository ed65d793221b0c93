package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/internal/fail"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// small is the smallest config that a daemon runs with.
const small = "store: s3://bucket/prefix\nencryption: {recipients: [" + recipient + "]}\n"

// write puts a config in a file of mode 0600 and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "steward.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func noEnv(string) (string, bool) { return "", false }

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// resolve reads text as a daemon would, on a machine without etcd.
func resolve(t *testing.T, text string, opts Options) (*Config, error) {
	t.Helper()
	opts.Path, opts.Root = write(t, text), t.TempDir()
	if opts.LookupEnv == nil {
		opts.LookupEnv = noEnv
	}
	return Resolve(opts)
}

// TestErrors: whatever is wrong, the message names the line, and the exit code is that of wrong usage.
func TestErrors(t *testing.T) {
	two := "clusters:\n- name: a\n  endpoints: ['https://a:2379']\n- name: b\n  endpoints: ['https://b:2379']\n"
	for _, c := range []struct{ name, text, want string }{
		{"unknown", "store: s3://b\nencryption:\n  recipient: x\n", `3: unknown field "recipient" in encryption (did you mean "recipients"?)`},
		{"unknown at the top", "stroe: s3://b\n", `1: unknown field "stroe" (did you mean "store"?)`},
		{"unknown, nothing near", "encryption: {quux: 1}\n", `1: unknown field "quux" in encryption: known are identity_file, none, recipients, recipients_file`},
		{"unknown in a cluster", two + "  snapshot: {shedule: x}\n", `6: unknown field "shedule" in snapshot (did you mean "schedule"?)`},
		{"unknown beside a name", "clusters:\n- naem: a\n", `2: unknown field "naem" in clusters (did you mean "name"?)`},
		{"compact without an identity", "clusters:\n- snapshot:\n    compact: '@daily'\n", `3: clusters[0].snapshot.compact: needs encryption.identity_file: what cannot be decrypted cannot be made into a new snapshot`},
		{"changes without snapshots", "clusters:\n- snapshot: {schedule: never}\n  changes:\n    enabled: true\n", `4: clusters[0].changes.enabled: needs a snapshot.schedule: changes alone restore nothing`},
		{"health interval", "clusters:\n- health: {interval: 100ms}\n", `2: clusters[0].health.interval: 100ms is not between 1s and 10m`},
		{"health compare", "clusters:\n- health: {interval: 1m, compare: 30s}\n", `2: clusters[0].health.compare: 30s is shorter than the interval, 1m`},
		{"health unknown", "clusters:\n- health: {every: 1m}\n", `2: unknown field "every" in health: known are compare, enabled, interval`},
		{"flush", "clusters:\n- changes: {flush: 100ms}\n", `2: clusters[0].changes.flush: 100ms is not between 1s and 1h`},
		{"size without a unit", "clusters:\n- changes: {segment: 8}\n", `2: clusters[0].changes.segment: "8" is no size: want for example 64KiB, 8MiB or 1GiB`},
		{"size of another unit", "clusters:\n- changes: {segment: 8MB}\n", `2: clusters[0].changes.segment: "8MB" is no size: want for example 64KiB, 8MiB or 1GiB`},
		{"segment", "clusters:\n- changes: {segment: 1GiB}\n", `2: clusters[0].changes.segment: 1GiB is not between 64KiB and 64MiB`},
		{"spool", "clusters:\n- changes:\n    segment: 64MiB\n    spool: 100MiB\n", `4: clusters[0].changes.spool: 100MiB does not hold two segments of 64MiB`},
		{"later: kit", "clusters:\n- kit: {paths: [/etc]}\n", `2: unknown field "kit" in clusters: it arrives with the node kits`},
		{"twice", "store: s3://a\nlisten: :1\nstore: s3://b\n", `3: field "store" is given twice, first in line 1`},
		{"empty", "store:\nlisten: :1\n", `1: store is empty: give a value, or leave the field out`},
		{"empty text", "listen: ''\n", `1: listen is empty: give a value, or leave the field out`},
		{"empty list", "encryption: {recipients: []}\n", `1: encryption.recipients must be a list of at least one value: [a, b]`},
		{"no list", "clusters:\n  name: a\n", `2: clusters must be a list of at least one block, each beginning with a dash`},
		{"no block", "encryption: none\n", `1: encryption must be a block of fields: recipients, recipients_file, identity_file, none`},
		{"no word", "store: [a]\n", `1: store must be one value`},
		{"a list for a name", "? [a]\n: b\n", `1: the file has a field without a name`},
		{"no name for a field", "log:\n  '': x\n", `2: log has a field without a name`},
		{"merged", "log: {<<: {level: info}}\n", `1: unknown field "<<" in log: known are format, level`},
		{"anchor", "store: &a s3://b\n", `1: store is an anchor or an alias: write the value out`},
		{"second document", "store: s3://b\n---\nlisten: :1\n", `2: a second document begins here: the file may hold one`},
		{"syntax", "store: s3://b\nlog: {level: info\n", `2: did not find expected ',' or '}'`},
		{"unquoted", "clusters:\n- verify:\n    schedule: @daily\n", `3: found character that cannot start any token (quote a value that begins with @ or with *: "@daily")`},
		{"tab", "log:\n\tlevel: info\n", `2: found character that cannot start any token (quote a value that begins with @ or with *: "@daily")`},
		{"not true", "s3: {path_style: yes}\nstore: s3://b\n", `1: s3.path_style: "yes" is neither true nor false`},
		{"no number", "clusters:\n- retention: {daily: many}\n", `2: clusters[0].retention.daily: "many" is no whole number`},
		{"no unit", "clusters:\n- dial_timeout: 5\n", `2: clusters[0].dial_timeout: "5" is no duration: want for example 90s, 6h, 7d or 2w`},
		{"duration", "clusters:\n- snapshot:\n    stall_timeout: 2d\n", `3: clusters[0].snapshot.stall_timeout: 2d is not between 1s and 1h`},

		{"store scheme", "store: gs://b\n", `1: store: "gs://b": want s3://bucket/prefix or file:///absolute/path`},
		{"store folder", "store: file://var/x\n", `1: store: "file://var/x": want s3://bucket/prefix or file:///absolute/path`},
		{"store credentials", "store: s3://key:secret@b\n", `1: store: want s3://bucket/prefix or file:///absolute/path, without credentials`},
		{"lock in a folder", "store: file:///x\ns3:\n  object_lock: {mode: governance, days: 30}\n", `3: s3.object_lock.mode: a file:// store has no Object Lock`},
		{"s3 for a folder", "store: file:///x\ns3:\n  region: eu\n", `2: s3: the store is file:///x, which has no use for it`},
		{"lock mode", "s3:\n  object_lock:\n    mode: strict\n    days: 3\n", `3: s3.object_lock.mode: "strict" is none of governance, compliance`},
		{"lock without days", "s3:\n  object_lock:\n    mode: governance\n", `3: s3.object_lock: days must be 1 or more`},
		{"lock without mode", "s3:\n  object_lock:\n    days: 3\n", `3: s3.object_lock: days without mode locks nothing`},
		{"lock for ever", "s3:\n  object_lock: {mode: compliance, days: 99999}\n", `2: s3.object_lock: 99999 days are more than a century`},
		{"endpoint", "s3: {endpoint: s3.example.org}\n", `1: s3.endpoint: want a URL such as https://s3.example.org, without credentials`},
		{"ca for http", "s3:\n  endpoint: http://s\n  ca_file: /ca\n", `3: s3.ca_file: the endpoint is plain http, which checks no certificate`},
		{"half a key", "s3:\n  region: r\n  secret_access_key_file: /k\n", `3: s3: access_key_id_file and secret_access_key_file go together`},
		{"token alone", "s3:\n  session_token_file: /k\n", `2: s3.session_token_file: needs access_key_id_file and secret_access_key_file`},
		{"profile and key", "s3:\n  profile: p\n  access_key_id_file: /a\n  secret_access_key_file: /s\n", `2: s3.profile: keys are given by access_key_id_file already`},

		{"none and recipients", "encryption:\n  recipients: [" + recipient + "]\n  none: true\n", `3: encryption: none: true and recipients contradict each other`},
		{"none and a file", "encryption:\n  none: true\n  recipients_file: /r\n", `2: encryption: none: true and recipients contradict each other`},
		{"no key", "encryption:\n  recipients: [age1nonsense]\n", `2: encryption.recipients: recipient 1: "age1nonsense" is not an age public key: malformed recipient "age1nonsense": invalid character data part: s[1]=111`},

		{"same name", two + "- name: a\n  endpoints: ['https://c:2379']\n", `6: clusters: two are called "a"`},
		{"no name", "clusters:\n- endpoints: ['https://a:1']\n- name: b\n  endpoints: ['https://b:1']\n", `2: clusters: there are 2, so each needs a name`},
		{"bad name", "clusters:\n- name: a/b\n", `2: cluster name "a/b": want 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit`},
		{"no endpoints", two + "- name: c\n", `6: cluster "c" has no endpoints: they are detected only when there is one cluster`},
		{"endpoint of etcd", "clusters:\n- name: a\n  endpoints:\n  - 127.0.0.1:2379\n", `3: clusters[0].endpoints: "127.0.0.1:2379": want a URL such as https://127.0.0.1:2379`},
		{"mixed", "clusters:\n- endpoints: ['https://a:1', 'http://b:1']\n", `2: clusters[0].endpoints: some are https and some are http`},
		{"tls for http", "clusters:\n- endpoints: ['http://a:1']\n  tls: {ca: /ca}\n", `3: clusters[0].tls: the endpoints are plain http`},
		{"half a pair", "clusters:\n- endpoints: ['https://a:1']\n  tls:\n    cert: /c\n", `4: clusters[0].tls: cert and key go together`},
		{"no password", "clusters:\n- endpoints: ['https://a:1']\n  username: u\n", `3: clusters[0].username: needs password_file`},
		{"no user", "clusters:\n- endpoints: ['https://a:1']\n  password_file: /p\n", `3: clusters[0].password_file: needs username`},

		{"never fires", "clusters:\n- snapshot:\n    schedule: 0 0 30 2 *\n", `3: clusters[0].snapshot.schedule: schedule "0 0 30 2 *" never fires: no such date exists`},
		{"bad cron", "clusters:\n- prune: {schedule: daily}\n", `2: clusters[0].prune.schedule: schedule "daily": expected 5 to 6 fields, found 1: [daily]`},
		{"zone", "clusters:\n- snapshot:\n    timezone: Mars/Base\n", `3: clusters[0].snapshot.timezone: "Mars/Base" is no time zone such as UTC or Europe/Berlin`},
		{"jitter", "clusters:\n- snapshot:\n    schedule: '@every 1m'\n    jitter: 1m\n", `4: clusters[0].snapshot.jitter: 1m is not shorter than the time between two ticks, 1m`},
		{"member", "clusters:\n- snapshot: {member: leader}\n", `2: clusters[0].snapshot.member: "leader" is none of any, local`},
		{"retries", "clusters:\n- snapshot: {retries: -1}\n", `2: clusters[0].snapshot.retries: -1 is not between 0 and 1000`},
		{"relative", "clusters:\n- snapshot: {spool: spool}\n", `2: clusters[0].snapshot.spool: "spool" must be an absolute path: a service has no folder of its own`},
		{"negative", "clusters:\n- retention: {daily: -7}\n", `2: clusters[0].retention.daily: -7 is less than 0`},
		{"nothing kept", "clusters:\n- name: a\n  retention: {last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0}\n", `3: clusters[0].retention: everything is 0: nothing would be kept`},
		{"deep", small + "clusters:\n- verify:\n    deep: '@weekly'\n", `5: clusters[0].verify.deep: needs encryption.identity_file: a backup that cannot be decrypted cannot be restored`},
		{"listen", "listen: localhost\n", `1: listen: "localhost" is no address: want host:port`},
		{"level", "log: {level: loud}\n", `1: log.level: "loud" is none of debug, info, warn, error`},
		{"format", "log: {format: xml}\n", `1: log.format: "xml" is none of text, json`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := resolve(t, c.text, Options{})
			if err == nil {
				t.Fatalf("no error, want %q", c.want)
			}
			_, got, _ := strings.Cut(err.Error(), "steward.yaml:")
			if got != c.want {
				t.Errorf("got  %s\nwant …steward.yaml:%s", err, c.want)
			}
			if code := fail.ExitCode(err); code != fail.Usage {
				t.Errorf("exit code %d, want %d", code, fail.Usage)
			}
		})
	}
}

// TestAllProblems: one run shows everything that is wrong, in the order of the file.
func TestAllProblems(t *testing.T) {
	_, err := resolve(t, "listne: x\nlog: {levl: x}\nlog: {}\nencryption:\n  none: 1\n", Options{})
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, after, _ := strings.Cut(line, "steward.yaml:")
		lines = append(lines, after)
	}
	want := []string{
		`1: unknown field "listne" (did you mean "listen"?)`,
		`2: unknown field "levl" in log (did you mean "level"?)`,
		`3: field "log" is given twice, first in line 2`,
		`5: encryption.none: "1" is neither true nor false`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestNoSecretInErrors: a secret key in the wrong place is not repeated where logs keep it.
func TestNoSecretInErrors(t *testing.T) {
	const key = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
	_, err := resolve(t, "store: s3://b\nencryption:\n  recipients: ["+key+"]\n", Options{})
	if err == nil || strings.Contains(err.Error(), "QQQQ") || !strings.Contains(err.Error(), "this is a secret key") {
		t.Errorf("got %v", err)
	}
	_, err = resolve(t, "store: s3://AKIA:hunter2@b\n", Options{})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestDaemonNeeds(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"listen: :1\n", "store is missing: s3://bucket/prefix or file:///absolute/path\nencryption is undecided: give recipients (age1...), or none: true"},
		"no encryption": {"store: s3://b\n", "encryption is undecided: give recipients (age1...), or none: true"},
		"no work": {
			"store: s3://b\nclusters:\n- snapshot: {schedule: never}\n  prune: {schedule: never}\n  verify: {schedule: never}\n",
			"2: clusters: every schedule is never: there is nothing to do",
		},
		"a janitor needs no recipients": {"store: s3://b\nclusters:\n- snapshot: {schedule: never}\n", ""},
		"small":                         {small, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			_, err := Load(path)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(strings.ReplaceAll(err.Error(), path+": ", ""), path+":", "")
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, err := Load("/nonexistent/steward.yaml"); fail.ExitCode(err) != fail.Usage {
		t.Errorf("a missing file: got %v", err)
	}
}
