package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-steward/internal/fail"
)

// TestRefuse: what the program says and how it ends when it cannot begin. Nothing listens, nothing is written.
func TestRefuse(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = "store: file:///var/backups\nencryption: {none: true}\nclusters: [{endpoints: ['http://127.0.0.1:1']}]\n"
	key := file("key", "secret\n", 0o644)
	s3 := "store: s3://b\nencryption: {none: true}\nclusters: [{endpoints: ['http://127.0.0.1:1']}]\ns3: {access_key_id_file: " + key + ", secret_access_key_file: " + key + "}\n"
	identity := file("identity", "AGE-SECRET-KEY-1HUNTER2\n", 0o600)
	for _, c := range []struct {
		name string
		args []string
		code fail.Code
		out  string
		err  []string
	}{
		{"missing", []string{"--config", dir + "/none.yaml"}, fail.Usage, "", []string{"read config", "no such file", "hint: name the file with --config"}},
		{"others read", []string{"--config", file("open.yaml", good, 0o644)}, fail.Unsafe, "", []string{"has mode 0644: others can read it", "hint: chmod 0640 "}},
		{"group writes", []string{"--config", file("group.yaml", good, 0o660)}, fail.Unsafe, "", []string{"has mode 0660: others can write it"}},
		{"others read a key", []string{"--config", file("key.yaml", s3, 0o600)}, fail.Unsafe, "", []string{key + " has mode 0644: others can read it", "hint: chmod 0600 " + key}},
		{"two problems", []string{"--config", file("bad.yaml", "stroe: x\nlisten: y\n", 0o600)}, fail.Usage, "", []string{`bad.yaml:1: unknown field "stroe" (did you mean "store"?)`}},
		{"no identity", []string{"check-config", "--config", file("id.yaml", "encryption: {none: true, identity_file: "+identity+"}\n"+strings.Replace(good, "encryption: {none: true}\n", "", 1), 0o600)}, fail.Usage, "", []string{"line 1 is not an age secret key"}},
		{"good", []string{"check-config", "--config", file("good.yaml", good, 0o640)}, fail.OK, "good.yaml is good\n", nil},
		{"flag", []string{"--cofnig", "x"}, fail.Usage, "", []string{"flag provided but not defined: -cofnig", "hint: stewardd --help"}},
		{"flag of a command", []string{"check-config", "--nothing"}, fail.Usage, "", []string{"not defined: -nothing"}},
		{"command", []string{"backup"}, fail.Usage, "", []string{`unknown command "backup"`}},
		{"version", []string{"version"}, fail.OK, "etcd-steward ", nil},
		{"version as JSON", []string{"version", "--json"}, fail.OK, `{"version":`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, complaint bytes.Buffer
			code := execute(append([]string{"stewardd"}, c.args...), &out, &complaint)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, complaint.String())
			}
			if !strings.Contains(out.String(), c.out) || c.out == "" && out.Len() > 0 {
				t.Errorf("standard output %q, want %q", out.String(), c.out)
			}
			for _, want := range c.err {
				if !strings.Contains(complaint.String(), want) {
					t.Errorf("standard error %q, want %q in it", complaint.String(), want)
				}
			}
			if strings.Contains(complaint.String(), "HUNTER2") || c.err == nil && complaint.Len() > 0 {
				t.Errorf("standard error %q", complaint.String())
			}
		})
	}
	if _, err := os.Stat("/var/backups/main"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}
