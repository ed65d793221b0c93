package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// server is the HTTP side: /healthz, /readyz, /status, /metrics. It can move to another address while it runs.
type server struct {
	handler http.Handler
	log     *slog.Logger

	mu      sync.Mutex
	addr    string // as configured
	current *http.Server
	failed  chan error     // of the current listener
	serving sync.WaitGroup // the goroutines that serve
}

// newServer makes the pages of a daemon. log gets what net/http complains about.
func newServer(s *state, p *pulse, log *slog.Logger) *server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { page(w, p.silent()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { page(w, s.notReady(time.Now())) })
	mux.HandleFunc("GET /status", s.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry(), promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return &server{handler: mux, log: log, failed: make(chan error, 1)}
}

// page answers 200 ok, or 503 with one reason a line.
func page(w http.ResponseWriter, reasons []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(reasons) == 0 {
		_, _ = fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, strings.Join(reasons, "\n"))
}

// listen serves on addr from now on. On an error, what was served before is still served.
func (s *server) listen(addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr == s.addr && s.current != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for health and metrics: %w", err)
	}
	old := s.current
	s.addr = addr
	s.current = &http.Server{
		Handler: s.handler, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	s.log.Info("listening for health and metrics", "address", l.Addr().String())
	h := s.current
	s.serving.Go(func() { s.serve(h, l) })
	if old != nil {
		s.close(old)
	}
	return nil
}

// serve ends when its server is shut down.
func (s *server) serve(h *http.Server, l net.Listener) {
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		select {
		case s.failed <- fmt.Errorf("serve health and metrics: %w", err):
		default:
		}
	}
}

// close ends a server within a second; a scrape that takes longer is cut off.
func (s *server) close(h *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		_ = h.Close()
	}
}

// run is the actor: it ends when ctx does, or when the listener fails.
func (s *server) run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.close(s.current)
	}
	s.serving.Wait()
	return err
}
