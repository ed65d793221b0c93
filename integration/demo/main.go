// Command demo shows the whole promise on real parts: three etcd members and an S3 server with TLS, three stewardd that share one
// schedule and record every change while data is being written, a mistake, the loss of all three data directories, and their restore from S3 to the
// revision before the mistake, which no snapshot is of. It ends non-zero when anything differs from what was there then, and leaves nothing running.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"etcd-steward/integration/lab"
)

func main() { os.Exit(lab.Run(demo)) }

// show is one run of the demo.
type show struct {
	lab.T
	start    time.Time
	dir      string
	etcd     *lab.Cluster
	s3       *lab.S3
	config   string
	identity string
}

func demo(t lab.T) {
	s := &show{T: t, start: time.Now(), dir: t.TempDir()}
	s.say("Starting a three-member etcd 3.6 and an S3 server (versitygw), both with TLS, on loopback.")
	s.etcd = lab.StartEtcd(t, lab.EtcdOptions{Version: "3.6", Members: 3, TLS: true})
	s.s3 = lab.StartS3(t, lab.S3Options{})
	s.say("etcd: %s", strings.Join(s.etcd.Endpoints(), " "))
	s.say("S3:   %s at %s", s.s3.URL(), s.s3.StoreConfig().S3.Endpoint)
	s.configure()

	s.say("Starting stewardd on each of the three masters: one schedule, a snapshot every 8 s, taken by whoever is first; one of them records every change.")
	daemons := s.startDaemons()
	w := s.startWriter()
	s.waitForBackups(2)
	point := s.waitForWrites(500)
	s.say("Noting what the living cluster holds at revision %d: HashKV of each member, and every key.", point)
	before := s.observe(point)
	s.say("A mistake: everything below /registry/things is deleted, and the snapshot after it has it so. The writer goes on until then.")
	s.mistake()
	s.waitForBackups(s.countBackups() + 1)
	s.say("Stopping the writer after %d writes, and the daemons, which store what they have recorded.", w.stop())
	for _, d := range daemons {
		d.Stop()
	}
	s.say("What can be restored:")
	s.run("backup", "list")
	newest := s.mustLieBetween(point)
	s.say("Proving %s: every byte read, decrypted, opened, restored with stock etcdutl, booted, read back.", newest.ID)
	s.run("backup", "verify", "--deep", "--identity", s.identity, newest.ID)

	s.say("Disaster: all three members are killed, and their data directories moved away.")
	for i := range s.etcd.Members {
		s.etcd.Kill(i)
		s.must(os.Rename(s.etcd.DataDir(i), s.etcd.DataDir(i)+".lost"))
	}
	s.restore(point)
	s.say("Starting the three restored members.")
	for i := range s.etcd.Members {
		s.etcd.Restart(t, i)
	}
	s.etcd.WaitHealthy(t)
	s.compare(before, s.observe(point))
	s.say("Done in %d s: everything is back as it was before the mistake, exactly.", int(time.Since(s.start).Seconds()))
}

// restore runs `steward restore data-dir` for each member, as the operator of three masters would.
func (s *show) restore(point int64) {
	var initial []string
	for _, m := range s.etcd.Members {
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	s.say("Restoring each member from S3, to the revision before the mistake: a snapshot and the change log. (--bump-revision 0 asks for the exact history, so that it can be compared; the default bumps, for Kubernetes.)")
	for i, m := range s.etcd.Members {
		s.run("restore", "data-dir", "--to-revision", strconv.FormatInt(point, 10), "--identity", s.identity, "--data-dir", s.etcd.DataDir(i),
			"--name", m.Name, "--initial-cluster", strings.Join(initial, ","), "--initial-advertise-peer-urls", m.PeerURL,
			"--bump-revision", "0", "--yes")
	}
}

// run shows and runs one steward command, and ends the demo if it fails.
func (s *show) run(args ...string) {
	s.say("$ steward %s", strings.Join(args, " "))
	cmd := s.steward(args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Run(); err != nil {
		s.Fatalf("steward %s: %v", args[0], err)
	}
}

func (s *show) steward(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.Context(), filepath.Join(lab.Root(), "bin", "steward"), args...)
	cmd.Env = s.env()
	return cmd
}

// env is what both programs get: the S3 keys, and where the configuration is.
func (s *show) env() []string {
	return append(os.Environ(), "STEWARD_CONFIG="+s.config, "AWS_ACCESS_KEY_ID="+s.s3.Access, "AWS_SECRET_ACCESS_KEY="+s.s3.Secret)
}

func (s *show) say(format string, a ...any) {
	fmt.Printf("[%5.1fs] %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, a...))
}

func (s *show) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("demo: %v", err)
	}
}
