package snapshot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/endpoint"
)

// raise makes an alarm, as etcd's own checks do.
func raise(t *testing.T, c *lab.Cluster, i int, kind pb.AlarmType, id uint64) {
	t.Helper()
	e, err := cluster(t, c).access().Parse(c.Endpoint(i))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := cluster(t, c).access().Dial(e)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pb.NewMaintenanceClient(conn).Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: id, Alarm: kind}); err != nil {
		t.Fatal(err)
	}
}

// TestChoose goes through the life of a cluster: all well, a learner, a corrupt member, one member lost, quorum lost.
func TestChoose(t *testing.T) {
	slow(t)
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 3, TLS: version == "3.6", UnsafeNoFsync: true})
			leader := c.Leader(t)
			all := cluster(t, c)
			m := choose(t, all)
			if m.Leader || m.Learner || !m.Quorum || m.Endpoint == c.Endpoint(leader) || m.Name == "" || m.Version[:3] != version || m.ClusterID == 0 || m.Revision < 1 {
				t.Errorf("of three healthy members: got %+v, want a follower", m)
			}
			only := all
			only.Endpoints = []string{c.Endpoint(leader)}
			if m := choose(t, only); m.Leader {
				t.Errorf("given the leader alone: got %+v, want one of the followers that it names", m)
			}
			only.Local = true
			if m := choose(t, only); !m.Leader || !strings.Contains(m.Note, "local") || !strings.Contains(m.Note, "leader") {
				t.Errorf("the local member leads: got %+v, want it all the same, and a note that says so", m)
			}
			learner(t, c)
			corrupt(t, c, leader)
			survivor(t, c, leader)
		})
	}
}

// learner: it is seen, but never chosen.
func learner(t *testing.T, c *lab.Cluster) {
	t.Helper()
	i := c.AddLearner(t)
	all := cluster(t, c)
	all.Endpoints = []string{c.Endpoint(i), c.Endpoint(0)}
	best, seen, err := Choose(t.Context(), all)
	if err != nil || best.Learner || len(seen) != 4 {
		t.Errorf("with a learner: got %+v of %d, want another of 4 (%v)", best, len(seen), err)
	}
	for _, m := range seen {
		if m.Learner && (m.Endpoint != c.Endpoint(i) || !strings.Contains(m.Note, "learner")) {
			t.Errorf("the learner is seen as %+v", m)
		}
	}
	all.Local = true
	_, _, err = Choose(t.Context(), all)
	wantError(t, err, "a learner, which may lack history", "voter")
	c.Stop(i)
}

// corrupt: a member that etcd says is corrupt is never chosen, whoever asks for it.
func corrupt(t *testing.T, c *lab.Cluster, leader int) {
	t.Helper()
	bad := choose(t, cluster(t, c))
	raise(t, c, leader, pb.AlarmType_CORRUPT, bad.ID)
	raise(t, c, leader, pb.AlarmType_NOSPACE, bad.ID)
	for i := range 3 { // a linearizable read waits until that member, too, has applied the alarms
		if _, err := c.ClientOf(t, i).Get(t.Context(), "alarms"); err != nil {
			t.Fatal(err)
		}
	}
	m := choose(t, cluster(t, c))
	if m.ID == bad.ID || !strings.Contains(m.Note, "NOSPACE") {
		t.Errorf("got %+v, want another than the corrupt member, and the alarm NOSPACE in its note", m)
	}
	local := cluster(t, c)
	local.Endpoints, local.Local = []string{bad.Endpoint}, true
	_, _, err := Choose(t.Context(), local)
	wantError(t, err, "its data is corrupt", "alarm")
	for _, kind := range []pb.AlarmType{pb.AlarmType_CORRUPT, pb.AlarmType_NOSPACE} {
		disarm(t, c, leader, kind, bad.ID)
	}
}

