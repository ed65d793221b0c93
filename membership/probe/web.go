package probe

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"etcd-steward/internal/endpoint"
)

// web is what a member's client URL says over HTTP, where it speaks that.
type web struct {
	server, cluster string // versions
	clock           time.Duration
	clockKnown      bool
	metrics         *Metrics
}

// Bounds of what is read.
const (
	maxVersion = 4 << 10
	maxMetrics = 8 << 20
)

// readWeb asks for the version, whose answer is dated, and for the metrics. Whatever fails is left out.
func readWeb(ctx context.Context, a endpoint.Access, e endpoint.Endpoint, metrics bool) web {
	transport := &http.Transport{TLSClientConfig: a.TLSFor(e), MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var w web
	begun := time.Now()
	resp, err := get(ctx, client, e.URL+"/version")
	if err != nil {
		return w
	}
	ended := time.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The date is cut to the second, so its middle is the best guess; it was written somewhere between the request and now.
		w.clock, w.clockKnown = date.Add(time.Second/2).Sub(begun.Add(ended.Sub(begun)/2)), true
	}
	var v struct{ Etcdserver, Etcdcluster string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxVersion)).Decode(&v); err == nil {
		w.server, w.cluster = cut(v.Etcdserver, maxName), cut(v.Etcdcluster, maxName)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxVersion)) // so that the connection can be used again
	_ = resp.Body.Close()
	if !metrics {
		return w
	}
	if resp, err = get(ctx, client, e.URL+"/metrics"); err != nil {
		return w
	}
	defer func() { _ = resp.Body.Close() }()
	w.metrics = parseMetrics(io.LimitReader(resp.Body, maxMetrics))
	return w
}

// get wants a 200. Its caller closes the body.
func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, http.ErrNotSupported
	}
	return resp, nil
}

// take puts what came over HTTP into the answer, where nothing better is.
func (s *asked) take(w web) {
	s.ClusterVersion, s.Clock, s.ClockKnown, s.Metrics = w.cluster, w.clock, w.clockKnown, w.metrics
	if s.Version == "" {
		s.Version = w.server
	}
	if s.Metrics != nil && s.Quota == 0 {
		s.Quota = s.Metrics.Quota
	}
}
