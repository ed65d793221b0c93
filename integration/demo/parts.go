package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"etcd-steward/integration/lab"
)

// configure makes an age identity and the one configuration file that all programs of the demo share.
func (s *show) configure() {
	s.identity = filepath.Join(s.dir, "identity.txt")
	out, err := exec.Command(lab.Tool(s, "age-keygen"), "-o", s.identity).CombinedOutput()
	if err != nil {
		s.Fatalf("age-keygen: %v: %s", err, out)
	}
	_, recipient, _ := strings.Cut(strings.TrimSpace(string(out)), "Public key: ")
	st := s.s3.StoreConfig().S3
	s.config = filepath.Join(s.dir, "steward.yaml")
	s.must(os.WriteFile(s.config, fmt.Appendf(nil, `store: %s
s3: {endpoint: %q, ca_file: %s, path_style: true}
encryption: {recipients: [%s]}
listen: 127.0.0.1:0
clusters:
  - name: demo
    endpoints: [%s]
    tls: {ca: %s, cert: %s, key: %s}
    snapshot: {schedule: "@every 8s", jitter: 500ms}
    changes: {flush: 1s}
`, s.s3.URL(), st.Endpoint, st.CAFile, recipient, strings.Join(s.etcd.Endpoints(), ", "),
		s.etcd.CA.File, s.etcd.Pair.Cert, s.etcd.Pair.Key), 0o600))
}

// startDaemons runs one stewardd per member, each with folders of its own.
func (s *show) startDaemons() []*lab.Process {
	var all []*lab.Process
	for _, m := range s.etcd.Members {
		cmd := exec.Command(filepath.Join(lab.Root(), "bin", "stewardd"), "--config", s.config)
		cmd.Env = append(s.env(), "STATE_DIRECTORY="+s.TempDir(), "CACHE_DIRECTORY="+s.TempDir())
		all = append(all, lab.Start(s, "stewardd-"+m.Name, cmd))
	}
	return all
}

// restorePoint is what the demo needs of a row of `steward backup list -o json`.
type restorePoint struct {
	ID       string `json:"id"`
	Revision int64  `json:"revision"`
}

func (s *show) list() []restorePoint {
	var l struct {
		Backups []restorePoint `json:"backups"`
	}
	out, err := s.steward("backup", "list", "--all", "-o", "json").Output()
	if len(out) == 0 {
		s.must(err)
	}
	s.must(json.Unmarshal(out, &l))
	return l.Backups
}

func (s *show) countBackups() int { return len(s.list()) }

// mustLieBetween ends the demo unless there are snapshots before and after the revision, and none of it. It returns the newest; the daemons
// write one timeline.
func (s *show) mustLieBetween(revision int64) (newest restorePoint) {
	before := false
	for _, b := range s.list() {
		if b.Revision == revision {
			s.Fatalf("demo: snapshot %s is of revision %d: the change log would not be needed", b.ID, revision)
		}
		before = before || b.Revision < revision
		if b.Revision >= newest.Revision && b.ID > newest.ID {
			newest = b
		}
	}
	if !before || newest.Revision < revision {
		s.Fatalf("demo: revision %d does not lie between two snapshots", revision)
	}
	return newest
}

func (s *show) waitForBackups(n int) {
	lab.Eventually(s, 60*time.Second, fmt.Sprintf("%d backups in S3", n), func() error {
		if got := s.countBackups(); got < n {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
}
