package health

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// well is a cluster of n members of which nothing is wrong; the first leads.
func well(n int) *probe.View {
	v := &probe.View{At: now, Hashed: true}
	var members []probe.Member
	for i := range n {
		members = append(members, probe.Member{
			ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), PeerURLs: []string{fmt.Sprintf("https://10.0.0.%d:2380", i+1)}, ClientURLs: []string{fmt.Sprintf("https://10.0.0.%d:2379", i+1)},
		})
	}
	for i := range n {
		v.Answers = append(v.Answers, probe.Answer{
			Endpoint: members[i].ClientURLs[0], Given: i == 0, Named: uint64(i + 1), RTT: time.Millisecond, ClusterID: 0xc, MemberID: uint64(i + 1), Version: "3.6.16", ClusterVersion: "3.6.0",
			Leader: 1, Term: 5, Index: 1000, Applied: 1000, Revision: 900, After: probe.Again{Revision: 900, Index: 1000, Applied: 1000, Term: 5, Leader: 1}, DBSize: 50 << 20, DBInUse: 40 << 20, Quota: 2 << 30,
			Quorum: true, Members: members, Hash: &probe.Hash{Revision: 900, Compact: 800, Sum: 7}, ClockKnown: true, Clock: 100 * time.Millisecond,
			Certificates: []*x509.Certificate{certificate(fmt.Sprint("server", i), now.Add(300*day))},
			Metrics:      &probe.Metrics{Fsync: disk(10000, 0), Commit: disk(10000, 0), LeaderChanges: 1, Quota: 2 << 30, Started: now.Add(-day)},
		})
	}
	return v
}

// disk is a histogram of n quick writes and some of which each took between 1 and 2 s.
func disk(n, slow uint64) probe.Histogram {
	return probe.Histogram{Count: n + slow, Buckets: []probe.Bucket{{Le: 0.001, Count: n}, {Le: 1, Count: n}, {Le: 2, Count: n + slow}}}
}

func certificate(name string, until time.Time) *x509.Certificate {
	return &x509.Certificate{Raw: []byte(name), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-30 * day), NotAfter: until}
}

// backedUp is a store of which nothing is wrong.
func backedUp() *Backup {
	return &Backup{
		Configured: true, Store: "s3://b/p", Newest: now.Add(-time.Hour), NewestID: "01ID", NewestRevision: 850, MaxAge: 12 * time.Hour, Recording: true, Through: now.Add(-5 * time.Second),
		ThroughRevision: 899, Verified: now.Add(-5 * time.Hour), VerifiedOK: true, VerifiedID: "01ID", VerifiedRevision: 850,
	}
}

// lost makes members of a view silent.
func lost(v *probe.View, ids ...int) *probe.View {
	for _, id := range ids {
		a := &v.Answers[id-1]
		*a = probe.Answer{Endpoint: a.Endpoint, Named: a.Named, Err: errors.New("connection refused")}
	}
	return v
}

// without a quorum the others know no leader.
func leaderless(v *probe.View) *probe.View {
	for i := range v.Answers {
		v.Answers[i].Leader, v.Answers[i].Quorum = 0, false
	}
	return v
}

// listed changes what all believe of the members.
func listed(v *probe.View, change func([]probe.Member) []probe.Member) *probe.View {
	members := change(append([]probe.Member{}, v.Answers[0].Members...))
	for i := range v.Answers {
		v.Answers[i].Members = members
	}
	return v
}

// seen is a history of earlier views.
func seen(views ...*probe.View) *History {
	h := NewHistory()
	for _, v := range views {
		h.Add(v)
	}
	return h
}

// at dates a view, and changes it.
func at(ago time.Duration, v *probe.View, change func(v *probe.View)) *probe.View {
	v.At = now.Add(-ago)
	change(v)
	return v
}

func learner(v *probe.View) *probe.View {
	v.Answers[2].Learner, v.Answers[2].Members, v.Answers[2].Quorum, v.Answers[2].Hash, v.Answers[2].HashErr = true, nil, false, nil, errors.New("a learner does not tell its hash")
	return listed(v, func(m []probe.Member) []probe.Member { m[2].Learner = true; return m })
}

