package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
)

// TestCreate: a machine without etcd is set up as it is prepared for, and can be as it was again.
func TestCreate(t *testing.T) {
	settings := map[string]string{
		"name": "m4", "initial-cluster": "m1=https://10.0.0.1:2380,m4=https://10.0.0.4:2380", "initial-cluster-state": "existing",
		"listen-peer-urls": "https://10.0.0.4:2380", "listen-client-urls": "https://10.0.0.4:2379,https://127.0.0.1:2379",
	}
	for name, c := range map[string]struct {
		files map[string]string
		image string
		file  string
		want  map[string]string // some settings
	}{
		"kubelet": {
			map[string]string{"etc/kubernetes/manifests/.keep": "", "etc/kubernetes/pki/etcd/ca.crt": "", "etc/kubernetes/pki/etcd/server.crt": "", "etc/kubernetes/pki/etcd/server.key": "", "etc/kubernetes/pki/etcd/peer.crt": "", "etc/kubernetes/pki/etcd/peer.key": ""},
			"registry.k8s.io/etcd:3.6.5-0", "/etc/kubernetes/steward-parked/etcd.yaml",
			map[string]string{"cert-file": "/etc/kubernetes/pki/etcd/server.crt", "peer-key-file": "/etc/kubernetes/pki/etcd/peer.key"},
		},
		"binary": {
			map[string]string{
				"usr/local/bin/etcd": "", "etc/hostname": "node4\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\netcd:x:998:998::/:/bin/false\n",
				"etc/ssl/etcd/ssl/ca.pem": "", "etc/ssl/etcd/ssl/member-node4.pem": "", "etc/ssl/etcd/ssl/member-node4-key.pem": "", "etc/etcd.env": "# prepared\nETCD_QUOTA_BACKEND_BYTES=1\nETCD_NAME=x\n",
			},
			"", "/etc/systemd/system/etcd.service",
			map[string]string{"cert-file": "/etc/ssl/etcd/ssl/member-node4.pem", "peer-client-cert-auth": "true", "quota-backend-bytes": "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				put(t, root, path, text)
			}
			files := snapshot(t, root)
			m := Detect(root)
			places := m.Places()
			if len(places) != 1 {
				t.Fatalf("places: %+v", places)
			}
			place := places[0]
			place.Image = c.image
			e, edits, err := m.Create(place, settings, "t")
			if err != nil {
				t.Fatal(err)
			}
			if dir, err := e.DataDir(); err != nil || dir != "/var/lib/etcd" || e.File() != c.file || e.Held != (e.Kind == StaticPod) || len(edits) == 0 {
				t.Errorf("data in %s, %v; %s; held %v; %v", dir, err, e.File(), e.Held, edits)
			}
			for flag, want := range settings {
				if e.Value(flag) != want {
					t.Errorf("%s: got %s, want %s", flag, e.Value(flag), want)
				}
			}
			for flag, want := range c.want {
				if e.Value(flag) != want {
					t.Errorf("%s: got %s, want %s", flag, e.Value(flag), want)
				}
			}
			if _, again, err := m.Create(place, settings, "t"); err != nil || !slices.Equal(again, edits) {
				t.Errorf("again: %v, %v, want %v", again, err, edits)
			}
			if len(Detect(root).Places()) > 0 {
				t.Error("with an etcd it is still prepared for one")
			}
			if err := m.Undo(edits); err != nil {
				t.Fatal(err)
			}
			after := snapshot(t, root)
			for path := range after {
				if strings.Contains(path, ".steward-t") || strings.Contains(path, ".undone-t") {
					delete(after, path)
				}
			}
			if diff := cmp.Diff(files, after); diff != "" {
				t.Errorf("undone:\n%s", diff)
			}
		})
	}
	root := t.TempDir()
	put(t, root, "usr/bin/etcd", "")
	m := Detect(root)
	if _, _, err := m.Create(m.Places()[0], settings, "t"); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "no certificates") {
		t.Errorf("without certificates: got %v", err)
	}
	put(t, root, "var/lib/k0s/etcd/.keep", "")
	if places := Detect(root).Places(); places != nil {
		t.Errorf("on k0s: %v", places)
	}
}

