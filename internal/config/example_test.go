package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = "../../systemd/steward.yaml.example"

// optional are the fields that the example shows commented out, since they contradict others.
var optional = []string{"  # profile: backups", "      # server_name: etcd.example.org", "  # none: false"}

// TestExample: the example that is installed is accepted, names every field, and tells the truth about the defaults.
func TestExample(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range optional {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("the example does not show %q", line)
		}
	}
	c, err := resolve(t, string(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bare, err := resolve(t, small, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var absent []string
	for _, s := range c.Effective() {
		if s.From == "default" {
			absent = append(absent, s.Field)
			continue
		}
		if want, ok := defaults[anyCluster(s.Field)]; ok && s.Value != want && s.Field != "clusters[0].verify.deep" && s.Field != "clusters[0].snapshot.compact" {
			t.Errorf("%s is %q in the example, and %q by default", s.Field, s.Value, want)
		}
	}
	want := []string{"s3.profile", "encryption.none", "clusters[0].tls.server_name"}
	if diff := cmp.Diff(want, absent); diff != "" {
		t.Errorf("fields that the example leaves out (-want +got):\n%s", diff)
	}
	for _, name := range credentialNames {
		if !strings.Contains(string(text), name) {
			t.Errorf("the example does not name the credential %s", name)
		}
	}
	if bare.Clusters[0].Snapshot.Spool != c.Clusters[0].Snapshot.Spool {
		t.Error("the example's spool is not the default one")
	}
}

// TestExampleSecondCluster: the commented second cluster is right as well.
func TestExampleSecondCluster(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	full := strings.ReplaceAll(string(text), "\n#  - name: events", "\n  - name: events")
	full = strings.ReplaceAll(full, "\n#    ", "\n    ")
	c, err := resolve(t, full, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Clusters) != 2 || c.Clusters[1].Name != "events" || c.Clusters[1].Snapshot.Schedule != "@daily" {
		t.Errorf("got %+v", c.Clusters)
	}
}
