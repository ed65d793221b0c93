package datadir

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// Bootstrap is what a new cluster's identity is made from. etcd derives every member ID from the member's peer URLs and the
// token, and the cluster ID from the member IDs, so the same four values give the same IDs on every host.
type Bootstrap struct {
	Name           string   // this member
	PeerURLs       []string // this member's, as --initial-advertise-peer-urls
	InitialCluster string   // name=url,name=url for every member, as --initial-cluster
	Token          string   // --initial-cluster-token
}

// ErrSyntax means that a flag's value cannot be read. What can be read but does not fit together is another error of Predict.
var ErrSyntax = errors.New("malformed")

// MemberID is etcd's member ID; it prints in hex, as etcdctl prints it.
type MemberID uint64

// String is the hex form without leading zeros.
func (id MemberID) String() string { return strconv.FormatUint(uint64(id), 16) }

// MarshalText puts the hex form into JSON.
func (id MemberID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Member is one member of the cluster to be.
type Member struct {
	ID       MemberID `json:"id"`
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
}

// Cluster is the cluster that a Bootstrap leads to.
type Cluster struct {
	ID      uint64
	Self    MemberID
	Members []Member // by name
	// Normal is the initial cluster in one spelling: sorted, with parsed URLs. Hosts that were given the same members in another order agree on it.
	Normal string

	raft *membership.RaftCluster
}

// Predict checks a Bootstrap as etcd would at its first start, and computes the IDs that the cluster will have. When the member's URLs
// are spelled differently in its two places it asks DNS whether they mean the same, for at most 30 seconds.
func (b Bootstrap) Predict() (*Cluster, error) {
	if b.Token == "" {
		return nil, errors.New("the initial cluster token is empty")
	}
	own, err := types.NewURLs(b.PeerURLs)
	if err != nil {
		return nil, fmt.Errorf("%w: --initial-advertise-peer-urls: %w", ErrSyntax, err)
	}
	all, err := types.NewURLsMap(b.InitialCluster)
	if err != nil {
		return nil, fmt.Errorf("%w: --initial-cluster: %w", ErrSyntax, err)
	}
	server := config.ServerConfig{
		Logger: zap.NewNop(), Name: b.Name, PeerURLs: own, InitialPeerURLsMap: all, InitialClusterToken: b.Token,
	}
	if err := server.VerifyBootstrap(); err != nil {
		return nil, err
	}
	raft, err := membership.NewClusterFromURLsMap(zap.NewNop(), b.Token, all)
	if err != nil {
		return nil, err
	}
	c := &Cluster{ID: uint64(raft.ID()), Self: MemberID(raft.MemberByName(b.Name).ID), Normal: all.String(), raft: raft}
	for _, m := range raft.Members() {
		c.Members = append(c.Members, Member{ID: MemberID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs})
	}
	slices.SortFunc(c.Members, func(x, y Member) int { return strings.Compare(x.Name, y.Name) })
	return c, nil
}
