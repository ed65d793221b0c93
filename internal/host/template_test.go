package host

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"etcd-steward/internal/fail"
)

// TestTemplate: what a new member has in common with another one, and what it has not.
func TestTemplate(t *testing.T) {
	root := t.TempDir()
	put(t, root, "etc/hostname", "n1\n")
	put(t, root, "usr/bin/etcd", "")
	put(t, root, "etc/systemd/system/etcd.service", "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd\n")
	put(t, root, "etc/etcd.env", strings.Join([]string{
		"ETCD_NAME=etcd1", "ETCD_DATA_DIR=/var/lib/etcd-n1", "ETCD_INITIAL_CLUSTER=etcd1=https://10.0.0.1:2380", "ETCD_QUOTA_BACKEND_BYTES=7", "ETCD_LOG_OUTPUTS=/etc/passwd",
		"ETCD_UNSAFE_NO_FSYNC=true", "ETCD_FORCE_NEW_CLUSTER=true", "ETCD_DISCOVERY=https://secret", "ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://10.0.0.1:2379",
		"ETCD_LISTEN_PEER_URLS=https://0.0.0.0:2380", "ETCD_CERT_FILE=/pki/member-n1.pem", "ETCD_KEY_FILE=/pki/member-n1-key.pem", "ETCD_TRUSTED_CA_FILE=/pki/ca.pem",
		"ETCD_CLIENT_CERT_AUTH=true", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK=true", "ETCD_EXPERIMENTAL_DISTRIBUTED_TRACING_ADDRESS=x",
	}, "\n"))
	m := Detect(root)
	e, err := m.Etcd("")
	if err != nil {
		t.Fatal(err)
	}
	like := m.Template(e)
	want := []string{"cert-file", "client-cert-auth", "data-dir", "experimental-initial-corrupt-check", "key-file", "listen-client-urls", "listen-peer-urls", "quota-backend-bytes", "trusted-ca-file"}
	if got := slices.Sorted(maps.Keys(like.Settings)); !slices.Equal(got, want) || like.Host != "n1" || like.Member != "etcd1" {
		t.Errorf("got %v of %s, %s", got, like.Host, like.Member)
	}
	if got := like.Listen("listen-client-urls", "10.0.0.2"); !slices.Equal(got, []string{"https://127.0.0.1:2379", "https://10.0.0.2:2379"}) {
		t.Errorf("it listens at %v", got)
	}

	// What somebody else has written into the plan is not taken.
	like.Settings["log-outputs"], like.Settings["force-new-cluster"] = "/etc/passwd", "true"
	to := t.TempDir()
	put(t, to, "etc/hostname", "n2\n")
	put(t, to, "usr/bin/etcd", "")
	for _, f := range []string{"pki/ca.pem", "pki/member-n2.pem", "pki/member-n2-key.pem", "pki/member-n1.pem", "pki/member-n1-key.pem"} {
		put(t, to, f, "")
	}
	n := Detect(to)
	p, err := n.Place("", like)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"name": "etcd2", "listen-client-urls": "https://10.0.0.2:2379", "advertise-client-urls": "https://10.0.0.2:2379"}
	if err := n.Complete(nil, p.Kind, like, settings); err != nil {
		t.Fatal(err)
	}
	expected, err := n.Prospect(nil, p, settings)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := n.Create(p, settings, "t")
	if err != nil {
		t.Fatal(err)
	}
	if !sameSettings(made.Settings, expected.Settings) || made.User != expected.User || made.Kind != expected.Kind || made.Name != expected.Name {
		t.Errorf("made %+v, expected %+v", made.Settings, expected.Settings)
	}
	for flag, want := range map[string]string{"data-dir": "/var/lib/etcd-n2", "cert-file": "/pki/member-n2.pem", "log-outputs": "", "force-new-cluster": "", "quota-backend-bytes": "7"} {
		if got := made.Settings[flag].Value; got != want {
			t.Errorf("%s is %q, want %q", flag, got, want)
		}
	}
}

// TestPKI: certificates are taken where exactly one set lies ready, and people are told what is missing.
func TestPKI(t *testing.T) {
	spray, plain, other := sprayPair("member-n4"), plainPairs(plainPKI[0])[0], plainPairs(plainPKI[1])[1]
	for name, c := range map[string]struct {
		have []PKI
		kind Kind
		want PKI
		err  string
	}{
		"kubespray":                 {[]PKI{spray}, Unit, spray, ""},
		"kubespray, another name":   {[]PKI{sprayPair("member-x")}, Unit, sprayPair("member-x"), ""},
		"two of kubespray's":        {[]PKI{sprayPair("member-x"), sprayPair("member-y")}, Unit, PKI{}, "more than one place"},
		"a folder":                  {[]PKI{plain}, Unit, plain, ""},
		"another folder":            {[]PKI{other}, Unit, other, ""},
		"two folders":               {[]PKI{plain, other}, Unit, PKI{}, "more than one place"},
		"kubespray and a folder":    {[]PKI{plain, spray}, Unit, spray, ""},
		"kubeadm":                   {[]PKI{kubeadmPair()}, StaticPod, kubeadmPair(), ""},
		"kubeadm's for a unit":      {[]PKI{kubeadmPair()}, Unit, kubeadmPair(), ""},
		"a folder, no static pod's": {[]PKI{plain}, StaticPod, PKI{}, "missing are /etc/kubernetes/pki/etcd/ca.crt"},
		"none":                      {nil, Unit, PKI{}, "looked in /etc/ssl/etcd/ssl, /etc/etcd/pki, /etc/etcd/ssl"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "etc/hostname", "n4\n")
			for _, k := range c.have {
				for _, f := range k.files() {
					put(t, root, f[1:], "")
				}
			}
			s := map[string]string{"listen-peer-urls": "https://10.0.0.4:2380", "listen-client-urls": "https://10.0.0.4:2379,https://127.0.0.1:2379"}
			err := Detect(root).Complete(nil, c.kind, nil, s)
			if c.err != "" {
				if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %s", err, c.err)
				}
				if hint := fail.HintOf(err); strings.Contains(c.err, "missing") && !strings.Contains(hint, "valid for 10.0.0.4, 127.0.0.1") {
					t.Errorf("hint: %s", hint)
				}
				return
			}
			got := PKI{s["trusted-ca-file"], s["cert-file"], s["key-file"], s["peer-trusted-ca-file"], s["peer-cert-file"], s["peer-key-file"]}
			if err != nil || got != c.want || s["client-cert-auth"] != "true" || s["peer-client-cert-auth"] != "true" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestPlaceLike: a new member runs as the other one does, and a static pod what that one runs.
func TestPlaceLike(t *testing.T) {
	root := t.TempDir()
	put(t, root, "etc/kubernetes/manifests/.keep", "")
	put(t, root, "usr/local/bin/etcd", "")
	m := Detect(root)
	pod := &Template{Kind: StaticPod, Image: "registry.k8s.io/etcd:3.6.5-0"}
	for name, c := range map[string]struct {
		image string
		like  *Template
		kind  Kind
		want  string
	}{
		"as a pod":          {"", pod, StaticPod, pod.Image},
		"as a unit":         {"", &Template{Kind: Unit}, Unit, ""},
		"an image is given": {"etcd:1", pod, StaticPod, "etcd:1"},
		"nobody says":       {"", nil, "", ""},
		"a bad image":       {"", &Template{Kind: StaticPod, Image: "x\n    command: [sh]"}, "", ""},
	} {
		p, err := m.Place(c.image, c.like)
		if p.Kind != c.kind || p.Image != c.want || (err != nil) != (c.kind == "") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}
