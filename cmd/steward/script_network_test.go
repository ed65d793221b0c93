package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// blackhole VARIABLE: the address of a server that takes connections and never answers.
func cmdBlackhole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: blackhole VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// stuckput VARIABLE MARK [METHOD]: a plain-HTTP front of the S3 server, as a URL, that never answers when a snapshot's data is put, or with GET is read; it
// makes the file MARK when that happens.
func cmdStuckPut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: stuckput VARIABLE MARK [METHOD]")
	}
	method := http.MethodPut
	if len(args) == 3 {
		method = args[2]
	}
	backend, err := url.Parse(ts.Getenv("S3"))
	ts.Check(err)
	transport, err := trusting(ts.Getenv("S3_CA"))
	ts.Check(err)
	mark := ts.MkAbs(args[1])
	stop := make(chan struct{})
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(backend)
		r.Out.Host = r.In.Host // it is signed
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && strings.Contains(r.URL.Path, ".db.zst") {
			_ = os.WriteFile(mark, nil, 0o600)
			<-stop
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(l)
		close(done)
	}()
	ts.Defer(func() {
		close(stop)
		_ = server.Close()
		<-done
	})
	ts.Setenv(args[0], "http://"+l.Addr().String())
}

// interrupted is where a script keeps the command that it interrupted.
type interrupted struct{ cmd *exec.Cmd }

type interruptedKey struct{}

// interrupt MARK: sends SIGINT to the background command when the file MARK is there.
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.BackgroundCmds()
	if neg || len(args) != 1 || len(running) != 1 {
		ts.Fatalf("usage: interrupt MARK, with one background command (%d are running)", len(running))
	}
	mark := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("it did not come to %s within 30 s", args[0])
		}
	}
	ts.Value(interruptedKey{}).(*interrupted).cmd = running[0]
	ts.Check(running[0].Process.Signal(syscall.SIGINT))
}

// ended CODE: after wait, the exit code of the command that was interrupted.
func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	cmd := ts.Value(interruptedKey{}).(*interrupted).cmd
	if neg || len(args) != 1 || cmd == nil || cmd.ProcessState == nil {
		ts.Fatalf("usage: ended CODE, after interrupt and wait")
	}
	if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// trusting is a transport that trusts one authority.
func trusting(caFile string) (*http.Transport, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, nil
}
