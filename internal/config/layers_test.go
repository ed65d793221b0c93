package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// settings is the effective config as "value (from)", by field, with the file's folder left out.
func settings(c *Config) map[string]string {
	out := map[string]string{}
	for _, s := range c.Effective() {
		from := s.From
		if c.Path() != "" {
			from = strings.ReplaceAll(from, filepath.Dir(c.Path())+"/", "")
		}
		out[s.Field] = s.Value + " (" + from + ")"
	}
	return out
}

// TestDefaults: the smallest useful file, and what it means on a machine without etcd.
func TestDefaults(t *testing.T) {
	c, err := resolve(t, small, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"store":                       "s3://bucket/prefix (steward.yaml:1)",
		"s3.endpoint":                 " (default)",
		"s3.region":                   " (default)",
		"s3.path_style":               "false (default)",
		"s3.ca_file":                  " (default)",
		"s3.profile":                  " (default)",
		"s3.access_key_id_file":       " (default)",
		"s3.secret_access_key_file":   " (default)",
		"s3.session_token_file":       " (default)",
		"s3.object_lock.mode":         " (default)",
		"s3.object_lock.days":         "0 (default)",
		"encryption.recipients":       recipient + " (steward.yaml:2)",
		"encryption.recipients_file":  " (default)",
		"encryption.identity_file":    " (default)",
		"encryption.none":             "false (default)",
		"clusters[0].name":            "main (default)",
		"clusters[0].endpoints":       "http://127.0.0.1:2379 (default)",
		"clusters[0].tls.ca":          " (default)",
		"clusters[0].tls.cert":        " (default)",
		"clusters[0].tls.key":         " (default)",
		"clusters[0].tls.server_name": " (default)",
		"clusters[0].username":        " (default)",
		"clusters[0].password_file":   " (default)",
		"clusters[0].health.enabled":  "true (default)", "clusters[0].health.interval": "30s (default)", "clusters[0].health.compare": "5m (default)",
		"clusters[0].dial_timeout":           "5s (default)",
		"clusters[0].snapshot.schedule":      "0 */6 * * * (default)",
		"clusters[0].snapshot.timezone":      "UTC (default)",
		"clusters[0].snapshot.jitter":        "30s (default)",
		"clusters[0].snapshot.member":        "any (default)",
		"clusters[0].snapshot.spool":         "/var/cache/steward/spool (default)",
		"clusters[0].snapshot.stall_timeout": "1m (default)",
		"clusters[0].snapshot.retries":       "30 (default)",
		"clusters[0].snapshot.compact":       "never (default)",
		"clusters[0].changes.enabled":        "true (default)",
		"clusters[0].changes.flush":          "10s (default)",
		"clusters[0].changes.segment":        "8MiB (default)",
		"clusters[0].changes.spool":          "1GiB (default)",
		"clusters[0].retention.last":         "4 (default)",
		"clusters[0].retention.hourly":       "24 (default)",
		"clusters[0].retention.any_moment":   "3d (default)",
		"clusters[0].retention.daily":        "7 (default)",
		"clusters[0].retention.weekly":       "4 (default)",
		"clusters[0].retention.monthly":      "12 (default)",
		"clusters[0].retention.within":       "0s (default)",
		"clusters[0].prune.schedule":         "@daily (default)",
		"clusters[0].verify.schedule":        "@daily (default)",
		"clusters[0].verify.deep":            "never (default)",
		"listen":                             "127.0.0.1:7379 (default)",
		"log.level":                          "info (default)",
		"log.format":                         "text (default)",
	}
	if diff := cmp.Diff(want, settings(c)); diff != "" {
		t.Errorf("effective (-want +got):\n%s", diff)
	}
}

