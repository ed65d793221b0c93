package membership

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"etcd-steward/internal/fail"
)

// checkName wants a name that a member can have, and that nobody has.
func (c *Cluster) checkName(name string, leaves ID) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=, \t\n/"):
		return fail.New(fail.Usage, fmt.Errorf("%q is no name for a member: it may hold no space, comma, slash or equals sign", name), "use the machine's host name")
	case name == Operator:
		return fail.New(fail.Usage, fmt.Errorf("%q is the name that plans give to this machine", name), "use the new machine's host name")
	}
	for _, m := range c.Members {
		if m.Name == name && m.ID != leaves {
			return fail.Refused(fmt.Errorf("a member is named %s already: %s", name, m.Spec), fmt.Sprintf("choose another name, or replace that member: steward member replace %s", m.ID))
		}
	}
	return nil
}

// checkPeerURL wants a URL at which the other members can reach one that nobody else is. `self` may have it already.
func (c *Cluster) checkPeerURL(raw string, self ID, lookup func(string) ([]string, error)) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" || u.Hostname() == "" {
		return fail.New(fail.Usage, fmt.Errorf("%q is no peer URL", raw), "write https://ADDRESS:2380 or http://ADDRESS:2380")
	}
	if p, err := strconv.Atoi(u.Port()); err != nil || p < 1 || p > 65535 {
		return fail.New(fail.Usage, fmt.Errorf("the peer URL %s has no valid port", raw), "write the port too: members talk to each other on 2380")
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		return fail.New(fail.Usage, fmt.Errorf("the peer URL %s has an address that means every address", raw), "give the address at which the other members reach the new one")
	}
	if err := c.sameScheme(u, raw, self); err != nil {
		return err
	}
	mine, err := addresses(u.Hostname(), lookup)
	if err != nil {
		return fail.New(fail.Usage, fmt.Errorf("the host of the peer URL %s: %w", raw, err), "correct the name, or give its address")
	}
	return c.urlTaken(u, mine, raw, self, lookup)
}

// sameScheme: members of one cluster talk to each other in one way; a mixture is what a migration to TLS makes, on purpose.
func (c *Cluster) sameScheme(u *url.URL, raw string, self ID) error {
	for _, m := range c.Members {
		for _, p := range m.PeerURLs {
			x, err := url.Parse(p)
			if err != nil || m.ID == self {
				continue
			}
			if x.Scheme != u.Scheme {
				return fail.Refused(fmt.Errorf("the peer URL %s is %s, and the members talk %s to each other (%s)", raw, u.Scheme, x.Scheme, m.Spec), "write it with "+x.Scheme+"://")
			}
			if a, b := net.ParseIP(x.Hostname()), net.ParseIP(u.Hostname()); a != nil && b != nil && b.IsLoopback() && !a.IsLoopback() {
				return fail.Refused(fmt.Errorf("the peer URL %s is this machine's own loopback, which no other member can reach", raw), "give the address at which the other members reach it")
			}
		}
	}
	return nil
}

// urlTaken: neither a peer URL nor a client URL of another member is meant, whichever way it is written.
func (c *Cluster) urlTaken(u *url.URL, mine []string, raw string, self ID, lookup func(string) ([]string, error)) error {
	for _, m := range c.Members {
		if m.ID == self {
			if slices.ContainsFunc(m.ClientURLs, func(s string) bool { return sameURL(s, raw) }) {
				return fail.Refused(fmt.Errorf("%s is a client URL of %s", raw, m.Spec), "give the port on which members talk to each other, as a rule 2380")
			}
			continue
		}
		for i, s := range slices.Concat(m.PeerURLs, m.ClientURLs) {
			x, err := url.Parse(s)
			if err != nil || x.Port() != u.Port() {
				continue
			}
			if !sameHostPort(x, u) {
				theirs, err := addresses(x.Hostname(), lookup)
				if err != nil || !slices.ContainsFunc(mine, func(a string) bool { return slices.Contains(theirs, a) }) {
					continue
				}
			}
			kind, safe := "peer", fmt.Sprintf("is that member dead? steward member replace %s", m.ID)
			if i >= len(m.PeerURLs) {
				kind, safe = "client", "give the port on which members talk to each other, as a rule 2380"
			}
			return fail.Refused(fmt.Errorf("%s is a %s URL of %s already", raw, kind, m.Spec), safe)
		}
	}
	return nil
}

// addresses are the IP addresses of a host; of a literal one, itself.
func addresses(host string, lookup func(string) ([]string, error)) ([]string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return []string{ip.String()}, nil
	}
	if lookup == nil {
		return nil, nil
	}
	found, err := lookup(host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return nil, fmt.Errorf("%s does not resolve", host)
	case err != nil:
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	return found, nil
}
