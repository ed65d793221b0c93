package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/integration/lab"
)

// unitFolder is the units, with a program that exists on this machine in place of the daemon.
func unitFolder(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-analyze is missing")
		}
		t.Skip("systemd-analyze is missing: apt-get install systemd")
	}
	dir := t.TempDir()
	units, err := filepath.Glob(filepath.Join(lab.Root(), "systemd", "stewardd*"))
	if err != nil || len(units) < 3 {
		t.Fatalf("units: %v %v", units, err)
	}
	for _, unit := range units {
		text := strings.ReplaceAll(readFile(t, unit), "/usr/local/bin/stewardd", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(unit)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestUnit: systemd understands every line of the units, also with the drop-in for kubespray.
func TestUnit(t *testing.T) {
	dir := unitFolder(t)
	units, err := filepath.Glob(filepath.Join(dir, "stewardd*"))
	if err != nil {
		t.Fatal(err)
	}
	dropIn := filepath.Join(dir, "stewardd.service.d", "10-kubespray.conf")
	if err := os.Mkdir(filepath.Dir(dropIn), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dropIn, []byte(readFile(t, filepath.Join(lab.Root(), "systemd", "10-kubespray.conf"))), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) != 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestUnitSecurity: the daemon's unit is exposed at most 2.5 of 10, by systemd's own measure.
func TestUnitSecurity(t *testing.T) {
	dir := unitFolder(t)
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", filepath.Join(dir, "stewardd.service")).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
	// The measure must not be passed by a unit that systemd reads differently: the same without hardening fails.
	bare := filepath.Join(t.TempDir(), "stewardd.service")
	if err := os.WriteFile(bare, []byte("[Service]\nExecStart=/bin/true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=25", bare).CombinedOutput(); err == nil {
		t.Errorf("a unit without any hardening passes:\n%s", out)
	}
}

// TestUnitAgrees: what the unit says is what the program does.
func TestUnitAgrees(t *testing.T) {
	unit := readFile(t, filepath.Join(lab.Root(), "systemd", "stewardd.service"))
	for _, want := range []string{
		"--config /etc/steward/steward.yaml\n", "CacheDirectory=steward\n", "StateDirectory=steward\n", "Type=notify\n", "ExecReload=/bin/kill -HUP $MAINPID\n", "CapabilityBoundingSet=\n", "User=steward\n",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	example := readFile(t, filepath.Join(lab.Root(), "systemd", "steward.yaml.example"))
	for line := range strings.SplitSeq(unit, "\n") {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "LoadCredential="), ":")
		if !ok || !strings.HasPrefix(line, "LoadCredential=") {
			continue
		}
		if !strings.Contains(unit, "\nSetCredential="+name+`:\n`+"\n") {
			t.Errorf("without a fallback for credential %s, the service does not start where its file is missing", name)
		}
		if !strings.Contains(example, name) {
			t.Errorf("the example does not know the credential %s", name)
		}
	}
}
