package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// Configured is what was changed on the new machine.
type Configured struct {
	Etcd  string      `json:"etcd"`
	Edits []host.Edit `json:"edits,omitempty"`
	Aside []string    `json:"aside,omitempty"`
}

// configure sets this machine's etcd up as the member that was added: data of before out of the way, then the configuration.
func (s *Site) configure(ctx context.Context, t *plan.Task) (any, error) {
	h, err := s.here()
	if err != nil {
		return nil, err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	e, err := h.etcd()
	if err != nil {
		return nil, err
	}
	if e != nil {
		if err := h.idle(ctx, e); err != nil {
			return nil, err
		}
	}
	w, err := h.asAdded(t, b, e)
	if err != nil {
		return nil, err
	}
	if err := h.dataMayGo(w.etcd, b); err != nil {
		return nil, err
	}
	var out Configured
	if out.Aside, err = h.aside(t, w.etcd, suffix(t.Plan)); err != nil {
		return nil, err
	}
	out.Etcd, out.Edits, err = h.write(t, w, e)
	if err != nil {
		return nil, err
	}
	if e, err = h.etcd(); err != nil {
		return nil, err
	} else if e == nil {
		return nil, errors.New("etcd was set up, and cannot be found")
	}
	if err := h.makeDir(e, suffix(t.Plan)); err != nil {
		return nil, err
	}
	return out, h.Control.Reload(ctx)
}

// asAdded is what this machine's etcd is to be as the member that was added.
func (h *Host) asAdded(t *plan.Task, b Basis, e *host.Etcd) (wanted, error) {
	var added Added
	if ok, err := t.Result(doAdd, &added); err != nil || !ok {
		return wanted{}, errors.Join(errors.New("the plan does not say as what the member was added"), err)
	}
	return h.wanted(b, added, e)
}

// write changes the configuration, or makes one where there is none.
func (h *Host) write(t *plan.Task, w wanted, e *host.Etcd) (string, []host.Edit, error) {
	if e != nil {
		edits, err := h.Machine.Configure(e, w.settings, tag(t.Plan))
		if err == nil {
			t.Say("etcd's configuration was written: %s", editList(edits))
		}
		return e.Name, edits, err
	}
	maps.DeleteFunc(w.settings, func(_, v string) bool { return v == "" })
	made, edits, err := h.Machine.Create(w.place, w.settings, tag(t.Plan))
	if err != nil {
		return "", nil, err
	}
	t.Say("etcd was set up as %s (%s): %s", w.place.Kind, w.place.Why, editList(edits))
	return made.Name, edits, nil
}

func editList(edits []host.Edit) string {
	var all []string
	for _, e := range edits {
		all = append(all, e.Path)
	}
	return strings.Join(all, ", ")
}

// tag names what a plan has changed on a machine.
func tag(p *plan.Plan) string { return p.ID }

// settingsFor are what a member's configuration must say to join. What it says otherwise stays: certificates, directories, limits.
func settingsFor(n Newcomer, added Added, b Basis, e *host.Etcd) (map[string]string, error) {
	u, err := url.Parse(n.PeerURL)
	if err != nil {
		return nil, fmt.Errorf("peer URL: %w", err)
	}
	out := map[string]string{
		"name": n.Name, "initial-cluster": added.InitialCluster, "initial-cluster-state": "existing",
		"initial-advertise-peer-urls": n.PeerURL, "force-new-cluster": "",
	}
	if e != nil && e.Value("force-new-cluster") == "" {
		delete(out, "force-new-cluster")
	}
	if e == nil || !listens(e.URLs("listen-peer-urls"), n.PeerURL) {
		own, err := listenURL(n.PeerURL)
		if err != nil {
			return nil, err
		}
		if out["listen-peer-urls"] = own; e == nil || e.Bare() {
			out["listen-peer-urls"] = cmp.Or(listenLike(b.Like, "listen-peer-urls", own), own)
		}
	}
	client := clientURL(b, u)
	if e != nil {
		for _, adv := range e.URLs("advertise-client-urls") {
			if x, err := url.Parse(adv); err == nil && sameHost(x, u) {
				client = adv
			}
		}
	}
	out["advertise-client-urls"] = client
	if e == nil || !listens(e.URLs("listen-client-urls"), client) {
		own, err := listenURL(client)
		if err != nil {
			return nil, err
		}
		x, err := url.Parse(client)
		if err != nil {
			return nil, err
		}
		out["listen-client-urls"] = own
		if loop := x.Scheme + "://127.0.0.1:" + x.Port(); loop != own && !strings.HasPrefix(own, x.Scheme+"://127.") {
			out["listen-client-urls"] += "," + loop
		}
		if e == nil || e.Bare() {
			out["listen-client-urls"] = cmp.Or(listenLike(b.Like, "listen-client-urls", own), out["listen-client-urls"])
		}
	}
	if b.Like != nil && (e == nil || e.Bare() && e.Settings["listen-metrics-urls"].Value == "") {
		if metrics := listenMetrics(b.Like, u); metrics != "" {
			out["listen-metrics-urls"] = metrics
		}
	}
	return out, nil
}

// listenMetrics is where a new member serves metrics as the template's does.
func listenMetrics(t *host.Template, peer *url.URL) string {
	found, err := addresses(peer.Hostname(), lookup)
	if err != nil || len(found) == 0 {
		return ""
	}
	return joined(t.Listen("listen-metrics-urls", found[0]))
}

func sameHost(x, y *url.URL) bool {
	a, b := *x, *y
	a.Host, b.Host = hostPort(x.Hostname(), "1"), hostPort(y.Hostname(), "1")
	return sameHostPort(&a, &b)
}

func hostPort(host, port string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}

// clientURL is where clients will reach the new member: as they reach the others, at its own host.
func clientURL(b Basis, peer *url.URL) string {
	for _, m := range b.Members {
		for _, c := range m.ClientURLs {
			if x, err := url.Parse(c); err == nil && x.Port() != "" {
				return x.Scheme + "://" + hostPort(peer.Hostname(), x.Port())
			}
		}
	}
	return peer.Scheme + "://" + hostPort(peer.Hostname(), "2379")
}

// listens says whether one of the URLs that etcd is to listen at serves another: the same port, and its address or any.
func listens(at []string, u string) bool {
	want, err := url.Parse(u)
	if err != nil {
		return false
	}
	addrs, _ := addresses(want.Hostname(), lookup)
	return slices.ContainsFunc(at, func(l string) bool {
		x, err := url.Parse(l)
		if err != nil || x.Port() != want.Port() || x.Scheme != want.Scheme {
			return false
		}
		h := x.Hostname()
		return h == "0.0.0.0" || h == "::" || sameHostPort(x, want) || slices.Contains(addrs, h)
	})
}

// listenURL is a URL with an address instead of a name: etcd listens at no names.
func listenURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	found, err := addresses(u.Hostname(), lookup)
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("no address for %s", raw), err)
	}
	return u.Scheme + "://" + hostPort(found[0], u.Port()), nil
}