// TestPrecedence: flag before environment before file before credential before default; each says where it came from.
func TestPrecedence(t *testing.T) {
	creds := t.TempDir()
	for _, name := range []string{"etcd-ca", "age-identity", "s3-access-key-id", "s3-secret-access-key"} {
		if err := os.WriteFile(filepath.Join(creds, name), []byte("x\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	// The unit's stand-in for a file that does not exist.
	if err := os.WriteFile(filepath.Join(creds, "s3-session-token"), []byte("\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	c, err := resolve(t, small+"clusters:\n- endpoints: ['https://file:2379']\n  tls: {ca: /file/ca, cert: /file/cert, key: /file/key}\n", Options{
		Etcdctl: true,
		LookupEnv: env(map[string]string{
			"ETCDCTL_ENDPOINTS": "https://env:2379", "ETCDCTL_CACERT": "/env/ca", "ETCDCTL_USER": "root:hunter2", "ETCDCTL_DIAL_TIMEOUT": "2s",
			"CREDENTIALS_DIRECTORY": creds, "CACHE_DIRECTORY": "/var/cache/other:/more",
		}),
		Flags: []Flag{{"--endpoints", "cluster.endpoints", "https://a:2379,https://b:2379"}, {"--store", "store", "s3://flag/x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := settings(c)
	for field, want := range map[string]string{
		"store":                        "s3://flag/x (--store)",
		"clusters[0].endpoints":        "https://a:2379,https://b:2379 (--endpoints)",
		"clusters[0].tls.ca":           "/env/ca (environment ETCDCTL_CACERT)",
		"clusters[0].tls.cert":         "/file/cert (steward.yaml:5)",
		"clusters[0].tls.key":          "/file/key (steward.yaml:5)",
		"clusters[0].username":         "root (environment ETCDCTL_USER)",
		"clusters[0].dial_timeout":     "2s (environment ETCDCTL_DIAL_TIMEOUT)",
		"clusters[0].snapshot.spool":   "/var/cache/other/spool (default)",
		"encryption.identity_file":     creds + "/age-identity (credential age-identity)",
		"s3.access_key_id_file":        creds + "/s3-access-key-id (credential s3-access-key-id)",
		"s3.session_token_file":        " (default)",
		"clusters[0].snapshot.retries": "30 (default)",
	} {
		if got[field] != want {
			t.Errorf("%s: got %s, want %s", field, got[field], want)
		}
	}
	for field, value := range got {
		if strings.Contains(value, "hunter2") {
			t.Errorf("%s shows the password", field)
		}
	}
	if c.Clusters[0].password != "hunter2" {
		t.Error("the password of ETCDCTL_USER is lost")
	}
}

// TestCredentialsOfClusters: a cluster's own credentials come before those for all, and neither is mixed with files of the config or
// forced upon plain http.
func TestCredentialsOfClusters(t *testing.T) {
	creds := t.TempDir()
	for _, name := range []string{"etcd-ca", "etcd-cert", "etcd-key", "etcd-ca.events"} {
		if err := os.WriteFile(filepath.Join(creds, name), []byte("x\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	c, err := resolve(t, small+`clusters:
- {name: main, endpoints: ["https://m:2379"]}
- {name: events, endpoints: ["https://e:2379"]}
- {name: plain, endpoints: ["http://p:2379"]}
- {name: other, endpoints: ["https://o:2379"], tls: {ca: /other/ca}}
`, Options{LookupEnv: env(map[string]string{"CREDENTIALS_DIRECTORY": creds})})
	if err != nil {
		t.Fatal(err)
	}
	want := []TLS{
		{CA: creds + "/etcd-ca", Cert: creds + "/etcd-cert", Key: creds + "/etcd-key"},
		{CA: creds + "/etcd-ca.events", Cert: creds + "/etcd-cert", Key: creds + "/etcd-key"},
		{},
		{CA: "/other/ca"},
	}
	for i := range want {
		if c.Clusters[i].TLS != want[i] {
			t.Errorf("%s: got %+v, want %+v", c.Clusters[i].Name, c.Clusters[i].TLS, want[i])
		}
	}
	// What the unit hands over on every kubeadm master decides how etcd is reached when nobody says.
	c, err = resolve(t, small, Options{LookupEnv: env(map[string]string{"CREDENTIALS_DIRECTORY": creds})})
	if err != nil {
		t.Fatal(err)
	}
	if c.Clusters[0].Endpoints[0] != "https://127.0.0.1:2379" || c.Clusters[0].TLS != want[0] {
		t.Errorf("got %+v", c.Clusters[0])
	}
}

// TestCredentialsWithoutSystemd: root on a master reaches the store with the daemon's credentials, but for keys that his own environment names.
func TestCredentialsWithoutSystemd(t *testing.T) {
	root := t.TempDir()
	creds := root + credentialsFolder
	if err := os.MkdirAll(creds, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"s3-access-key-id", "s3-secret-access-key", "s3-ca", "age-identity"} {
		if err := os.WriteFile(filepath.Join(creds, name), []byte("x\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		env  map[string]string
		keys string
		ca   string
	}{
		"nothing else": {nil, creds + "/s3-access-key-id", creds + "/s3-ca"},
		"own keys":     {map[string]string{"AWS_ACCESS_KEY_ID": "mine"}, "", creds + "/s3-ca"},
		"a profile":    {map[string]string{"AWS_PROFILE": "mine"}, "", creds + "/s3-ca"},
		"systemd's":    {map[string]string{"CREDENTIALS_DIRECTORY": t.TempDir()}, "", ""},
	} {
		got, err := Resolve(Options{Path: write(t, small), Root: root, LookupEnv: env(c.env)})
		if err != nil {
			t.Fatal(err)
		}
		if got.S3.AccessKeyIDFile != c.keys || got.S3.CAFile != c.ca {
			t.Errorf("%s: keys %q, CA %q, want %q, %q", name, got.S3.AccessKeyIDFile, got.S3.CAFile, c.keys, c.ca)
		}
	}
}

// TestDaemonIgnoresEtcdctl: variables that a shell left behind do not move a daemon to another cluster.
func TestDaemonIgnoresEtcdctl(t *testing.T) {
	c, err := resolve(t, small, Options{LookupEnv: env(map[string]string{"ETCDCTL_ENDPOINTS": "https://env:2379"})})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Clusters[0].Endpoints[0]; got != "http://127.0.0.1:2379" {
		t.Errorf("endpoint %s", got)
	}
}

// TestSeveralClusters: what is meant for one cluster needs its name, and reaches no other.
func TestSeveralClusters(t *testing.T) {
	text := small + "clusters:\n- name: main\n  endpoints: ['https://m:2379']\n- name: events\n  endpoints: ['https://e:2379']\n"
	flag := []Flag{{"--cacert", "cluster.tls.ca", "/flag/ca"}}
	_, err := resolve(t, text, Options{Flags: flag})
	if want := "--cacert: the config has 2 clusters (main, events): name one with --cluster"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = resolve(t, text, Options{Flags: flag, Cluster: "evnts"})
	if want := `--cacert: the config has no cluster "evnts", only main, events`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c, err := resolve(t, text, Options{Flags: flag, Cluster: "events", Etcdctl: true, LookupEnv: env(map[string]string{"ETCDCTL_DIAL_TIMEOUT": "3s"})})
	if err != nil {
		t.Fatal(err)
	}
	if c.Clusters[0].TLS.CA != "" || c.Clusters[1].TLS.CA != "/flag/ca" || time.Duration(c.Clusters[0].DialTimeout) != 5*time.Second || time.Duration(c.Clusters[1].DialTimeout) != 3*time.Second {
		t.Errorf("got %+v", c.Clusters)
	}
	// Without a name, the variables are about neither, and nobody is told: the shell may be about something else.
	if _, err := resolve(t, text, Options{Etcdctl: true, LookupEnv: env(map[string]string{"ETCDCTL_DIAL_TIMEOUT": "x"})}); err != nil {
		t.Error(err)
	}
}

// TestNoFile: the CLI works from flags alone, with a cluster of the name that was asked for.
func TestNoFile(t *testing.T) {
	c, err := Resolve(Options{
		Path: filepath.Join(t.TempDir(), "missing.yaml"), Optional: true, Cluster: "events", Root: t.TempDir(), LookupEnv: noEnv,
		Flags: []Flag{{"--store", "store", "file:///backups"}, {"--dial-timeout", "cluster.dial_timeout", "9s"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Path() != "" || c.Clusters[0].Name != "events" || c.Store != "file:///backups" || time.Duration(c.Clusters[0].DialTimeout) != 9*time.Second {
		t.Errorf("got %+v", c)
	}
	_, err = Resolve(Options{LookupEnv: noEnv, Root: t.TempDir(), Flags: []Flag{{"--dial-timeout", "cluster.dial_timeout", "soon"}}})
	if want := `--dial-timeout: "soon" is no duration: want for example 90s, 6h, 7d or 2w`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Resolve(Options{LookupEnv: noEnv, Root: t.TempDir(), Flags: []Flag{{"--store", "store", "http://x"}}})
	if want := `--store: store: "http://x": want s3://bucket/prefix or file:///absolute/path`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]string{
		"90s": "1m30s", "6h": "6h", "7d": "7d", "2w": "14d", "1d12h": "36h", "10s": "10s", "0": "0s", "1h30m": "1h30m", "100ms": "100ms", "20m": "20m", "1w1d": "8d",
		"-5s": "", "5": "", "": "", "d": "", "1y": "", "999999999999d": "", "99999999w": "", "1d-2h": "", "9999d9999999h": "",
	} {
		d, err := ParseDuration(text)
		if want == "" {
			if err == nil {
				t.Errorf("ParseDuration(%q): got %s, want an error", text, d)
			}
			continue
		}
		if err != nil || d.String() != want {
			t.Errorf("ParseDuration(%q): got %s, %v, want %s", text, d, err, want)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q prints as %s, which reads as %v, %v", text, d, again, err)
		}
	}
}

// TestDefaultsAreFields: the tables name fields that exist.
func TestDefaultsAreFields(t *testing.T) {
	c, err := resolve(t, small, Options{})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range c.Effective() {
		known[anyCluster(s.Field)] = true
	}
	for field := range defaults {
		if !known[field] {
			t.Errorf("a default for %s, which is no field", field)
		}
	}
	for field := range credentialNames {
		if !known[field] {
			t.Errorf("a credential for %s, which is no field", field)
		}
	}
	for field := range later {
		if known[field] {
			t.Errorf("%s is said to arrive later, but is here", field)
		}
	}
}

// TestSizes: a size needs a unit that is unmistakable, and prints as it is read.
func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"1KiB": 1 << 10, "8MiB": 8 << 20, "1GiB": 1 << 30, "1024MiB": 1 << 30, "100KiB": 100 << 10,
		"": 0, "8": 0, "0MiB": 0, "-1MiB": 0, "8MB": 0, "8 MiB": 0, "1.5GiB": 0, "MiB": 0, "4294967295GiB": 0, "99999999999MiB": 0,
	} {
		s, err := ParseSize(text)
		if s != want || (err == nil) != (want > 0) {
			t.Errorf("ParseSize(%q): got %d, %v, want %d", text, s, err, want)
		}
		if again, err := ParseSize(s.String()); want > 0 && (err != nil || again != s) {
			t.Errorf("%q prints as %s, which reads as %d, %v", text, s, again, err)
		}
	}
}

// TestRecords: changes are recorded by default, where snapshots are taken and nowhere else; in systemd's state folder.
func TestRecords(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "- name: a\n  changes: {enabled: false}\n": false, "- name: a\n  snapshot: {schedule: never}\n": false,
		"- name: a\n  snapshot: {schedule: never}\n  changes: {enabled: false}\n": false,
	} {
		if text != "" {
			text = "clusters:\n" + text
		}
		c, err := resolve(t, small+text, Options{LookupEnv: env(map[string]string{"STATE_DIRECTORY": "/state:/more"})})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Clusters[0].Records(); got != want {
			t.Errorf("%q: records %t, want %t", text, got, want)
		}
		if dir := c.Clusters[0].ChangesDir(); dir != "/state/changes/"+c.Clusters[0].Name {
			t.Errorf("%q: spools in %s", text, dir)
		}
	}
}

// TestPathStyleShown: what is shown is what the store is asked with: buckets behind the endpoint when there is one and nobody says otherwise.
func TestPathStyleShown(t *testing.T) {
	for text, want := range map[string]string{
		small: "false (default)",
		small + "s3: {endpoint: https://s3.example.org}\n":                    "true (default)",
		small + "s3: {endpoint: https://s3.example.org, path_style: false}\n": "false (steward.yaml:3)",
		small + "s3: {path_style: true}\n":                                    "true (steward.yaml:3)",
	} {
		c, err := resolve(t, text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := settings(c)["s3.path_style"]; got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		st, err := c.StoreConfig()
		if err != nil {
			t.Fatal(err)
		}
		used := st.S3.Endpoint != "" // as backup/store says of nil
		if st.S3.PathStyle != nil {
			used = *st.S3.PathStyle
		}
		if used != c.S3.PathStyle {
			t.Errorf("%s: shown %v, used %v", text, c.S3.PathStyle, used)
		}
	}
}
