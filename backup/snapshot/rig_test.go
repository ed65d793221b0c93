package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// slow says why a test that starts servers does not run with -short.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
}

// filled is a cluster of one member with a database of about n KiB.
func filled(t *testing.T, opts lab.EtcdOptions, n int) *lab.Cluster {
	t.Helper()
	opts.UnsafeNoFsync = true
	c := lab.StartEtcd(t, opts)
	c.Stop(0)
	lab.FillOffline(t, c.DataDir(0), lab.FillOptions{Keys: n, Seed: 1})
	c.Restart(t, 0)
	c.WaitHealthy(t)
	return c
}

// cluster is how the lab's cluster is reached.
func cluster(t *testing.T, c *lab.Cluster) Cluster {
	t.Helper()
	return Cluster{Endpoints: c.Endpoints(), TLS: c.TLSConfig(t)}
}

// choose must find a member.
func choose(t *testing.T, c Cluster) Member {
	t.Helper()
	m, seen, err := Choose(t.Context(), c)
	if err != nil {
		t.Fatalf("choose: %v (%+v)", err, seen)
	}
	return m
}

// content is the spooled database with its trailer, as etcdutl wants it.
func content(t *testing.T, s *Spool) []byte {
	t.Helper()
	b := make([]byte, s.Size, s.Size+trailerSize)
	if _, err := s.raw.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := s.raw.ReadAt(make([]byte, 1), s.Size); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the spooled file goes on after %d bytes", s.Size)
	}
	if sum := sha256.Sum256(b); repo.SHA256(sum) != s.SHA256 {
		t.Errorf("the spooled file has hash %x, want %s", sum, s.SHA256)
	}
	return append(b, s.SHA256[:]...)
}

// checkSealed decodes the sealed object and compares it with the content.
func checkSealed(t *testing.T, s *Spool, id age.Identity, want []byte) {
	t.Helper()
	got := make(buffer, len(want))
	fetch := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.Object(), off, n)), nil
	}
	opts := envelope.DecodeOptions{WholeObject: true}
	if id != nil {
		opts.Identities = []age.Identity{id}
	}
	if err := envelope.Decode(t.Context(), s.Sealed.Object("x"), int64(len(want)), fetch, got, opts); err != nil {
		t.Fatalf("decode the sealed object: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the sealed object holds something else than the spool")
	}
}

// buffer is memory of a fixed size to write into.
type buffer []byte

func (b buffer) WriteAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > int64(len(b)) {
		return 0, io.ErrShortWrite
	}
	return copy(b[at:], p), nil
}

// wantError checks an error's words, its hint and its exit code, and that no secret and no second line is in it.
func wantError(t *testing.T, err error, words string, hint string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("no error, want one that says %q", words)
	case !strings.Contains(err.Error(), words):
		t.Errorf("got %q, want an error that says %q", err, words)
	case strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "rpc error"):
		t.Errorf("got %q, want one sentence for people", err)
	case !strings.Contains(fail.HintOf(err), hint) || fail.HintOf(err) == "":
		t.Errorf("%q has the hint %q, want one that says %q", err, fail.HintOf(err), hint)
	}
}

// nothingLeft checks that a failed stream left neither files, nor open descriptors into the folder, nor goroutines of ours. It is not for
// tests that run beside others.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	noFiles(t, dir)
	lab.Eventually(t, 5*time.Second, "all goroutines end", func() error {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, ours := range []string{"snapshot.startSinks", "snapshot.(*watchdog)", "envelope.(*Writer)"} {
			if bytes.Contains(stacks, []byte(ours)) {
				return errors.New(ours + " still runs")
			}
		}
		return nil
	})
}

// noFiles checks that nothing of a spool is left in the folder, with or without a name.
func noFiles(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the spool folder holds %v (%v)", left, err)
	}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, dir+"/") {
			t.Errorf("%s is still open", to)
		}
	}
}

// proxy passes connections on to addr, and calls hook once, when so many bytes have come back; nothing moves while it runs.
type proxy struct {
	url string
	mu  sync.Mutex
	n   int64
}

func startProxy(t *testing.T, endpoint string, after int64, hook func()) *proxy {
	t.Helper()
	scheme, addr, _ := strings.Cut(endpoint, "://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: scheme + "://" + l.Addr().String()}
	var joined sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		joined.Wait()
	})
	joined.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			joined.Go(func() {
				defer in.Close()
				defer out.Close()
				_, _ = io.Copy(out, in)
			})
			joined.Go(func() {
				defer in.Close()
				defer out.Close()
				p.back(in, out, after, hook)
			})
		}
	})
	return p
}

func (p *proxy) back(dst io.Writer, src io.Reader, after int64, hook func()) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		if p.n < after && p.n+int64(n) >= after {
			hook()
		}
		p.n += int64(n)
		p.mu.Unlock()
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// through is the cluster as seen through a proxy.
func through(t *testing.T, c *lab.Cluster, p *proxy) Cluster {
	t.Helper()
	return Cluster{Endpoints: []string{p.url}, TLS: c.TLSConfig(t), Local: true}
}