// TestCreateTaken: a name that is taken is not taken away. Behind a mask is /dev/null, which would be replaced for the whole machine; a unit that is not understood
// runs something.
func TestCreateTaken(t *testing.T) {
	settings := map[string]string{"name": "m4", "listen-peer-urls": "http://10.0.0.4:2380"}
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"masked":            {"etc/systemd/system/etcd.service", "-> /dev/null", "masked"},
		"not understood":    {"etc/systemd/system/etcd.service", "[Service]\nExecStart=/usr/bin/nice /usr/bin/etcd\n", "/etc/systemd/system/etcd.service is there already"},
		"a package's":       {"usr/lib/systemd/system/etcd.service", "[Service]\nExecStart=/opt/run-it\n", "/usr/lib/systemd/system/etcd.service is there already"},
		"without a command": {"etc/systemd/system/etcd.service", "[Service]\nType=notify\n", "is there already"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "usr/bin/etcd", "")
			put(t, root, "dev/null", "") // stands for the machine's
			put(t, root, c.file, c.text)
			before := snapshot(t, root)
			m := Detect(root)
			if places := m.Places(); len(places) > 0 {
				t.Errorf("prepared for %+v", places)
			}
			_, err := m.Place("", nil)
			if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), c.want) || fail.HintOf(err) == "" {
				t.Errorf("place: got %v, hint %q", err, fail.HintOf(err))
			}
			_, _, err = m.Create(Place{Kind: Unit, Name: "etcd", File: "/etc/etcd.env", Unit: "etcd.service", Binary: "/usr/bin/etcd"}, settings, "t")
			if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), c.want) {
				t.Errorf("create: got %v", err)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
		})
	}
}

// TestReplaceDevice: nothing but a regular file is ever replaced.
func TestReplaceDevice(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "etcd.service", "-> "+dir+"/fifo")
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Machine{Root: "/", Manifests: dir + "/manifests"}
	if err := m.replace(dir+"/etcd.service", []byte("x"), 0o644, "t"); fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("got %v", err)
	}
	if st, err := os.Lstat(dir + "/fifo"); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("it was replaced: %v, %v", st, err)
	}
}

// TestPlace: where a machine could run etcd in two ways, nothing is guessed.
func TestPlace(t *testing.T) {
	pod := map[string]string{"etc/kubernetes/manifests/.keep": ""}
	binary := map[string]string{"usr/local/bin/etcd": ""}
	adm := map[string]string{}
	for _, f := range kubeadmPair().files() {
		adm[f[1:]] = ""
	}
	spray := map[string]string{"etc/hostname": "n4\n", "etc/ssl/etcd/ssl/ca.pem": "", "etc/ssl/etcd/ssl/member-n4.pem": "", "etc/ssl/etcd/ssl/member-n4-key.pem": ""}
	for name, c := range map[string]struct {
		files []map[string]string
		image string
		want  Kind   // else
		err   string // is refused with
	}{
		"nothing":                         {nil, "", "", "none can be"},
		"a kubelet":                       {[]map[string]string{pod}, "", "", "which image"},
		"a kubelet and an image":          {[]map[string]string{pod}, "etcd:1", StaticPod, ""},
		"a binary":                        {[]map[string]string{binary}, "", Unit, ""},
		"a binary and an image":           {[]map[string]string{binary}, "etcd:1", "", "none can be"},
		"both":                            {[]map[string]string{pod, binary}, "", "", "2 ways"},
		"both and kubespray's":            {[]map[string]string{pod, binary, spray}, "", Unit, ""},
		"both and kubeadm's":              {[]map[string]string{pod, binary, adm}, "", "", "which image"},
		"both, kubeadm's and an image":    {[]map[string]string{pod, binary, adm}, "etcd:1", StaticPod, ""},
		"both with everything":            {[]map[string]string{pod, binary, adm, spray}, "", "", "2 ways"},
		"both with everything, an image":  {[]map[string]string{pod, binary, adm, spray}, "etcd:1", StaticPod, ""},
		"both, kubespray's, and an image": {[]map[string]string{pod, binary, spray}, "etcd:1", StaticPod, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, files := range c.files {
				for path, text := range files {
					put(t, root, path, text)
				}
			}
			p, err := Detect(root).Place(c.image, nil)
			if p.Kind != c.want || (err != nil) != (c.err != "") || err != nil && (!strings.Contains(err.Error(), c.err) || fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "") {
				t.Errorf("got %+v, %v, hint %q", p, err, fail.HintOf(err))
			}
		})
	}
}

// TestCreateUser: the unit's user is etcd only where it may read the keys.
func TestCreateUser(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		root := t.TempDir()
		put(t, root, "usr/bin/etcd", "")
		put(t, root, "etc/passwd", "etcd:x:998:998::/:/bin/false\n")
		put(t, root, "etc/key", "")
		if err := os.Chmod(filepath.Join(root, "etc/key"), mode); err != nil {
			t.Fatal(err)
		}
		m := Detect(root)
		e, _, err := m.Create(m.Places()[0], map[string]string{"name": "m4", "cert-file": "/etc/cert", "key-file": "/etc/key"}, "t")
		if err != nil {
			t.Fatal(err)
		}
		if (e.User == "etcd") != want {
			t.Errorf("mode %04o: the unit runs as %q", mode, e.User)
		}
	}
}
