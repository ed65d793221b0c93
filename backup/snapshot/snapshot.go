// Package snapshot takes one full snapshot from a live member: it chooses the member, streams the database once into a
// spool folder while it hashes, compresses and encrypts, and proves the result from its own bytes.
//
// It promises that a Spool holds what etcd's own SHA-256 trailer says it should, that memory does not grow with the
// database, that the disk is not filled, and that a stream that stops moving is given up. It changes nothing in the cluster, uploads nothing,
// and does not retry: the caller decides whether to take another.
package snapshot

import (
	"crypto/tls"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/endpoint"
)

// Cluster says how to reach a cluster.
type Cluster struct {
	// Endpoints are client URLs (http, https), or host:port: those use TLS when TLS is set.
	Endpoints []string
	TLS       *tls.Config
	// Username and Password for clusters with authentication; a client certificate's common name serves as well.
	Username, Password string
	// Local restricts the choice to the first endpoint's member.
	Local bool
	// DialTimeout bounds each question to one member; 0 means 5 s.
	DialTimeout time.Duration
}

// Member is one member as it described itself when asked.
type Member struct {
	Endpoint  string
	ID        uint64
	Name      string
	Version   string
	ClusterID repo.ClusterID
	Leader    bool
	Learner   bool
	// DBSize is the size of the database file in bytes, DBSizeInUse what of it is not free pages.
	DBSize, DBSizeInUse int64
	Revision            repo.Revision
	// RaftIndex is the index of the last raft entry that the member has applied: its database holds no more.
	RaftTerm, RaftIndex uint64
	// Quorum says whether the cluster could commit.
	Quorum bool
	// Note is one line for people: why this member was chosen, or what is wrong with it.
	Note string

	alarms []endpoint.Alarm
	err    error // why it does not answer
}

// SpoolOptions say where and how a snapshot is spooled.
type SpoolOptions struct {
	// Dir is the spool folder; it is made with mode 0700.
	Dir string
	// Recipients can read the sealed object; none means that it is not encrypted.
	Recipients []age.Recipient
	// StallTimeout is how long no byte may arrive before the stream is given up; 0 means 30 s.
	StallTimeout time.Duration
	// Progress is called now and then with the bytes that came and the total that the member announced.
	Progress func(done, total int64)
}