func same(*probe.View) {}

// finding is what a case wants: a severity and kind, on whom, words of the text or evidence, and words of what to do.
type finding struct {
	severity Severity
	kind     Kind
	member   string
	words    string
	next     string
}

// cases: each is well but for one thing.
var cases = []struct {
	name string
	in   func(in *Input)
	want []finding
}{
	{"nothing answers", func(in *Input) { in.View = lost(well(3), 1, 2, 3) }, []finding{{Critical, NoAnswer, "", "connection refused", "doctor"}}},
	{"one of three is silent", func(in *Input) { in.View = lost(well(3), 3) }, []finding{
		{Warning, Unreachable, "m3", "connection refused", "member replace m3"}, {Warning, Tolerance, "", "no further voter may fail", "bring the silent"},
	}},
	{"a silent member whose name is no name", func(in *Input) {
		in.View = lost(well(3), 3)
		listed(in.View, func(m []probe.Member) []probe.Member { m[2].Name = "$(reboot)"; return m })
	}, []finding{{Warning, Unreachable, "$(reboot)", "", "member replace 0000000000000003"}, {Warning, Tolerance, "", "", ""}}},
	{"two silent members of one name", func(in *Input) {
		in.View = lost(well(5), 2, 3)
		listed(in.View, func(m []probe.Member) []probe.Member { m[1].Name, m[2].Name = "x", "x"; return m })
	}, []finding{{Warning, Unreachable, "x", "", "member replace 0000000000000002"}, {Warning, Unreachable, "x", "", "member replace 0000000000000003"}, {Warning, Tolerance, "", "", ""}}},
	{"one of five is silent", func(in *Input) { in.View = lost(well(5), 3) }, []finding{{Warning, Unreachable, "m3", "", ""}, {Warning, Tolerance, "", "1 of 2 failures", ""}}},
	{"no quorum", func(in *Input) { in.View = leaderless(lost(well(3), 1, 2)) }, []finding{
		{Critical, QuorumLost, "", "3 voters, 0 up", "bring 1 of"}, {Critical, NoLeader, "", "m3", "member list"}, {Warning, Unreachable, "m1", "", ""}, {Warning, Unreachable, "m2", "", ""},
	}},
	{"reads fail", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Quorum = false
		}
	}, []finding{{Critical, ReadFails, "", "no linearizable read", "doctor"}}},
	{"the leader is silent, and nobody has noticed", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Quorum = false
		}
		lost(in.View, 1)
	}, []finding{{Critical, ReadFails, "", "the leader, m1, does not answer", "elect another"}, {Warning, Unreachable, "m1", "", ""}, {Warning, Tolerance, "", "", ""}}},
	{"two voters", func(in *Input) { in.View = well(2) }, []finding{{Warning, Tolerance, "", "two voters", "member add"}}},
	{"four voters", func(in *Input) { in.View = well(4) }, []finding{{Info, EvenVoters, "", "4 voters tolerate no more", "member"}}},
	{"one voter", func(in *Input) { in.View = well(1) }, []finding{{Info, SingleVoter, "", "one voter", "member add"}}},
	{"never started", func(in *Input) {
		listed(in.View, func(m []probe.Member) []probe.Member {
			return append(m, probe.Member{ID: 9, PeerURLs: []string{"https://10.0.0.9:2380"}, Learner: true})
		})
	}, []finding{{Warning, NeverStarted, "0000000000000009", "added as a learner", "member remove 0000000000000009"}}},
	{"no client URL", func(in *Input) {
		lost(in.View, 3)
		in.View.Answers[2].Named = 0
		listed(in.View, func(m []probe.Member) []probe.Member { m[2].ClientURLs = nil; return m })
	}, []finding{{Warning, Unreachable, "m3", "no client URL", "advertise"}, {Warning, Tolerance, "", "", ""}}},
	{"its certificate is not trusted", func(in *Input) {
		lost(in.View, 3).Answers[2].Err = fail.Hint(errors.New("its certificate was not signed by the given CA"), "give the CA with --cacert")
	}, []finding{{Warning, Unreachable, "m3", "certificate", "--cacert"}, {Warning, Tolerance, "", "", ""}}},
	{"a given endpoint of nobody", func(in *Input) {
		in.View.Answers = append(in.View.Answers, probe.Answer{Endpoint: "https://lb:2379", Given: true, Err: fail.Hint(errors.New("no such host"), "check the endpoint")})
	}, []finding{{Warning, EndpointBad, "https://lb:2379", "no such host", "check the endpoint"}}},
	{"misrouted", func(in *Input) {
		in.View.Answers = append(in.View.Answers, in.View.Answers[0])
		in.View.Answers[3].Endpoint, in.View.Answers[3].Named = "https://localhost:2379", 2
	}, []finding{{Warning, Misrouted, "m2", "answered by m1", "advertise-client-urls"}}},
	{"misrouted, and not seen otherwise", func(in *Input) {
		in.View.Answers[1] = in.View.Answers[0]
		in.View.Answers[1].Endpoint, in.View.Answers[1].Named = "http://localhost:2379", 2
	}, []finding{{Warning, Misrouted, "m2", "answered by m1", ""}, {Warning, Tolerance, "", "", ""}}},
	{"may not ask", func(in *Input) {
		a := &in.View.Answers[1]
		a.AuthRefused, a.AuthErr, a.Members = true, fail.Hint(errors.New("no user was given"), "name a user"), nil
	}, []finding{{Warning, AuthRefused, "m2", "no user was given", "name a user"}}},
	{"may not even ask for the status", func(in *Input) {
		a := &in.View.Answers[1]
		why := fail.Hint(errors.New("no user was given"), "name a user")
		*a = probe.Answer{Endpoint: a.Endpoint, Named: 2, AuthRefused: true, AuthErr: why, Err: why}
	}, []finding{{Warning, AuthRefused, "m2", "no user was given", "name a user"}, {Warning, Tolerance, "", "", ""}}},
	{"a server's error", func(in *Input) { in.View.Answers[0].Errors = []string{"etcdserver: no leader", "something else"} }, []finding{{Warning, ServerError, "m1", "something else", "doctor"}}},
	{"two clusters", func(in *Input) { in.View.Answers[2].ClusterID = 0xd }, []finding{{Critical, ClusterDiffers, "m3", "000000000000000d", "--endpoints"}, {Warning, Tolerance, "", "", ""}}},
	{"other members", func(in *Input) { in.View.Answers[2].Members = in.View.Answers[2].Members[:2] }, []finding{{Warning, MembersDiffer, "m3", "m1, m2", "member replace"}}},
	{"one knows no leader", func(in *Input) { in.View.Answers[2].Leader, in.View.Answers[2].Quorum = 0, false }, []finding{{Warning, NoLeader, "", "m3", "peer ports"}, {Warning, Tolerance, "", "", ""}}},
	{"all answer, and none knows a leader", func(in *Input) { leaderless(in.View) }, []finding{
		{Critical, QuorumLost, "", "do not reach each other", "peer certificates"}, {Critical, NoLeader, "", "m1, m2, m3", "peer ports"},
	}},
	{"a leader that has just taken over, and has applied nothing yet", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Leader, in.View.Answers[i].After.Leader, in.View.Answers[i].After.Term = 2, 2, 6
		}
		in.View.Answers[0].Leader, in.View.Answers[0].Quorum = 1, false
	}, []finding{{Warning, LeaderDiffers, "m1", "another leader than most", "look again"}, {Warning, Tolerance, "", "", ""}}},
	{"terms that are told at two moments of an election", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].After.Term = 6
		}
		in.View.Answers[0].Term = 6
	}, nil},
	{"another leads meanwhile", func(in *Input) {
		a := &in.View.Answers[2]
		a.Leader, a.Term, a.Index, a.Applied, a.Revision = 3, 6, 1060, 1060, 900
		a.After = probe.Again{Revision: 900, Index: 1060, Applied: 1060, Term: 6, Leader: 3}
	}, []finding{{Warning, LeaderDiffers, "m3", "another leader than most", "look again"}, {Warning, Tolerance, "", "", ""}}},
	{"a busy leader that answers last", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].After.Index, in.View.Answers[i].After.Applied = 9500, 9500
		}
		in.View.Answers[0].Index, in.View.Answers[0].Applied = 9000, 9000
	}, nil},
	{"the leader has just handed over, and tells it first", func(in *Input) {
		in.View.Answers[0].Leader, in.View.Answers[0].After.Leader = 2, 2
	}, []finding{{Warning, LeaderDiffers, "m1", "another leader than most", "an election looks the same"}, {Warning, Tolerance, "", "", ""}}},
	{"two leaders in one term, of which one reads nothing yet", func(in *Input) {
		in.View.Answers[2].Leader, in.View.Answers[2].After.Leader, in.View.Answers[2].Quorum = 3, 3, false
	}, []finding{{Warning, LeaderDiffers, "m3", "another leader than most", "an election looks the same"}, {Warning, Tolerance, "", "", ""}}},
	{"two leaders in one term", func(in *Input) { in.View.Answers[2].Leader, in.View.Answers[2].After.Leader = 3, 3 }, []finding{{Critical, LeaderDiffers, "m3", "same term", "backup create"}, {Warning, Tolerance, "", "", ""}}},
	{"two leaders in two terms", func(in *Input) { in.View.Answers[2].Leader, in.View.Answers[2].Term = 3, 4 }, []finding{{Warning, LeaderDiffers, "m3", "term 4", "look again"}, {Warning, Tolerance, "", "", ""}}},
	{"another term", func(in *Input) { in.View.Answers[2].Term, in.View.Answers[2].After.Term = 9, 9 }, []finding{{Warning, TermDiffers, "m3", "term 9, the leader's is 5", "look again"}}},
	{"behind with applying", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Index, in.View.Answers[i].Applied, in.View.Answers[i].After.Index = 9000, 9000, 9000
		}
		in.View.Answers[1].Applied, in.View.Answers[2].Applied = 7500, 3000
	}, []finding{{Critical, Lag, "m3", "refuses writes", "doctor"}, {Warning, Lag, "m2", "1500 raft entries", "doctor"}}},
	{"behind the leader", func(in *Input) {
		in.View.Answers[0].Index, in.View.Answers[0].Applied, in.View.Answers[0].After.Index = 9000, 9000, 9000
		in.View.Answers[1].Index, in.View.Answers[1].Applied = 7000, 7000
	}, []finding{{Warning, Lag, "m2", "behind the leader", "network"}, {Warning, Lag, "m3", "need the whole database", "network"}}},
	{"a learner", func(in *Input) { learner(in.View) }, []finding{{Info, Learner, "m3", "0 raft entries", "member promote m3"}, {Warning, Tolerance, "", "two voters", ""}}},
	{"an old learner", func(in *Input) {
		learner(in.View)
		in.History = seen(at(20*time.Minute, learner(well(3)), same), at(time.Minute, learner(well(3)), same))
	}, []finding{{Warning, Learner, "m3", "20 minutes", "member promote m3"}, {Warning, Tolerance, "", "", ""}}},
	{"a learner that stands still", func(in *Input) {
		stuck := func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].Applied, v.Answers[i].Index, v.Answers[i].After.Index = 5000, 5000, 5000
			}
			v.Answers[2].Applied, v.Answers[2].Index = 10, 10
		}
		stuck(learner(in.View))
		in.History = seen(at(6*time.Minute, learner(well(3)), stuck), at(time.Minute, learner(well(3)), stuck))
	}, []finding{{Warning, Learner, "m3", "no progress for 6 minutes", "member remove m3"}, {Warning, Tolerance, "", "", ""}}},
	{"different data", func(in *Input) { in.View.Answers[2].Hash.Sum = 8 }, []finding{{Critical, Divergence, "", "m1, m2 00000007, m3 00000008", "member replace"}}},
	{"different revisions after the same entries", func(in *Input) { in.View.Answers[2].Revision, in.View.Answers[2].After.Revision = 942, 942 }, []finding{
		{Critical, Divergence, "", "m3 at revision 942 after entry 1000, m1 at 900", "member replace"},
	}},
	{"one revision apart, and still", func(in *Input) { in.View.Answers[2].Revision, in.View.Answers[2].After.Revision = 901, 901 }, []finding{{Critical, Divergence, "", "901", ""}}},
	{"it has what the leader has not", func(in *Input) {
		in.View.Answers[2].Applied, in.View.Answers[2].Index, in.View.Answers[2].Revision = 1060, 1060, 942
	}, []finding{{Critical, Divergence, "m3", "applied entry 1060; the leader, m1, has 1000", "member replace m3"}}},
	{"busy members that agree", func(in *Input) {
		for i := range in.View.Answers {
			a := &in.View.Answers[i]
			a.Revision, a.Applied, a.Index = 900+int64(i)*5, 1000+uint64(i)*5, 1000+uint64(i)*5
			a.After = probe.Again{Revision: 915 + int64(i), Applied: 1015 + uint64(i), Index: 1015 + uint64(i), Term: 5, Leader: 1}
		}
	}, nil},
	{"hashes at two compactions", func(in *Input) { in.View.Answers[2].Hash = &probe.Hash{Revision: 900, Compact: 850, Sum: 9} }, []finding{{Info, HashUnknown, "", "compacted at different", "--timeout"}}},
	{"no hash in time", func(in *Input) {
		in.View.Answers[2].Hash, in.View.Answers[2].HashErr = nil, errors.New("not in the time")
	}, []finding{{Info, HashUnknown, "", "m3: not in the time", "--timeout"}}},
	{"the revision went back", func(in *Input) {
		in.History = seen(at(time.Minute, well(3), func(v *probe.View) { v.Answers[1].Revision = 950 }))
	}, []finding{{Critical, WentBack, "m2", "revision 900 now, 950 at", "restored on purpose"}}},
	{"the revision went back a while ago", func(in *Input) {
		in.History = seen(at(time.Hour-time.Second, well(3), func(v *probe.View) { v.Answers[1].Revision = 950 }), at(time.Minute, well(3), same))
	}, []finding{{Critical, WentBack, "m2", "", ""}}},
	{"it went back yesterday", func(in *Input) {
		in.History = seen(at(day, well(3), func(v *probe.View) { v.Answers[1].Revision = 950 }), at(day-time.Minute, well(3), same))
	}, nil},
	{"another cluster", func(in *Input) {
		in.History = seen(at(time.Minute, well(3), func(v *probe.View) {
			for i := range v.Answers {
				v.Answers[i].ClusterID = 0xe
			}
		}))
	}, []finding{{Critical, ClusterChanged, "", "000000000000000c now, 000000000000000e before", "restored on purpose"}}},
	{"a leader that flaps", func(in *Input) {
		lead := func(id uint64) func(v *probe.View) {
			return func(v *probe.View) {
				for i := range v.Answers {
					v.Answers[i].Leader = id
				}
			}
		}
		in.History = seen(at(30*time.Minute, well(3), lead(2)), at(10*time.Minute, well(3), lead(3)), at(5*time.Minute, well(3), lead(1)), at(time.Minute, well(3), lead(2)))
	}, []finding{{Warning, Flapping, "", "3 times in 10 minutes", "disk"}}},
	{"a leader that flaps between the views", func(in *Input) {
		in.History = seen(at(10*time.Minute, well(3), same))
		in.View.Answers[1].Metrics.LeaderChanges = 7
	}, []finding{{Warning, Flapping, "", "6 times", ""}}},
	{"NOSPACE", func(in *Input) { in.View.Answers[0].Alarms = []probe.Alarm{{Member: 2, Kind: "NOSPACE"}} }, []finding{{Critical, AlarmNoSpace, "m2", "refuses writes", "steward nospace"}}},
	{"CORRUPT", func(in *Input) { in.View.Answers[0].Alarms = []probe.Alarm{{Member: 2, Kind: "CORRUPT"}} }, []finding{{Critical, AlarmCorrupt, "m2", "corrupt", "member replace"}}},
	{"another alarm", func(in *Input) { in.View.Answers[0].Alarms = []probe.Alarm{{Kind: "NEW"}} }, []finding{{Critical, AlarmOther, "", "NEW", "alarm list"}}},
	{"an alarm of a member that is gone", func(in *Input) {
		in.View.Answers[0].Alarms, in.View.Answers[1].Alarms = []probe.Alarm{{Member: 77, Kind: "NOSPACE"}}, []probe.Alarm{{Member: 77, Kind: "NOSPACE"}}
	}, []finding{{Warning, AlarmGone, "000000000000004d", "NOSPACE", "alarm disarm"}}},
	{"near the quota", func(in *Input) { in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse = 1750<<20, 1600<<20 }, []finding{{Warning, Quota, "m2", "85 %", "defrag"}}},
	{"at the quota", func(in *Input) { in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse = 2000<<20, 1900<<20 }, []finding{{Critical, Quota, "m2", "98 %", "defrag"}}},
	{"no quota is known", func(in *Input) {
		in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse, in.View.Answers[1].Quota = 2000<<20, 1900<<20, 0
	}, nil},
	{"it grows", func(in *Input) {
		in.History = seen(at(30*time.Minute, well(3), func(v *probe.View) { v.Answers[1].DBSize = 20 << 20 }))
	}, []finding{{Warning, Growth, "m2", "33 hours", "compact"}}},
	{"it grows fast", func(in *Input) {
		in.History = seen(at(10*time.Minute, well(3), func(v *probe.View) { v.Answers[1].DBSize = 20 << 20 }))
		in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse = 1200<<20, 1100<<20
	}, []finding{{Critical, Growth, "m2", "7 minutes", "compact"}}},
	{"fragments", func(in *Input) { in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse = 400<<20, 100<<20 }, []finding{{Warning, Fragmentation, "m2", "75 % of 400.0 MiB", "steward defrag"}}},
	{"fragments of little", func(in *Input) { in.View.Answers[1].DBSize, in.View.Answers[1].DBInUse = 90<<20, 10<<20 }, nil},
	{"patch versions", func(in *Input) { in.View.Answers[1].Version = "3.6.15" }, []finding{{Info, VersionSkew, "", "3.6.15: m2; 3.6.16: m1, m3", "leader last"}}},
	{"mid-upgrade", func(in *Input) { in.View.Answers[1].Version = "3.7.3" }, []finding{{Warning, VersionSkew, "", "mid-upgrade", "finish"}}},
	{"versions that do not fit", func(in *Input) { in.View.Answers[1].Version = "3.4.37" }, []finding{{Critical, VersionSkew, "", "do not work together", "one minor"}, {Warning, VersionOld, "", "m2", "upgrade"}}},
	{"a corrupting version", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Version = "3.5.2"
		}
	}, []finding{{Critical, VersionBug, "", "13766", "3.5.3"}}},
	{"versions with bugs", func(in *Input) { in.View.Answers[1].Version = "3.6.4" }, []finding{{Warning, VersionBug, "", "20650", "3.6.5"}, {Info, VersionSkew, "", "", ""}}},
	{"a downgrade", func(in *Input) { in.View.Answers[1].Downgrade = "3.5.0" }, []finding{{Info, Downgrade, "m2", "3.5.0", "downgrade cancel"}}},
	{"no version", func(in *Input) { in.View.Answers[1].Version = "built by hand" }, nil},
	{"a slow log", func(in *Input) { in.View.Answers[1].Metrics.Fsync = disk(10000, 500) }, []finding{{Critical, SlowFsync, "m2", "since 2026-06-30", "SSD"}}},
	{"a log that is slow now", func(in *Input) {
		in.History = seen(at(10*time.Minute, well(3), func(v *probe.View) { v.Answers[1].Metrics.Fsync = disk(1e6, 0) }))
		in.View.Answers[1].Metrics.Fsync = disk(1e6+500, 50)
	}, []finding{{Critical, SlowFsync, "m2", "of 550, of late", ""}}},
	{"a log that was slow once", func(in *Input) {
		in.History = seen(at(10*time.Minute, well(3), func(v *probe.View) { v.Answers[1].Metrics.Fsync = disk(1000, 500) }))
		in.View.Answers[1].Metrics.Fsync = disk(2000, 500)
	}, nil},
	{"a slow database", func(in *Input) { in.View.Answers[1].Metrics.Commit = disk(10000, 500) }, []finding{{Warning, SlowCommit, "m2", "commit its database", "SSD"}}},
	{"a clock", func(in *Input) { in.View.Answers[1].Clock = -10 * time.Second }, []finding{{Warning, Clock, "m2", "10.0 s behind", "timedatectl"}}},
	{"our clock", func(in *Input) {
		for i := range in.View.Answers {
			in.View.Answers[i].Clock = time.Minute
		}
	}, []finding{{Warning, Clock, "", "theirs is 60.0 s ahead", "here"}}},
	{"certificates", func(in *Input) {
		in.View.Answers[0].Certificates = []*x509.Certificate{certificate("a", now.Add(20*day))}
		in.View.Answers[1].Certificates = []*x509.Certificate{certificate("b", now.Add(10*day))}
		in.View.Answers[2].Certificates = []*x509.Certificate{certificate("c", now.Add(5*day)), certificate("d", now.Add(-day))}
	}, []finding{
		{Info, Expiry, "m1", "expires in 20 days", "certs renew"}, {Warning, Expiry, "m2", "expires in 10 days", ""}, {Critical, Expiry, "m3", "expires in 5 days", ""}, {Critical, Expiry, "m3", "has expired", ""},
	}},
	{"an expired certificate of a member that so does not answer", func(in *Input) {
		lost(in.View, 3).Answers[2].Certificates = []*x509.Certificate{certificate("c", now.Add(-day))}
	}, []finding{{Critical, Expiry, "m3", "has expired", "certs renew"}, {Warning, Unreachable, "m3", "", ""}, {Warning, Tolerance, "", "", ""}}},
	{"certificates of files", func(in *Input) {
		ca := certificate("ca", now.Add(10*day))
		ca.IsCA = true
		in.View.Shown = []*x509.Certificate{certificate("client", now.Add(day))}
		in.Certificates = []Certificate{{Where: "ca.crt", Leaf: ca}, {Where: "client.crt", Leaf: in.View.Shown[0]}, {Where: "gone.crt", Err: errors.New("no such file")}}
	}, []finding{
		{Warning, Expiry, "ca.crt", "authority expires in 10 days", "trust both"}, {Critical, Expiry, "client.crt", "expires in 24 hours", "renew"}, {Warning, Expiry, "gone.crt", "cannot be read", "config show"},
	}},
	{"a peers' certificate of this machine", func(in *Input) {
		in.Certificates = OfServers([]probe.ServerFile{{Path: "/pki/peer.crt", Certificates: []*x509.Certificate{certificate("peer", now.Add(-day))}}})
	}, []finding{{Critical, Expiry, "/pki/peer.crt", "has expired", "certs renew all"}}},
	{"a certificate of the future", func(in *Input) {
		c := certificate("x", now.Add(300*day))
		c.NotBefore = now.Add(time.Hour)
		in.View.Answers[0].Certificates = []*x509.Certificate{c}
	}, []finding{{Critical, Expiry, "m1", "not valid yet", "clocks"}}},
	{"no store", func(in *Input) { in.Backup = &Backup{} }, []finding{{Info, BackupUnknown, "", "no store", "--store"}}},
	{"the store is away", func(in *Input) {
		in.Backup = &Backup{Configured: true, Err: errors.New("no route"), Hint: "check the network"}
	}, []finding{{Warning, BackupStore, "", "no route", "check the network"}}},
	{"no backup", func(in *Input) { in.Backup = &Backup{Configured: true, Store: "s3://b/p"} }, []finding{{Critical, BackupNone, "", "s3://b/p", "backup create"}}},
	{"an old backup", func(in *Input) { in.Backup.Newest = now.Add(-13 * time.Hour) }, []finding{{Warning, BackupOld, "", "13 hours old", "stewardd"}}},
	{"a very old backup", func(in *Input) { in.Backup.Newest = now.Add(-3 * day) }, []finding{{Critical, BackupOld, "", "3 days old", "stewardd"}}},
	{"nothing is recorded", func(in *Input) { in.Backup.Through = time.Time{} }, []finding{{Warning, RecordLag, "", "nothing is recorded", "stewardd"}}},
	{"recording lags", func(in *Input) { in.Backup.Through = now.Add(-time.Hour) }, []finding{{Warning, RecordLag, "", "60 minutes ago", "stewardd"}}},
	{"a gap", func(in *Input) { in.Backup.Gaps = []Gap{{Text: "revisions 5 to 9"}} }, []finding{{Info, RecordGap, "", "revisions 5 to 9", "backup list"}}},
	{"an open gap", func(in *Input) { in.Backup.Gaps = []Gap{{Text: "revisions from 5 on", Open: true}} }, []finding{{Warning, RecordGap, "", "from 5 on", "backup create"}}},
	{"never verified", func(in *Input) { in.Backup.Verified = time.Time{} }, []finding{{Warning, VerifyOld, "", "ever verified", "backup verify"}}},
	{"verified long ago", func(in *Input) { in.Backup.Verified = now.Add(-5 * day) }, []finding{{Warning, VerifyOld, "", "5 days old", "backup verify"}}},
	{"damage was found", func(in *Input) { in.Backup.VerifiedOK, in.Backup.VerifyProblem = false, "block 3" }, []finding{{Critical, VerifyFailed, "", "block 3", "verify --all"}}},
}

