// Package lab runs real parts for tests, the demo and the benchmarks: etcd 3.5 to 3.7, versitygw over TLS, certificates.
// Everything listens on loopback, ends with the test that started it, and is found by the ids that were started, never by name.
// It promises nothing to users; only tests and cmd-line drivers under integration/ import it.
package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// T is what the lab needs of a test; the demo and the benchmarks bring their own.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Context() context.Context
}

var _ T = (*testing.T)(nil)

// Root is the repository's top folder.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("unreachable: no caller information")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Tool is the path of a binary that `make tools` built (etcd-3.6, etcdctl, versitygw, age, ...). When it is missing the test
// is skipped with the reason; in CI (CI set) it fails, since there nothing may be skipped.
func Tool(t T, name string) string {
	t.Helper()
	path := filepath.Join(Root(), "bin", "tools", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	reason := fmt.Sprintf("%s is not built: run `make tools`", name)
	if s, ok := t.(interface{ Skip(...any) }); ok && os.Getenv("CI") == "" {
		s.Skip(reason)
	}
	t.Fatalf("%s", reason)
	return ""
}

// Eventually polls until cond returns nil, or fails the test with its last error after the deadline. Only for what gives
// no event to wait for.
func Eventually(t T, within time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		select {
		case <-time.After(pause):
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		}
	}
}

// givenAddrs are those that FreeAddr gave in this process.
var givenAddrs sync.Map

// FreeAddr is a loopback address whose port was free a moment ago. It is below the range from which Linux takes the ports of
// outgoing connections, so that none of those, of any test that runs meanwhile, has it when the server binds it. No address is given twice.
func FreeAddr(t T) string {
	t.Helper()
	const first, ports, tries = 10000, 22000, 100
	var err error
	for range tries {
		var l net.Listener
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ports))
		if _, taken := givenAddrs.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err = net.Listen("tcp", addr); err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatalf("find a free port: %v", err)
	return ""
}
