// Package probe asks the members of a cluster what they know, all at once and each within a bound, and keeps who said what apart: members that disagree are
// the only sign of a cluster that has silently split. It works with one member left, without a quorum, with auth on, and with endpoints that swallow
// every packet. It judges nothing and changes nothing.
package probe

import (
	"crypto/x509"
	"time"
)

// View is a cluster as it was seen at one moment, by whom.
type View struct {
	At      time.Time
	Answers []Answer // one for each client URL that was asked: those given, and those that members named
	// Shown are the certificates that we show to members, leaf first.
	Shown []*x509.Certificate
	// Hashed says whether hashes were asked for. A member without one has the reason in its answer.
	Hashed bool
}

// Answer is what one endpoint said, or why it said nothing. What could not be found out has its zero value.
type Answer struct {
	Endpoint string
	Given    bool  // by the user or the configuration, not by another member
	Err      error // why there is no answer at all; the rest is then zero, but for Certificates and what came by HTTP
	// Named is the member among whose client URLs the endpoint is, as another member said; 0 when nobody did.
	Named uint64
	// RTT is how long the status took to come.
	RTT time.Duration

	ClusterID, MemberID uint64
	Version             string // of the server: 3.6.16
	ClusterVersion      string // what all members speak, when it told over HTTP
	StorageVersion      string
	Downgrade           string // the version to which the cluster is being downgraded; "" when it is not
	Leader              uint64 // member ID, 0: it knows none
	Learner             bool
	Term                uint64
	Index, Applied      uint64 // of raft: last committed entry that it knows, last that it applied
	Revision            int64
	// After is what it said when it was asked again, after every member's first answer was there. With both it can be told whether two members have one
	// history, however busy they are. Its zero value: there was no second answer.
	After           Again
	DBSize, DBInUse int64 // bytes
	Quota           int64 // bytes; 0: the server does not say (before 3.6), and its metrics are not known
	Errors          []string
	// Quorum: a linearizable read came back.
	Quorum bool
	// Members are as it knows them; nil when it did not say.
	Members []Member
	Alarms  []Alarm
	// AuthRefused: it answered, but this user may not ask for everything; AuthErr says why.
	AuthRefused bool
	AuthErr     error
	// Hash is its HashKV at the view's common revision; HashErr why there is none, when hashes were asked for.
	Hash    *Hash
	HashErr error
	// Certificates are what it showed at the TLS handshake, leaf first.
	Certificates []*x509.Certificate
	// Clock is its clock less ours, when it told its time (HTTP Date, to the second); ClockKnown says so.
	Clock      time.Duration
	ClockKnown bool
	// Metrics are what its /metrics said, when they were asked for and can be reached.
	Metrics *Metrics
}

// Again is a second answer.
type Again struct {
	Revision             int64
	Index, Applied, Term uint64
	Leader               uint64
}

// Up says whether there is an answer.
func (a *Answer) Up() bool { return a.Err == nil }

// Member is a line of a member's list of members.
type Member struct {
	ID         uint64
	Name       string // "" until it has started once
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// Alarm is one that is raised.
type Alarm struct {
	Member uint64 // 0: etcd does not know whose
	Kind   string // NOSPACE, CORRUPT
}

// Hash is etcd's HashKV of all keys as they were at Revision, not counting what was compacted up to Compact. Only hashes of the same two can be compared.
type Hash struct {
	Revision, Compact int64
	Sum               uint32
}
