package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// asDaemon in the environment makes the test binary be stewardd, so that the daemon under test has the race detector too.
const asDaemon = "STEWARDD_TEST_IS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" || len(os.Args) > 1 && os.Args[1] == bootName {
		os.Exit(int(execute(os.Args, os.Stdout, os.Stderr)))
	}
	// These tests wait for ticks and leases most of the time.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// rig is a real etcd and a real S3 server, both over TLS, and what a daemon needs to use them.
type rig struct {
	t        *testing.T
	etcd     *lab.Cluster
	s3       *lab.S3
	identity *age.X25519Identity
	dir      string
	cli      *clientv3.Client
}

func newRig(t *testing.T, s3 lab.S3Options) *rig {
	t.Helper()
	return newRigOf(t, s3, lab.EtcdOptions{})
}

// newRigOf is newRig with another cluster.
func newRigOf(t *testing.T, s3 lab.S3Options, etcd lab.EtcdOptions) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: starts a real etcd and a real S3 server")
	}
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	etcd.TLS, etcd.UnsafeNoFsync = true, true
	r := &rig{t: t, etcd: lab.StartEtcd(t, etcd), s3: lab.StartS3(t, s3), identity: id, dir: t.TempDir()}
	r.cli = r.etcd.Client(t)
	lab.Fill(t, r.cli, lab.FillOptions{Keys: 200, ValueSize: 100})
	r.write("access", r.s3.Access, 0o600)
	r.write("secret", r.s3.Secret, 0o600)
	r.write("identity", id.String(), 0o600)
	return r
}

