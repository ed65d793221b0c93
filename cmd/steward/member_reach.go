package main

import (
	"os"
	"strings"

	"etcd-steward/internal/config"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership"
)

// reachAsMember reaches the cluster with the certificates of the member that this machine is to become, where nothing says how to: on a machine that has no configuration
// yet, neither etcd's nor steward's own.
func (c *call) reachAsMember(cfg *config.Config, site *membership.Site, p *plan.Plan) error {
	b, err := membership.BasisOf(*p)
	if err != nil || b.Adds == nil || site.Access.TLS != nil || membership.IsHere(b.Adds.PeerURL) != nil {
		return err
	}
	var endpoints []string
	for _, m := range b.Members {
		for _, u := range m.ClientURLs {
			if m.ID != b.Removes && strings.HasPrefix(u, "https://") {
				endpoints = append(endpoints, u)
			}
		}
	}
	if len(endpoints) == 0 {
		return nil
	}
	e, err := site.Host.Prospect(b)
	if err != nil || e == nil {
		return nil //nolint:nilerr // the step that looks at this machine says so, and what to do
	}
	cl, err := cfg.Cluster(c.cluster())
	if err != nil {
		return err
	}
	with := *cl
	with.Endpoints, with.TLS = endpoints, clientFiles(site.Host.Machine, e)
	etcd, err := with.Etcd()
	if err != nil {
		return nil //nolint:nilerr // the same
	}
	site.Access.Endpoints, site.Access.TLS = nil, etcd.TLS
	return nil
}

// clientFiles are what a client on this machine shows to the members: what is made for clients, where that is there, else the member's own pair.
func clientFiles(m *host.Machine, e *host.Etcd) config.TLS {
	t := config.Reach(m, e).TLS
	if _, err := os.Stat(t.Cert); err == nil {
		return t
	}
	return config.TLS{CA: e.Value("trusted-ca-file"), Cert: e.Value("cert-file"), Key: e.Value("key-file")}
}
