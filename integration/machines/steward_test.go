package machines

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/integration/lab"
)

// steward is stewardd on a master.
type steward struct {
	*Machine
	t        *testing.T
	etcd     *Cluster
	identity *age.X25519Identity
}

const unit = "stewardd.service"

// newSteward installs stewardd on a new master.
func newSteward(t *testing.T, o EtcdOptions) (*steward, *Net) {
	t.Helper()
	n := Start(t, Options{})
	c := Etcd(t, n, o)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := &steward{Machine: n.Machine("m1"), t: t, etcd: c, identity: id}
	s.InstallSteward(t)
	return s, n
}

// start starts the daemon with a config that says no more than the README does, and waits for the first backup.
func (s *steward) start(store string) {
	s.t.Helper()
	s.configure(fmt.Sprintf("%s\nencryption: {recipients: [%s]}\n", store, s.identity.Recipient()))
	s.Script(s.t, "systemctl daemon-reload; systemctl enable -q --now stewardd")
	lab.Eventually(s.t, 30*time.Second, "a backup is there", func() error { return s.run("backup", "list").Err() })
}

func (s *steward) configure(text string) {
	s.t.Helper()
	s.WriteFile(s.t, "/etc/steward/steward.yaml", text, 0o640, "")
	s.Must(s.t, "chgrp", "steward", "/etc/steward/steward.yaml")
}

// run runs steward as root, who reaches the store with the daemon's credentials.
func (s *steward) run(args ...string) Result {
	s.t.Helper()
	return s.Run(s.t.Context(), append([]string{"steward"}, args...)...)
}

// put writes a key that nobody has written before, waits until the daemon has received it, and returns it.
func (s *steward) put() string {
	s.t.Helper()
	key := fmt.Sprintf("/%x", time.Now().UnixNano())
	resp, err := s.etcd.Client(s.t).Put(s.t.Context(), key, "written")
	if err != nil {
		s.t.Fatal(err)
	}
	received := regexp.MustCompile(`(?m)^steward_changes_received_revision.* ([0-9.e+]+)$`)
	lab.Eventually(s.t, 20*time.Second, "stewardd receives "+key, func() error {
		page, err := s.Get("http://127.0.0.1:7379/metrics")
		if err != nil {
			return err
		}
		m := received.FindStringSubmatch(page)
		if m == nil {
			return errors.New("it receives nothing yet")
		}
		if rev, err := strconv.ParseFloat(m[1], 64); err != nil || int64(rev) < resp.Header.Revision {
			return fmt.Errorf("it is at %s of %d: %w", m[1], resp.Header.Revision, err)
		}
		return nil
	})
	return key
}

// recorded checks that keys can be had from the repository alone.
func (s *steward) recorded(keys ...string) {
	s.t.Helper()
	s.WriteFile(s.t, "/root/identity", s.identity.String()+"\n", 0o600, "")
	for _, key := range keys {
		if r := s.run("keys", "get", key, "--identity", "/root/identity"); r.Code != 0 || !strings.Contains(r.Stdout, "written") {
			s.t.Errorf("the repository knows nothing of %s: %+v", key, r)
		}
	}
}

// awaitNew waits until the unit runs as another process, and returns that.
func (s *steward) awaitNew(old, why string) string {
	s.t.Helper()
	var pid string
	lab.Eventually(s.t, 30*time.Second, "stewardd is started again: "+why, func() error {
		pid = s.Property(s.t, unit, "MainPID")
		if active := s.Property(s.t, unit, "ActiveState"); pid == old || pid == "0" || active != "active" {
			return fmt.Errorf("process %s, which was %s; %s", pid, old, active)
		}
		return nil
	})
	return pid
}