// write puts text into a file of the rig and returns its path.
func (r *rig) write(name, text string, mode os.FileMode) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// settings are what differs between the configs of the tests.
type settings struct {
	name     string // of the daemon: its files
	prefix   string // in the bucket
	schedule string
	compact  string
	prune    string
	verify   string
	deep     string
	changes  string // the block; "" means that no changes are recorded
	more     string // lines in the cluster's block
	top      string // lines at the top
	identity bool
	listen   string
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// config writes a config and returns its path.
func (r *rig) config(s settings) string {
	r.t.Helper()
	identity := ""
	if s.identity {
		identity = fmt.Sprintf(", identity_file: %s/identity", r.dir)
	}
	endpoints := `"` + strings.Join(r.etcd.Endpoints(), `", "`) + `"`
	text := fmt.Sprintf(`store: s3://%s/%s
s3: {endpoint: "%s", ca_file: %s, access_key_id_file: %s/access, secret_access_key_file: %s/secret}
encryption: {recipients: [%s]%s}
listen: %s
log: {level: debug, format: text}
%s
clusters:
- name: main
  endpoints: [%s]
  tls: {ca: %s, cert: %s, key: %s}
  snapshot: {schedule: "%s", spool: %s/spool-%s, jitter: 0s, compact: "%s"}
  prune: {schedule: "%s"}
  verify: {schedule: "%s", deep: "%s"}
  changes: {%s}
%s
`, r.s3.Bucket, or(s.prefix, "lab"), r.s3.Endpoint, r.s3.CA.File, r.dir, r.dir, r.identity.Recipient(), identity, s.listen, s.top,
		endpoints, r.etcd.CA.File, r.etcd.Pair.Cert, r.etcd.Pair.Key, s.schedule, r.dir, s.name, or(s.compact, "never"), or(s.prune, "never"), or(s.verify, "never"), or(s.deep, "never"), or(s.changes, "enabled: false"), s.more)
	return r.write(s.name+".yaml", text, 0o600)
}

// stewardd is a running daemon.
type stewardd struct {
	*lab.Process
	t        *testing.T
	settings settings
	config   string
	url      string
	spool    string
	state    string // systemd's StateDirectory=
}

// start runs a daemon and waits until it serves its pages.
func (r *rig) start(s settings) *stewardd {
	r.t.Helper()
	d := r.prepare(s)
	d.run()
	return d
}

// prepare writes a daemon's config.
func (r *rig) prepare(s settings) *stewardd {
	r.t.Helper()
	if s.listen == "" {
		s.listen = lab.FreeAddr(r.t)
	}
	return &stewardd{t: r.t, settings: s, config: r.config(s), url: "http://" + s.listen, spool: filepath.Join(r.dir, "spool-"+s.name), state: filepath.Join(r.dir, "state-"+s.name)}
}

// run starts the process, for the first time or again, and waits until it serves its pages.
func (d *stewardd) run(env ...string) {
	d.t.Helper()
	d.spawn(env...)
	lab.Eventually(d.t, 20*time.Second, "stewardd serves its pages", func() error {
		select {
		case <-d.Done():
			return fmt.Errorf("it ended: %w: %s", d.Err(), d.Tail(4<<10))
		default:
		}
		code, body, err := d.get("/healthz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// spawn starts the process and waits for nothing.
func (d *stewardd) spawn(env ...string) {
	d.t.Helper()
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(self, "--config", d.config)
	cmd.Env = append(append(os.Environ(), asDaemon+"=1", "STATE_DIRECTORY="+d.state), env...)
	d.Process = lab.Start(d.t, "stewardd-"+d.settings.name, cmd)
}

func (d *stewardd) get(path string) (int, string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	resp, err := client.Get(d.url + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// families are all metrics of a scrape.
func (d *stewardd) families() map[string]*dto.MetricFamily {
	d.t.Helper()
	code, body, err := d.get("/metrics")
	if err != nil || code != http.StatusOK {
		d.t.Fatalf("scrape: %d %v", code, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		d.t.Fatalf("scrape: %v", err)
	}
	return all
}

// metric is a metric's value with the given labels ("job=snapshot"); false when there is none.
func (d *stewardd) metric(name string, labels ...string) (float64, bool) {
	d.t.Helper()
	family := d.families()[name]
	for _, m := range family.GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		match := true
		for _, l := range labels {
			match = match && have[l]
		}
		if match {
			if c := m.GetCounter(); c != nil {
				return c.GetValue(), true
			}
			return m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

// awaitMetric waits until a metric's value is as wanted.
func (d *stewardd) awaitMetric(within time.Duration, name string, want func(float64) bool, labels ...string) {
	d.t.Helper()
	lab.Eventually(d.t, within, name, func() error {
		v, ok := d.metric(name, labels...)
		if !ok || !want(v) {
			return fmt.Errorf("it is %v (there: %t)", v, ok)
		}
		return nil
	})
}

// awaitLog waits for a line of the daemon's log that matches, and returns it.
func (d *stewardd) awaitLog(within time.Duration, pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(`(?m)^.*` + pattern + `.*$`)
	var line string
	lab.Eventually(d.t, within, "log line "+pattern, func() error {
		line = re.FindString(d.log())
		if line == "" {
			return errors.New("not there")
		}
		return nil
	})
	return line
}

func (d *stewardd) log() string {
	text, err := os.ReadFile(d.Log)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// term ends the daemon with SIGTERM and checks that it ends well and in time, and leaves nothing.
func (d *stewardd) term(within time.Duration) {
	d.t.Helper()
	if err := d.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-d.Done():
	case <-time.After(within):
		d.t.Fatalf("SIGTERM: still running after %s", within)
	}
	if err := d.Err(); err != nil {
		d.t.Errorf("SIGTERM: ended with %v, want exit code 0\n%s", err, d.Tail(2<<10))
	}
	d.checkSpool()
}

// checkSpool: a snapshot that is not being taken leaves no file.
func (d *stewardd) checkSpool() {
	d.t.Helper()
	err := filepath.WalkDir(d.spool, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			d.t.Errorf("%s was left in the spool", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Error(err)
	}
}

// repo opens the repository under a prefix, past the daemon.
func (r *rig) repo(prefix string) *repo.Repo {
	r.t.Helper()
	cfg := r.s3.StoreConfig()
	cfg.URL = fmt.Sprintf("s3://%s/%s", r.s3.Bucket, or(prefix, "lab"))
	st, err := store.Open(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	rp, err := repo.Open(r.t.Context(), st, "main")
	if err != nil {
		r.t.Fatal(err)
	}
	return rp
}

// catalog lists the repository.
func (r *rig) catalog(prefix string) *repo.Catalog {
	r.t.Helper()
	c, err := r.repo(prefix).Catalog(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// noSecrets: none of the secrets of the test is in a text.
func (r *rig) noSecrets(what, text string) {
	r.t.Helper()
	for _, s := range []string{r.s3.Secret, r.identity.String()} {
		if bytes.Contains([]byte(text), []byte(s)) {
			r.t.Errorf("%s shows a secret", what)
		}
	}
}

// flipBit changes one bit in the middle of an object, behind the S3 server's back. The key is relative to the repository.
func (r *rig) flipBit(key string) {
	r.t.Helper()
	path := filepath.Join(r.s3.Dir, r.s3.Bucket, "lab", "main", key)
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
}
