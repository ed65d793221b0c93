package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// firstTerm is the raft term of the log's entries: nobody has been elected before them.
const firstTerm = 1

// commitIndex is the last index of the log that writeLog writes: one entry for each member.
func commitIndex(c *Cluster) uint64 { return uint64(len(c.Members)) }

// writeLog writes what a member knows when it starts for the first time in a new cluster: one configuration change per member, all
// committed, and the raft snapshot after them. It is what etcdutl writes (etcdutl v3.7.3, snapshot/v3_snapshot.go, saveWALAndSnap).
func writeLog(c *Cluster, walDir, snapDir string) (err error) {
	metadata, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: proto.Uint64(uint64(c.Self)), ClusterID: proto.Uint64(c.ID)})
	if err != nil {
		return err
	}
	entries, voters, err := configuration(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(snapDir, 0o700); err != nil {
		return err
	}
	w, err := wal.Create(zap.NewNop(), walDir, metadata)
	if err != nil {
		return fmt.Errorf("create %s: %w", walDir, err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	commit, term := proto.Uint64(commitIndex(c)), proto.Uint64(firstTerm)
	if err := w.Save(&raftpb.HardState{Term: term, Vote: proto.Uint64(voters[0]), Commit: commit}, entries); err != nil {
		return err
	}
	state := &raftpb.ConfState{Voters: voters}
	err = snap.New(zap.NewNop(), snapDir).SaveSnap(&raftpb.Snapshot{
		Data:     etcdserver.GetMembershipInfoInV2Format(zap.NewNop(), c.raft),
		Metadata: &raftpb.SnapshotMetadata{Index: commit, Term: term, ConfState: state},
	})
	if err != nil {
		return err
	}
	return w.SaveSnapshot(&walpb.Snapshot{Index: commit, Term: term, ConfState: state})
}

// configuration is one entry per member that adds it as a voter, in the order of their IDs, and the IDs.
func configuration(c *Cluster) (entries []*raftpb.Entry, voters []uint64, err error) {
	for i, id := range c.raft.MemberIDs() {
		member, err := json.Marshal(c.raft.Member(id))
		if err != nil {
			return nil, nil, err
		}
		change, err := proto.Marshal(&raftpb.ConfChange{
			Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(id)), Context: member,
		})
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(firstTerm), Index: proto.Uint64(uint64(i + 1)), Data: change,
		})
		voters = append(voters, uint64(id))
	}
	return entries, voters, nil
}