// TestInstalled: stewardd as `make install` puts it on a master that kubespray made, run by a real systemd with all of the unit's hardening, backs up and
// records; systemd supervises it, and it comes back whatever ends it.
func TestInstalled(t *testing.T) {
	t.Parallel()
	s, n := newSteward(t, EtcdOptions{Flavour: Kubespray})
	s3 := lab.StartS3(t, lab.S3Options{Host: n.HostIP})
	s.WriteFile(t, "/etc/systemd/system/stewardd.service.d/10-kubespray.conf",
		strings.ReplaceAll(s.ReadFile(t, "/usr/local/share/doc/etcd-steward/10-kubespray.conf"), "HOSTNAME", s.Name), 0o644, "")
	s.WriteFile(t, "/etc/steward/credentials/s3-access-key-id", s3.Access+"\n", 0o600, "")
	s.WriteFile(t, "/etc/steward/credentials/s3-secret-access-key", s3.Secret+"\n", 0o600, "")
	s.WriteFile(t, "/etc/steward/s3-ca.pem", readHost(t, s3.CA.File), 0o644, "")
	s.start(fmt.Sprintf("store: %s\ns3: {endpoint: %q, ca_file: /etc/steward/s3-ca.pem}", s3.URL(), s3.Endpoint))
	s.hardened()
	if got := s.Property(t, unit, "WatchdogUSec") + " " + s.Property(t, unit, "RestartUSec") + " " + s.Property(t, unit, "TimeoutStopUSec"); got != "2min 15s 45s" {
		t.Errorf("systemd read the unit as: %s", got)
	}
	key := s.put()
	pid := s.Property(t, unit, "MainPID")
	s.configure(s.ReadFile(t, "/etc/steward/steward.yaml") + "log: {format: json}\n")
	s.Systemctl(t, "reload", "stewardd")
	if now := s.Property(t, unit, "MainPID"); now != pid {
		t.Errorf("a reload changed the process from %s to %s", pid, now)
	}
	lab.Eventually(t, 10*time.Second, "the new config is in use", func() error {
		if !strings.Contains(s.Journal(t, unit), `"msg":"recording"`) {
			return errors.New("nothing is recorded with it")
		}
		return nil
	})
	second := s.put()
	begin := time.Now()
	s.Systemctl(t, "stop", "stewardd")
	t.Logf("it took %v to stop", time.Since(begin))
	if took := time.Since(begin); took > 45*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if got := s.Property(t, unit, "Result") + " " + s.Property(t, unit, "ExecMainStatus"); got != "success 0" {
		t.Errorf("it ended with %s", got)
	}
	s.recorded(key, second) // before it ends, what was recorded is stored

	// Faster from here on.
	s.WriteFile(t, "/etc/systemd/system/stewardd.service.d/20-test.conf", "[Service]\nWatchdogSec=3s\nRestartSec=500ms\n", 0o644, "")
	s.Script(t, "systemctl daemon-reload; systemctl start stewardd")
	pid = s.awaitNew("0", "started")
	// What a certificate's renewal starts: the daemon has copies of its credentials, and gets new ones.
	s.WriteFile(t, "/etc/steward/credentials/s3-session-token", "\n", 0o600, "")
	pid = s.awaitNew(pid, "a credential was replaced")
	for _, end := range []struct{ signal, result string }{{"STOP", "watchdog"}, {"KILL", "signal"}} {
		s.Must(t, "kill", "-"+end.signal, pid)
		pid = s.awaitNew(pid, end.result)
		if got := s.Journal(t, unit); !strings.Contains(got, "Failed with result '"+end.result+"'") {
			t.Errorf("SIG%s did not end it by %s:\n%s", end.signal, end.result, got)
		}
	}
	for line := range strings.Lines(s.Journal(t, unit)) {
		if strings.Contains(line, "ermission denied") || strings.Contains(line, "peration not permitted") || strings.Contains(line, "ead-only file system") {
			t.Errorf("the hardening is in the way: %s", line)
		}
	}
}

// TestInstalledKubeadm: on a master that kubeadm made, whose etcd is a static pod, the unit needs no drop-in; one for a store that is a folder, as the unit says.
func TestInstalledKubeadm(t *testing.T) {
	t.Parallel()
	s, _ := newSteward(t, EtcdOptions{Flavour: StaticPod, Version: "3.5"})
	s.Mkdir(t, "/var/backups/etcd", 0o700, "steward")
	s.WriteFile(t, "/etc/systemd/system/stewardd.service.d/store.conf", "[Service]\nReadWritePaths=/var/backups/etcd\n", 0o644, "")
	s.start("store: file:///var/backups/etcd")
	key := s.put()
	s.Systemctl(t, "stop", "stewardd")
	s.recorded(key)
}

// hardened checks that systemd has really done what the unit says.
func (s *steward) hardened() {
	t := s.t
	t.Helper()
	out := s.Must(t, "systemd-analyze", "security", "--no-pager", "--threshold=25", unit)
	t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	pid := s.Property(t, unit, "MainPID")
	status := s.ReadFile(t, "/proc/"+pid+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the process is not so: %s\n%s", want, status)
		}
	}
	if uid := s.Must(t, "stat", "-c", "%U", "/proc/"+pid); uid != "steward\n" {
		t.Errorf("it runs as %s", uid)
	}
	// From inside: what the daemon sees of the machine.
	for path, visible := range map[string]bool{"/etc/ssl/etcd/ssl/admin-m1-key.pem": false, "/etc/steward/steward.yaml": true, "/etc/steward/credentials/s3-access-key-id": false} {
		r := s.Run(t.Context(), "nsenter", "-t", pid, "-m", "-U", "--setuid", s.uid(), "--setgid", s.uid(), "test", "-r", path)
		if (r.Code == 0) != visible {
			t.Errorf("the daemon can read %s: %v, want %v (%+v)", path, r.Code == 0, visible, r)
		}
	}
	if r := s.Run(t.Context(), "nsenter", "-t", pid, "-m", "touch", "/etc/written"); !strings.Contains(r.Stderr, "Read-only file system") {
		t.Errorf("writing to /etc in the daemon's view: %+v", r)
	}
}

func (s *steward) uid() string {
	s.t.Helper()
	return strings.TrimSpace(s.Must(s.t, "id", "-u", "steward"))
}
