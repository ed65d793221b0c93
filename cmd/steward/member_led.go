package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"etcd-steward/internal/config"
	"etcd-steward/membership"
)

// Bounds of what is asked of this machine's stewardd.
const (
	askDaemon  = 2 * time.Second
	maxMetrics = 4 << 20
)

// ledSince is how long ago the leader changed, as this machine's stewardd has seen it; 0 when that is not known. term is the one of now: when the daemon knows
// another, there was an election since it looked.
func (c *call) ledSince(cfg *config.Config, term uint64) time.Duration {
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(c.ctx, askDaemon)
	defer cancel()
	return ledBy(daemonMetrics(ctx, cfg.Listen), cl.Name, term, time.Now())
}

// daemonMetrics asks the stewardd that listens there; nothing is known when it does not answer.
func daemonMetrics(ctx context.Context, listen string) map[string]*dto.MetricFamily {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/metrics", nil)
	if err != nil {
		return nil
	}
	transport := &http.Transport{MaxResponseHeaderBytes: 64 << 10} // and no proxy
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, maxMetrics))
	if err != nil {
		return nil
	}
	return families
}

// ledBy is how long ago the leader of a cluster changed, by a daemon's metrics.
func ledBy(families map[string]*dto.MetricFamily, cluster string, term uint64, now time.Time) time.Duration {
	value := func(name string) float64 {
		for _, m := range families["steward_health_"+name].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cluster" && l.GetValue() == cluster {
					return m.GetGauge().GetValue() + m.GetUntyped().GetValue()
				}
			}
		}
		return 0
	}
	at := value("leader_changed_timestamp_seconds")
	if known := value("raft_term"); known != 0 && term != 0 && known != float64(term) {
		at = value("look_timestamp_seconds") // it was after that
	}
	ago := now.Sub(time.UnixMilli(int64(at * 1000)))
	if at <= 0 || ago < -time.Minute { // no such moment
		return 0
	}
	return max(ago, time.Second)
}

// termOf is the raft term of a cluster that was looked at.
func termOf(o membership.Origin) uint64 {
	c, err := membership.Read(o.View)
	if err != nil {
		return 0 // making the plan will say why
	}
	return c.Term()
}
