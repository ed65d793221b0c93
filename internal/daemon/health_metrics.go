package daemon

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

// The metrics of the members' health, as this daemon sees them.
var (
	mHeLooked   = metric("health_look_timestamp_seconds", "When this daemon last looked at the members.", "cluster")
	mHeFindings = metric("health_findings", "Findings that hold now, by kind and severity; docs/HEALTH.md explains the kinds.", "cluster", "kind", "severity")
	mHeWorst    = metric("health_worst", "The worst finding: 0 nothing or info, 1 warning, 2 critical.", "cluster")
	mHeQuorum   = metric("health_quorum", "1 when a linearizable read came back.", "cluster")
	mHeVoters   = metric("health_voters", "Members that vote.", "cluster")
	mHeUp       = metric("health_voters_up", "Voters that answer and follow the leader.", "cluster")
	mHeLearners = metric("health_learners", "Members that do not vote yet.", "cluster")
	mHeTolerate = metric("health_failures_tolerated", "How many more voters may fail; negative when there is no quorum.", "cluster")
	mHeMoved    = metric("health_leader_changes_total", "Changes of leader that this daemon saw between two looks.", "cluster")
	mHeTerm     = metric("health_raft_term", "The raft term in which the members followed their leader at the last look at which they had one.", "cluster")
	mHeLed      = metric("health_leader_changed_timestamp_seconds", "When this daemon last saw another leader or another term than before; absent when never.", "cluster")
	mHeVersions = metric("health_server_versions", "How many versions of etcd run side by side.", "cluster")
	mHeEqual    = metric("health_data_equal", "1 when members' data were equal at the last comparison, 0 when they differed.", "cluster")
	mHeCompared = metric("health_data_compared_timestamp_seconds", "When this daemon last compared members' data.", "cluster")

	mHeMember   = metric("member_info", "A member that answers; always 1.", "cluster", "member", "role", "version")
	mHeMemberUp = metric("member_up", "1 when the member answers.", "cluster", "member")
	mHeLag      = metric("member_apply_lag_entries", "Entries of the raft log that the member knows and has not applied.", "cluster", "member")
	mHeBehind   = metric("member_leader_lag_entries", "Entries of the raft log that the leader has and the member does not know.", "cluster", "member")
	mHeDB       = metric("member_db_bytes", "The member's database: the file, and what of it is in use.", "cluster", "member", "kind")
	mHeQuota    = metric("member_quota_bytes", "The quota of the member's database; absent when it does not tell.", "cluster", "member")
	mHeClock    = metric("member_clock_skew_seconds", "The member's clock less this host's, to half a second; absent when it does not tell.", "cluster", "member")
	mHeLearner  = metric("member_learner_seconds", "For how long this daemon knows the member as a learner.", "cluster", "member")
	mHeExpires  = metric("certificate_expires_timestamp_seconds", "When a certificate expires, that a member showed or the config names.", "cluster", "certificate", "where")
)

var healthDescs = []*prometheus.Desc{
	mHeLooked, mHeFindings, mHeWorst, mHeQuorum, mHeVoters, mHeUp, mHeLearners, mHeTolerate, mHeMoved, mHeTerm, mHeLed, mHeVersions, mHeEqual, mHeCompared,
	mHeMember, mHeMemberUp, mHeLag, mHeBehind, mHeDB, mHeQuota, mHeClock, mHeLearner, mHeExpires,
}

// watchedKinds are shown from the start, with 0: an alert can then tell "none" from "not looked".
var watchedKinds = map[health.Kind]health.Severity{
	health.QuorumLost: health.Critical, health.Divergence: health.Critical, health.AlarmNoSpace: health.Critical, health.AlarmCorrupt: health.Critical, health.NoLeader: health.Critical,
	health.WentBack: health.Critical, health.ClusterChanged: health.Critical,
}

func (h *healthState) collect(ch chan<- prometheus.Metric, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.view == nil {
		return
	}
	gauge(ch, mHeLooked, stamp(h.view.At), name)
	h.collectFindings(ch, name)
	agreed, state := h.view.Agreed(), h.view.Cluster().State()
	gauge(ch, mHeQuorum, truth(agreed.Quorum), name)
	gauge(ch, mHeVoters, float64(state.Voters), name)
	gauge(ch, mHeUp, float64(state.Up), name)
	gauge(ch, mHeLearners, float64(state.Learners), name)
	gauge(ch, mHeTolerate, float64(state.Tolerates()), name)
	counter(ch, mHeMoved, h.moved, name)
	if h.term != 0 {
		gauge(ch, mHeTerm, float64(h.term), name)
	}
	if !h.led.IsZero() {
		gauge(ch, mHeLed, stamp(h.led), name)
	}
	if h.hashed != nil {
		gauge(ch, mHeEqual, truth(h.hashed.equal), name)
		gauge(ch, mHeCompared, stamp(h.hashed.at), name)
	}
	versions := map[string]bool{}
	for _, a := range h.view.Answering() {
		versions[a.Version] = true
	}
	gauge(ch, mHeVersions, float64(len(versions)), name)
	h.collectMembers(ch, name, agreed)
	h.collectCertificates(ch, name)
}

