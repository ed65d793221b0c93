package daemon

import (
	"context"
	"net"
	"net/url"
	"slices"
	"time"

	"etcd-steward/internal/host"
	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

// watch is the actor that looks at the cluster's members until loop ends, and judges what it sees. It changes nothing.
func (c *cluster) watch(loop context.Context) {
	const name = "health"
	defer c.pulse.forget(c.id(name))
	h := c.cfg.Health
	w := &watcher{
		state: c.health, interval: time.Duration(h.Interval), compare: time.Duration(h.Compare), certificates: func() []health.Certificate { return health.OfFiles(c.cfg.TLS.CA, c.cfg.TLS.Cert) },
		machine: host.Detect("/"),
		look:    func(ctx context.Context, o probe.Options) (*probe.View, error) { return probe.Look(ctx, c.members, o) }, here: isHere,
	}
	for loop.Err() == nil {
		due := time.Now().Add(w.interval)
		stop := c.beating(name)
		w.once(loop, c.log.With("job", name))
		stop()
		c.restBeating(loop, name, max(time.Until(due), time.Second))
	}
}

// beating beats while something runs that is bounded by itself. The caller calls what it returns.
func (c *cluster) beating(name string) (stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*compareLimit)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			c.pulse.beat(c.id(name))
			sleep(ctx, beatEvery)
		}
	}()
	return func() { cancel(); <-ended }
}

// Bounds of one look. A comparison of large databases takes its time.
const (
	watchLimit   = 10 * time.Second
	compareLimit = 2 * time.Minute
	// compareRarely is how many comparisons a daemon leaves out when the leader's member is not on its host: the daemon there does it.
	compareRarely = 6
)

// watcher looks again and again.
type watcher struct {
	state             *healthState
	interval, compare time.Duration
	certificates      func() []health.Certificate
	look              func(context.Context, probe.Options) (*probe.View, error)
	here              func(host string) bool // whether an address is this host's
	machine           *host.Machine

	compared time.Time // when this daemon last had data compared
}

// once looks, judges, and tells what is news.
func (w *watcher) once(loop context.Context, log logger) {
	compare := w.dueToCompare(time.Now())
	limit := watchLimit
	if compare {
		limit += compareLimit
	}
	ctx, cancel := context.WithTimeout(loop, limit)
	defer cancel()
	v, err := w.look(ctx, probe.Options{Metrics: true, Hash: compare, HashTimeout: compareLimit})
	if err != nil {
		if loop.Err() == nil {
			log.Error("the members cannot be looked at", "error", err, "hint", hint(err))
		}
		return
	}
	if loop.Err() != nil {
		return // cut off in the middle: what is missing is no finding
	}
	if compare {
		w.compared = time.Now()
	}
	in := health.Input{Now: time.Now(), View: v, History: w.state.history, Certificates: w.certificates()}
	if w.machine != nil {
		in.Certificates = append(in.Certificates, health.OfServers(v.ServerFiles(w.machine))...)
	}
	found := health.Judge(in)
	w.state.history.Add(v)
	w.state.take(v, found, in.Certificates)
	for _, n := range w.state.news() {
		n.log(log)
	}
}

// dueToCompare says whether this daemon has members compare their data now: when it is time, and the leader is on this host, or unknown; otherwise rarely.
func (w *watcher) dueToCompare(now time.Time) bool {
	since := now.Sub(w.compared)
	switch {
	case w.compared.IsZero() && w.state.seen() == nil:
		return false // the first look says who leads
	case w.compared.IsZero() || since < 0:
		return true
	case since < w.compare:
		return false
	}
	v := w.state.seen()
	return since >= compareRarely*w.compare || w.leads(v)
}

// leads says whether the member that leads is on this host, as far as can be told: when none is, or nobody knows the leader, it may as well be.
func (w *watcher) leads(v *probe.View) bool {
	leader, any := v.Agreed().Leader, false
	for _, a := range v.Answers {
		u, err := url.Parse(a.Endpoint)
		if err != nil || a.Err != nil || !w.here(u.Hostname()) {
			continue
		}
		if any = true; a.MemberID == leader {
			return true
		}
	}
	return !any || leader == 0
}

// isHere says whether an address is one of this host's. A name is not looked up.
func isHere(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}