// TestFindings: each thing that can be wrong is found, with all that a finding must have, and nothing above info is found beside it.
func TestFindings(t *testing.T) {
	found := map[Kind]bool{}
	for _, c := range cases {
		in := Input{Now: now, View: well(3), Backup: backedUp()}
		c.in(&in)
		got := Judge(in)
		wanted := map[Kind]bool{VersionBug: hasKind(c.want, VersionBug)}
		for _, w := range c.want {
			wanted[w.kind], found[w.kind] = true, true
			if !has(got, w) {
				t.Errorf("%s: got %s\nwant %+v", c.name, list(got), w)
			}
		}
		for i, f := range got {
			if f.Severity > Info && !wanted[f.Kind] {
				t.Errorf("%s: found %+v as well", c.name, f)
			}
			if f.Text == "" || f.Next == "" || f.Confidence == "" || order(f.Kind) < 0 {
				t.Errorf("%s: %+v lacks something", c.name, f)
			}
			if i > 0 && f.Severity > got[i-1].Severity {
				t.Errorf("%s: not sorted: %s", c.name, list(got))
			}
		}
	}
	for _, k := range Kinds() {
		if !found[k] {
			t.Errorf("no case finds %s", k)
		}
	}
}

func hasKind(all []finding, k Kind) bool {
	for _, f := range all {
		if f.kind == k {
			return true
		}
	}
	return false
}

func has(all []Finding, w finding) bool {
	for _, f := range all {
		if f.Severity == w.severity && f.Kind == w.kind && f.Member == w.member && strings.Contains(f.Text+" "+f.Evidence, w.words) && strings.Contains(f.Next, w.next) {
			return true
		}
	}
	return false
}

func list(all []Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n  %s %s %q: %s (%s) -> %s", f.Severity, f.Kind, f.Member, f.Text, f.Evidence, f.Next)
	}
	return b.String()
}

// TestAheadWithoutLeader: members that know no leader may hold more than they say they have applied; so it is not certain that their histories differ.
func TestAheadWithoutLeader(t *testing.T) {
	for leader, want := range map[uint64]Confidence{1: Certain, 0: Likely} {
		v := well(2)
		a, b := &v.Answers[0], &v.Answers[1]
		a.Revision, a.Leader, b.Leader = 910, leader, leader
		if got, odd := ahead(a, b); !odd || got != want {
			t.Errorf("leader %d: got %q, %t, want %q", leader, got, odd, want)
		}
	}
}