func (h *healthState) collectFindings(ch chan<- prometheus.Metric, name string) {
	type which struct {
		kind     health.Kind
		severity health.Severity
	}
	n := map[which]int{}
	for k, s := range watchedKinds {
		n[which{k, s}] = 0
	}
	worst := health.Info
	for _, f := range h.found {
		n[which{f.Kind, f.Severity}]++
		worst = max(worst, f.Severity)
	}
	for w, count := range n {
		gauge(ch, mHeFindings, float64(count), name, string(w.kind), w.severity.String())
	}
	gauge(ch, mHeWorst, float64(worst), name)
}

// collectMembers shows each member once, under its name, or under its ID when another has the name too.
func (h *healthState) collectMembers(ch chan<- prometheus.Metric, name string, agreed probe.Agreement) {
	leader := h.view.ByID(agreed.Leader)
	used := map[string]bool{}
	for _, m := range agreed.Members {
		member := label(agreed.NameOf(m.ID))
		if used[member] {
			member = fmt.Sprintf("%016x", m.ID)
		}
		if used[member] {
			continue // a list that names one twice; two equal series would make the whole page fail
		}
		used[member] = true
		if since := h.learners[m.ID]; m.Learner && !since.IsZero() {
			gauge(ch, mHeLearner, time.Since(since).Seconds(), name, member)
		}
		a := h.view.ByID(m.ID)
		gauge(ch, mHeMemberUp, truth(a != nil), name, member)
		if a == nil {
			continue
		}
		gauge(ch, mHeMember, 1, name, member, roleOf(m, agreed), label(a.Version))
		gauge(ch, mHeLag, float64(lag(a.Index, a.Applied)), name, member)
		if leader != nil {
			gauge(ch, mHeBehind, float64(lag(leader.Index, a.Index)), name, member)
		}
		gauge(ch, mHeDB, float64(a.DBSize), name, member, "file")
		gauge(ch, mHeDB, float64(a.DBInUse), name, member, "in_use")
		if a.Quota > 0 {
			gauge(ch, mHeQuota, float64(a.Quota), name, member)
		}
		if a.ClockKnown {
			gauge(ch, mHeClock, a.Clock.Seconds(), name, member)
		}
	}
}

// label makes what others wrote fit for a label, which must be UTF-8, and short.
func label(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 128)], "?")
}

func roleOf(m probe.Member, agreed probe.Agreement) string {
	switch {
	case m.Learner:
		return "learner"
	case m.ID == agreed.Leader:
		return "leader"
	}
	return "follower"
}

func lag(ahead, index uint64) uint64 {
	if ahead <= index {
		return 0
	}
	return ahead - index
}

// certificatesMax bounds how many certificates are shown: a bundle may hold hundreds.
const certificatesMax = 64

// collectCertificates shows each certificate once, where it was seen first. Its name is the subject and the beginning of its fingerprint.
func (h *healthState) collectCertificates(ch chan<- prometheus.Metric, name string) {
	seen := map[string]bool{} // by what is shown: two equal series would make the whole page fail, and certificates can be made to look alike
	one := func(where string, c *x509.Certificate) {
		sum := sha256.Sum256(c.Raw)
		certificate := fmt.Sprintf("%s %s", label(c.Subject.CommonName), hex.EncodeToString(sum[:4]))
		if seen[certificate] || len(seen) >= certificatesMax {
			return
		}
		seen[certificate] = true
		gauge(ch, mHeExpires, stamp(c.NotAfter), name, certificate, label(where))
	}
	for _, a := range h.view.Answers {
		for _, c := range a.Certificates {
			one(a.Endpoint, c)
		}
	}
	for _, c := range h.certificates {
		if c.Leaf != nil {
			one(c.Where, c.Leaf)
		}
	}
	for _, c := range h.view.Shown {
		one("this client", c)
	}
}
