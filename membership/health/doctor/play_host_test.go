package doctor

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

// stopped is a member that served, and was stopped.
func stopped(t *testing.T, version string) *node {
	t.Helper()
	n := newNode(t, version, "m0")
	p := n.start(t)
	n.serves(t)
	p.Stop()
	return n
}

// overwrite changes bytes of a file.
func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f := must(os.OpenFile(path, os.O_RDWR, 0))(t)
	must(f.WriteAt(with, at))(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func playDamagedWAL(t *testing.T, version string) string {
	n := stopped(t, version)
	files := must(filepath.Glob(filepath.Join(n.dir, "member", "wal", "*-*.wal")))(t)
	b := must(os.ReadFile(files[0]))(t)
	at := bytes.Index(b, []byte(n.name)) // of what the first entry says
	if at < 0 {
		t.Fatal("the log does not name the member")
	}
	overwrite(t, files[0], int64(at), []byte("x"))
	return ends(t, n.start(t))
}

func playDamagedDB(t *testing.T, version string) string {
	n := stopped(t, version)
	overwrite(t, filepath.Join(n.dir, "member", "snap", "db"), 0, make([]byte, 16<<10))
	return ends(t, n.start(t))
}

func playNoSpace(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.extra = []string{"--quota-backend-bytes", "1000000"}
	n.start(t)
	cli := n.cli(t)
	var err error
	lab.Eventually(t, 30*time.Second, "it is full", func() error { // what it writes itself depends on where the quota is met; its clients are always told
		if _, err = cli.Put(t.Context(), "k", strings.Repeat("v", 200<<10)); err == nil {
			return errors.New("it is not")
		}
		return nil
	})
	return said(t, err)
}

func playSnapshotFile(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.start(t)
	n.serves(t)
	file := snapshot(t, n)
	overwrite(t, file, 16<<10, []byte("damage"))
	out, err := exec.Command(lab.Tool(t, "etcdutl"), "snapshot", "restore", file, "--data-dir", filepath.Join(t.TempDir(), "r")).CombinedOutput()
	if err == nil {
		t.Fatal("restored")
	}
	return written(t, string(out))
}

// secured is a member with TLS for its clients, and the authority of its certificate.
func secured(t *testing.T, version string) (*node, *lab.CA) {
	t.Helper()
	n, ca := newNode(t, version, "m0"), lab.NewCA(t)
	pair := ca.Issue(t, "server", time.Now().Add(time.Hour))
	n.clientTLS = true
	n.extra = []string{"--cert-file", pair.Cert, "--key-file", pair.Key, "--trusted-ca-file", ca.File, "--client-cert-auth"}
	return n, ca
}

// shake makes handshakes with it until the process's end of the test; etcd writes what it thinks of them.
func (n *node) shake(t *testing.T, cfg *tls.Config) error {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var last error
	lab.Eventually(t, 30*time.Second, "it listens", func() error {
		resp, err := client.Get("https://" + n.client + "/health")
		if err == nil {
			_ = resp.Body.Close()
		}
		if last = err; err != nil && strings.Contains(err.Error(), "connection refused") {
			return err
		}
		return nil
	})
	return last
}

func playExpired(t *testing.T, version string) string {
	n, ca := secured(t, version)
	p := n.start(t)
	_ = n.shake(t, lab.ClientTLS(t, ca, ca.Issue(t, "late", time.Now().Add(-time.Hour))))
	return p.Log
}

// playOtherCA: the client's own authority is another one, and then what the client says of the server.
func playOtherCA(t *testing.T, version string) string {
	n, ca := secured(t, version)
	p := n.start(t)
	other := lab.NewCA(t)
	_ = n.shake(t, lab.ClientTLS(t, ca, other.Issue(t, "stranger", time.Now().Add(time.Hour))))
	return p.Log
}

func playNoCertificate(t *testing.T, version string) string {
	n, ca := secured(t, version)
	p := n.start(t)
	_ = n.shake(t, lab.ClientTLS(t, ca, lab.Pair{}))
	return p.Log
}

func playPlaintext(t *testing.T, version string) string {
	n, _ := secured(t, version)
	p := n.start(t)
	lab.Eventually(t, 30*time.Second, "it listens", func() error {
		resp, err := http.Get("http://" + n.client + "/health")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if err != nil && strings.Contains(err.Error(), "connection refused") {
			return err
		}
		return nil
	})
	return p.Log
}

func playKeyPair(t *testing.T, version string) string {
	n, ca := secured(t, version)
	n.extra[3] = ca.Issue(t, "other", time.Now().Add(time.Hour)).Key
	p := n.start(t)
	select {
	case <-p.Done():
	case <-time.After(2 * time.Second): // it notices at the first handshake
		_ = n.shake(t, lab.ClientTLS(t, ca, lab.Pair{}))
	}
	return p.Log
}

func playPortTaken(t *testing.T, version string) string {
	first := newNode(t, version, "m0")
	first.start(t)
	first.serves(t)
	second := newNode(t, version, "m0")
	second.client = first.client
	return ends(t, second.start(t))
}

func playNoSuchAddress(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.client = "192.0.2.1:2379"
	return ends(t, n.start(t))
}

func playNotAllowed(t *testing.T, version string) string {
	if os.Getuid() != 0 {
		t.Skip("not root: cannot become another user")
	}
	n := stopped(t, version)
	n.user = &syscall.Credential{Uid: 65534, Gid: 65534}
	return ends(t, n.start(t))
}

func playLocked(t *testing.T, version string) string {
	first := newNode(t, version, "m0")
	first.start(t)
	first.serves(t)
	second := newNode(t, version, "m0")
	second.dir = first.dir
	p := second.start(t)
	return p.Log
}

func playDiskFull(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.dir = filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(n.dir, unix.MNT_DETACH) })
	return ends(t, n.start(t))
}

func playUnknownFlag(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.extra = []string{"--enable-v3"}
	return ends(t, n.start(t))
}
