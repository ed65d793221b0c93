package host

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

// TestFlagKinds: which flags need no value, and which are numbers, is what etcd itself says.
func TestFlagKinds(t *testing.T) {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	embed.NewConfig().AddFlags(fs)
	n := 0
	fs.VisitAll(func(f *flag.Flag) {
		n++
		b, ok := f.Value.(interface{ IsBoolFlag() bool })
		if is := ok && b.IsBoolFlag(); is != toggles[f.Name] {
			t.Errorf("%s: needs no value: got %v, want %v", f.Name, toggles[f.Name], is)
		}
		if g, ok := f.Value.(flag.Getter); ok {
			switch g.Get().(type) {
			case uint, int, int64, uint64, uint32:
				if !numbers[f.Name] {
					t.Errorf("%s is a number", f.Name)
				}
			default:
				if numbers[f.Name] {
					t.Errorf("%s is no number", f.Name)
				}
			}
		}
		if f.DefValue != "" && defaults[f.Name] != "" && !strings.Contains(f.DefValue, defaults[f.Name]) && f.Name != "initial-cluster-state" {
			t.Errorf("%s: default: got %s, want %s", f.Name, defaults[f.Name], f.DefValue)
		}
	})
	if n < 80 {
		t.Errorf("etcd has %d flags: nothing was compared", n)
	}
}

// TestYAMLForEtcd: etcd itself reads what is written into its YAML file.
func TestYAMLForEtcd(t *testing.T) {
	values := map[string]string{
		"name": "m1", "data-dir": "/var/lib/etcd", "listen-peer-urls": "https://10.0.0.1:2380", "listen-client-urls": "https://10.0.0.1:2379,https://127.0.0.1:2379",
		"initial-advertise-peer-urls": "https://10.0.0.1:2380", "advertise-client-urls": "https://10.0.0.1:2379", "initial-cluster": "m1=https://10.0.0.1:2380",
		"initial-cluster-state": "existing", "initial-cluster-token": "a: b", "quota-backend-bytes": "8589934592", "snapshot-count": "5000",
		"cert-file": "/c", "key-file": "/k", "trusted-ca-file": "/ca", "client-cert-auth": "true", "peer-cert-file": "/pc", "peer-key-file": "/pk",
		"peer-trusted-ca-file": "/pca", "peer-client-cert-auth": "true", "peer-cert-allowed-cn": "etcd", "peer-skip-client-san-verification": "true",
		"log-outputs": "stderr", "cipher-suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "auto-compaction-retention": "8",
		"strict-reconfig-check": "false",
	}
	for _, start := range []string{"", "# mine\nname: other # x\nclient-transport-security:\n    cert-file: /old\n"} {
		text := []byte(start)
		for _, f := range sortedKeys(values) {
			var err error
			if text, err = setYAML(text, f, values[f]); err != nil {
				t.Fatal(err)
			}
		}
		if start != "" && !strings.HasPrefix(string(text), "# mine\nname: m1 # x\n") {
			t.Errorf("comments are lost:\n%s", text)
		}
		file := filepath.Join(t.TempDir(), "etcd.yml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := embed.ConfigFromFile(file)
		if err != nil {
			t.Fatalf("etcd: %v\n%s", err, text)
		}
		if c.Name != "m1" || len(c.ListenClientUrls) != 2 || c.QuotaBackendBytes != 8589934592 || !c.ClientTLSInfo.ClientCertAuth || c.ClientTLSInfo.CertFile != "/c" ||
			!c.PeerTLSInfo.ClientCertAuth || c.PeerTLSInfo.TrustedCAFile != "/pca" || !c.PeerTLSInfo.SkipClientSANVerify || len(c.CipherSuites) != 2 ||
			c.InitialClusterToken != "a: b" || c.ClusterState != "existing" || c.StrictReconfigCheck || c.SnapshotCount != 5000 {
			t.Errorf("etcd reads %+v from\n%s", c, text)
		}
		for _, f := range sortedKeys(values) {
			if text, err = setYAML(text, f, ""); err != nil {
				t.Fatal(err)
			}
		}
		left, err := yamlSettings(text, "")
		if err != nil || len(left) > 2 { // blocks that are empty now
			t.Errorf("left over: %v, %v\n%s", left, err, text)
		}
	}
}

func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}

// FuzzYAML: whatever stands in etcd's YAML file, a flag that is set is read back, and nothing else has changed.
func FuzzYAML(f *testing.F) {
	f.Add("~", "0")
	f.Add("name: a\nclient-transport-security: {cert-file: /x}\n", "b")
	f.Add("# c\npeer-transport-security:\n  cert-file: 'x'\n  # d\nname: \"a\"\n...\n", "c: d")
	f.Fuzz(func(t *testing.T, text, value string) {
		before, err := yamlSettings([]byte(text), "")
		if err != nil || len(text) > 1<<16 || checkChanges(map[string]string{"name": value}, "t") != nil {
			return
		}
		for _, flag := range []string{"name", "cert-file", "peer-cert-file"} {
			out, err := setYAML([]byte(text), flag, value)
			if err != nil {
				continue
			}
			after, err := yamlSettings(out, "")
			if err != nil {
				t.Fatalf("%s=%q made %q of %q: %v", flag, value, out, text, err)
			}
			if after[flag].Value != value || !sameSettings(before, after, flag, clientBlock, peerBlock) {
				t.Fatalf("%s=%q made %q of %q: %v, before %v", flag, value, out, text, after, before)
			}
		}
	})
}

// FuzzManifest: whatever the kubelet's folder holds, it is read or a problem; an etcd in there can be changed, and then says so.
func FuzzManifest(f *testing.F) {
	f.Add("metadata: {name: etcd}\nspec:\n  containers:\n  - command:\n    - etcd\n    - --name=a\n    volumeMounts:\n    - {mountPath: /d, name: d}\n", "b c")
	f.Add("spec: {containers: [{command: [etcd, --name, 'a']}]}", "x,y")
	f.Add("spec:\n  containers:\n  - image: q/etcd:1\n    args: [\"--name=a\"]\n    env: [{name: ETCD_NAME, value: x}]\n", "y")
	f.Fuzz(func(t *testing.T, text, value string) {
		m := &Machine{Root: t.TempDir(), Manifests: defaultManifests}
		read := func(text []byte) *Etcd {
			f := &finder{Tree: m.tree(), m: &Machine{Root: m.Root, Manifests: m.Manifests}}
			if err := f.manifest(text, "/m/e.yaml", "/m/e.yaml", map[string]bool{}); err != nil || len(f.m.Etcds) != 1 {
				return nil
			}
			return &f.m.Etcds[0]
		}
		if len(text) > 1<<16 || value == "" || checkChanges(map[string]string{"name": value}, "t") != nil {
			return
		}
		e := read([]byte(text))
		if e == nil || e.Unclear != nil || e.Config != "" {
			return
		}
		out, err := m.setPod([]byte(text), e, []string{"name"}, map[string]string{"name": value})
		if err != nil {
			return
		}
		now := read(out)
		if now == nil || now.Settings["name"].Value != value || !sameSettings(e.Settings, now.Settings, "name") {
			// Configure reads back, and undoes; but it should not come to that.
			if strings.ContainsAny(text, "&*$|>?!\\") || strings.Contains(value, "$(") {
				return
			}
			t.Fatalf("name=%q made %q of %q", value, out, text)
		}
	})
}