// unconfigure brings the configuration back, and data that was set aside, unless its member was removed.
func (s *Site) unconfigure(ctx context.Context, t *plan.Task) error {
	h, err := s.here()
	if err != nil {
		return err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return err
	}
	e, err := h.etcd()
	if err != nil {
		return err
	}
	var out Configured
	if done, err := t.Result(doConfigure, &out); err != nil {
		return err
	} else if !done && e != nil { // it stopped in the middle: with the same tag it says what it has changed
		w, err := h.asAdded(t, b, e)
		if err != nil {
			return err
		}
		if _, out.Edits, err = h.write(t, w, e); err != nil {
			return err
		}
	}
	if err := h.Machine.Undo(out.Edits); err != nil {
		return err
	}
	if err := h.Control.Reload(ctx); err != nil {
		return err
	}
	if e == nil || b.Removes != 0 {
		return nil
	}
	dirs, err := h.dirs(e)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := host.BringBack(dir, suffix(t.Plan)); err != nil {
			return err
		}
	}
	return nil
}

// start lets etcd start, now and with the machine.
func (s *Site) start(ctx context.Context, t *plan.Task) (any, error) {
	h, err := s.here()
	if err != nil {
		return nil, err
	}
	if _, _, err := s.look(ctx, t.Plan); err != nil {
		return nil, err
	}
	e, err := h.etcd()
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, errors.New("the etcd that was set up is not there any more")
	}
	if err := h.Control.Release(ctx, &e.Workload); err != nil {
		return nil, err
	}
	if err := h.Control.Enable(ctx, &e.Workload, true); err != nil {
		return nil, err
	}
	return nil, h.Control.Begin(ctx, &e.Workload) // whether it is up, the next step sees
}

// unstart stops it, keeps it from starting, and puts what it has written meanwhile aside.
func (s *Site) unstart(ctx context.Context, t *plan.Task) error {
	h, err := s.here()
	if err != nil {
		return err
	}
	e, err := h.etcd()
	if err != nil || e == nil {
		return err
	}
	if err := h.Control.Hold(ctx, &e.Workload); err != nil {
		return err
	}
	_, err = h.aside(t, e, suffix(t.Plan)+"-undone")
	return err
}

// started waits until the new member is known by its name, and serves.
func (s *Site) started(ctx context.Context, t *plan.Task) (any, error) {
	var out Spec
	err := s.until(ctx, t.Say, s.Pace.filled().Start, "wait until etcd has started", func() (bool, error) {
		c, b, err := s.look(ctx, t.Plan)
		if err != nil {
			return c != nil, err
		}
		m, ok := b.newcomer(c.specs())
		if !ok {
			return true, learnerGone()
		}
		if m.Name == "" {
			return false, s.notStarted(ctx)
		}
		x, _ := c.Member(m.ID)
		if x.Answer == nil {
			return false, fmt.Errorf("%s has started, and does not answer at %s", m, joined(m.ClientURLs))
		}
		out = m
		return true, nil
	})
	if err != nil {
		return nil, fail.Hint(err, "look at etcd's log on this machine (journalctl -u etcd, or crictl logs); then type the same command again, or: steward plan rollback "+t.Plan.ID)
	}
	return out, nil
}

// notStarted says what is known of an etcd that should run.
func (s *Site) notStarted(ctx context.Context) error {
	if s.Host != nil {
		if e, err := s.Host.etcd(); err == nil && e != nil {
			if pid, err := s.Host.Control.Running(ctx, &e.Workload); err == nil && pid == 0 {
				return fmt.Errorf("%s has no process", e.Name)
			}
		}
	}
	return errors.New("the cluster does not know its name yet")
}
