// Package membership changes who is a member of an etcd cluster: add, join, promote, remove, replace, update, move the leader.
//
// It promises that nothing is done before every step was simulated by the rules of the running servers (membership/quorum) and the gates of a safe change were
// looked at; that what may not be done is refused with the rule, the evidence and what would make it safe; that a change is a plan (internal/plan) whose
// steps can be asked again after a crash; that an addition which does not come to its end leaves no learner behind; and that a cluster which somebody else
// changed meanwhile is not changed further.
// It does not promise that a member's data is good beyond equal hashes at one revision, nor that a host which cannot be asked is really gone: who says so
// with --force takes that on himself, and the plan keeps the reason.
package membership

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"etcd-steward/membership/probe"
)

// ID is a member's or a cluster's; its text is hexadecimal; etcdctl leaves leading zeros out.
type ID uint64

// String is the number with all its digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return fmt.Errorf("member ID %q: %w", b, err)
	}
	*id = ID(v)
	return nil
}

// Spec is a member as a plan remembers it.
type Spec struct {
	ID         ID       `json:"id"`
	Name       string   `json:"name,omitempty"` // "" until it has started once
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls,omitempty"`
	Learner    bool     `json:"learner,omitempty"`
}

func specOf(m probe.Member) Spec {
	return Spec{ID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.Learner}
}

// String shows the three things by which a member is known, so that nobody takes one for another.
func (s Spec) String() string {
	name := s.Name
	if name == "" {
		name = "(never started)"
	}
	return fmt.Sprintf("%s (ID %s, %s)", name, s.ID, strings.Join(s.PeerURLs, ","))
}

// sameURL compares two URLs by scheme, host and port, as far as that can be done without asking a name server.
func sameURL(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	if errX != nil || errY != nil {
		return a == b
	}
	return x.Scheme == y.Scheme && sameHostPort(x, y)
}

func sameHostPort(x, y *url.URL) bool {
	if x.Port() != y.Port() {
		return false
	}
	if a, b := net.ParseIP(x.Hostname()), net.ParseIP(y.Hostname()); a != nil && b != nil {
		return a.Equal(b)
	}
	return strings.EqualFold(x.Hostname(), y.Hostname())
}

func hasURL(urls []string, u string) bool {
	return slices.ContainsFunc(urls, func(x string) bool { return sameURL(x, u) })
}

// sameURLs says whether both hold the same URLs, in any order.
func sameURLs(a, b []string) bool {
	in := func(some, other []string) bool {
		return !slices.ContainsFunc(some, func(u string) bool { return !hasURL(other, u) })
	}
	return in(a, b) && in(b, a)
}

func joined(urls []string) string { return strings.Join(urls, ",") }
