package membership

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"

	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// readdress writes a member's new peer URLs into its machine's configuration, and restarts etcd.
func (s *Site) readdress(ctx context.Context, t *plan.Task) (any, error) {
	h, e, b, err := s.moved(t)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{"initial-advertise-peer-urls": joined(b.Updates.PeerURLs)}
	var at []string
	for _, u := range b.Updates.PeerURLs {
		if err := IsHere(u); err != nil {
			return nil, err
		}
		if listens(e.URLs("listen-peer-urls"), u) {
			continue
		}
		l, err := listenURL(u)
		if err != nil {
			return nil, err
		}
		at = append(at, l)
	}
	if len(at) > 0 {
		settings["listen-peer-urls"] = joined(at)
	}
	edits, err := h.Machine.Configure(e, settings, tag(t.Plan))
	if err != nil {
		return nil, err
	}
	if err := h.Control.Reload(ctx); err != nil {
		return nil, err
	}
	return Configured{Etcd: e.Name, Edits: edits}, h.Control.Restart(ctx, &e.Workload)
}

func (s *Site) readdressBack(ctx context.Context, t *plan.Task) error {
	h, e, _, err := s.moved(t)
	if err != nil {
		return err
	}
	var out Configured
	if done, err := t.Result(doReaddress, &out); err != nil {
		return err
	} else if !done { // with the same tag it says what it has changed, or changes it now
		edits, err := s.readdress(ctx, t)
		if err != nil {
			return err
		}
		out, _ = edits.(Configured)
	}
	if err := h.Machine.Undo(out.Edits); err != nil {
		return err
	}
	if err := h.Control.Reload(ctx); err != nil {
		return err
	}
	return h.Control.Restart(ctx, &e.Workload)
}

// moved is the etcd of the member whose address changes, on its own machine.
func (s *Site) moved(t *plan.Task) (*Host, *host.Etcd, Basis, error) {
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, nil, b, err
	}
	h, err := s.here()
	if err != nil {
		return nil, nil, b, err
	}
	if err := h.Machine.Refuse(host.Other); err != nil {
		return nil, nil, b, err
	}
	e, err := h.etcd()
	if err != nil {
		return nil, nil, b, err
	}
	for _, m := range b.Members {
		if m.ID == b.Updates.ID && (is(e, m) || is(e, Spec{PeerURLs: b.Updates.PeerURLs})) {
			return h, e, b, nil
		}
	}
	return nil, nil, b, fmt.Errorf("the etcd of this machine is not the member whose address changes")
}

// repoint has this machine's API server ask other members than the one that goes, where it names that one.
func (s *Site) repoint(ctx context.Context, t *plan.Task) (any, error) {
	if s.Host == nil {
		return nil, nil
	}
	c, b, err := s.see(ctx, t.Plan)
	if err != nil {
		return nil, err
	}
	old, ok := b.removed()
	if !ok {
		return nil, nil
	}
	instead := b.instead(c)
	var all []host.Edit
	for _, p := range s.Host.Machine.Part("kube-apiserver") {
		urls, changed := repointed(p.EtcdServers(), old, s.Host.Is(old) && b.Adds == nil, instead)
		if !changed && (!t.Again || len(urls) == 0) { // an earlier run may have changed it, and not said so
			continue
		}
		edits, err := s.Host.Machine.SetEtcdServers(p, urls, tag(t.Plan))
		if err != nil {
			return nil, err
		}
		if len(edits) == 0 {
			continue
		}
		t.Say("%s asks %s now (%s)", p.Name, joined(urls), editList(edits))
		all = append(all, edits...)
		if p.Kind == host.Unit {
			if err := s.Host.Control.Reload(ctx); err != nil {
				return nil, err
			}
			if err := s.Host.Control.Restart(ctx, &p.Workload); err != nil {
				return nil, err
			}
		}
	}
	s.report(t, old)
	return Configured{Edits: all}, nil
}

// report says where else on this machine the old member is named. etcd itself looks at initial-cluster only when it has no data.
func (s *Site) report(t *plan.Task, old Spec) {
	for _, u := range slices.Concat(old.PeerURLs, old.ClientURLs) {
		for _, m := range s.Host.Machine.Mentions(u) {
			t.Say("%s names %s of the old member in --%s of %s", m.File, u, m.Flag, m.Name)
		}
	}
}

// instead are the client URLs to ask instead of the old member's: the new one's, or those of all that stay.
func (b Basis) instead(c *Cluster) (all []string) {
	if b.Adds != nil {
		if n, ok := b.newcomer(c.specs()); ok {
			return n.ClientURLs
		}
	}
	for _, m := range c.Members {
		if m.ID != b.Removes && !m.Learner {
			all = append(all, m.ClientURLs...)
		}
	}
	return all
}

// repointed is a list of URLs without those of a member that goes; own says that loopback means it too. Where nothing would be left, and where there is a
// successor, that is what is asked instead.
func repointed(urls []string, old Spec, own bool, instead []string) (out []string, changed bool) {
	for _, u := range urls {
		x, err := url.Parse(u)
		loop := false
		if err == nil {
			ip := net.ParseIP(x.Hostname())
			loop = x.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
		}
		if !hasURL(old.ClientURLs, u) && (!own || !loop) || hasURL(instead, u) {
			out = append(out, u)
			continue
		}
		changed = true
	}
	if changed && (len(out) == 0 || len(instead) == 1) {
		for _, u := range instead {
			if !hasURL(out, u) {
				out = append(out, u)
			}
		}
	}
	return out, changed && len(out) > 0
}

func (s *Site) repointBack(ctx context.Context, t *plan.Task) error {
	if s.Host == nil {
		return nil
	}
	var out Configured
	if done, err := t.Result(doRepoint, &out); err != nil {
		return err
	} else if !done { // it stopped in the middle: with the same tag it says what it has changed
		again, err := s.repoint(ctx, t)
		if err != nil {
			return err
		}
		out, _ = again.(Configured)
	}
	if err := s.Host.Machine.Undo(out.Edits); err != nil {
		return err
	}
	if len(out.Edits) == 0 {
		return nil
	}
	if err := s.Host.Control.Reload(ctx); err != nil {
		return err
	}
	for _, p := range s.Host.Machine.Part("kube-apiserver") {
		if p.Kind == host.Unit {
			if err := s.Host.Control.Restart(ctx, &p.Workload); err != nil {
				return err
			}
		}
	}
	return nil
}