func disarm(t *testing.T, c *lab.Cluster, i int, kind pb.AlarmType, id uint64) {
	t.Helper()
	cli := c.ClientOf(t, i)
	if _, err := cli.AlarmDisarm(t.Context(), (*clientv3.AlarmMember)(&pb.AlarmMember{MemberID: id, Alarm: kind})); err != nil {
		t.Fatal(err)
	}
}

// survivor: with one member lost another is chosen; with two lost the last one is, it says that it has no quorum, and can be backed up.
func survivor(t *testing.T, c *lab.Cluster, leader int) {
	t.Helper()
	a, b := (leader+1)%3, (leader+2)%3
	all := cluster(t, c)
	all.Endpoints = all.Endpoints[:3]
	c.Kill(a)
	c.WaitHealthy(t, leader, b)
	best, seen, err := Choose(t.Context(), all)
	if err != nil || !best.Quorum || best.Endpoint == c.Endpoint(a) {
		t.Errorf("with one member lost: got %+v of %+v (%v)", best, seen, err)
	}
	silent := 0
	for _, m := range seen {
		if m.Endpoint == c.Endpoint(a) && strings.Contains(m.Note, "connection refused") {
			silent++
		}
	}
	if silent != 1 {
		t.Errorf("the lost member is not seen as one that refuses connections: %+v", seen)
	}
	c.Kill(b)
	all.DialTimeout = time.Second
	begun := time.Now()
	m := choose(t, all)
	if took := time.Since(begun); took > 3*all.DialTimeout+time.Second {
		t.Errorf("without a quorum it took %v to choose", took)
	}
	if m.Quorum || m.Endpoint != c.Endpoint(leader) || !strings.Contains(m.Note, "1 of 3 voters answer") {
		t.Errorf("without a quorum: got %+v, want the survivor, and a note that says so", m)
	}
	s, err := Stream(t.Context(), all, m, SpoolOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("stream from the survivor: %v", err)
	}
	if info, err := s.Prove(t.Context()); err != nil || info.Revision != m.Revision {
		t.Errorf("the survivor's snapshot has %+v, want revision %d (%v)", info, m.Revision, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTwoClusters: endpoints of two clusters are a mistake.
func TestTwoClusters(t *testing.T) {
	slow(t)
	a, b := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true}), lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, Token: "other"})
	_, _, err := Choose(t.Context(), Cluster{Endpoints: []string{a.Endpoint(0), b.Endpoint(0)}})
	wantError(t, err, "belongs to cluster", "one cluster")
}

// TestRank: what no lab can be made to show on demand.
func TestRank(t *testing.T) {
	follower := func(id, applied uint64) answer {
		return answer{Member: Member{ID: id, RaftIndex: applied, Quorum: true}, committed: applied}
	}
	leader := func(id, applied uint64) answer {
		a := follower(id, applied)
		a.Leader = true
		return a
	}
	alone := func(a answer) answer {
		a.Quorum = false
		return a
	}
	nobody := answer{Member: Member{ID: 9, RaftIndex: 100000, Quorum: true, alarms: []endpoint.Alarm{{Kind: "CORRUPT"}}}, committed: 100000}
	for name, tc := range map[string]struct {
		in   []answer
		want string
	}{
		"a follower first":                 {[]answer{leader(1, 100), follower(2, 99), follower(3, 100)}, "[2 3 1]"},
		"one that lags comes last":         {[]answer{follower(2, 10), leader(1, 100000), follower(3, 99999)}, "[3 1 2]"},
		"all but one lag":                  {[]answer{follower(2, 10), follower(3, 20), leader(1, 100000)}, "[1 2 3]"},
		"no quorum: the newest":            {[]answer{alone(follower(2, 10)), alone(follower(3, 100000)), alone(follower(1, 50))}, "[3 1 2]"},
		"nobody knows who is corrupt":      {[]answer{nobody, leader(1, 100000)}, "[1 9]"},
		"a little lag makes no difference": {[]answer{leader(1, 5000), follower(2, 1)}, "[2 1]"},
	} {
		judge(tc.in)
		rank(tc.in)
		var got []uint64
		for _, a := range tc.in {
			got = append(got, a.ID)
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
