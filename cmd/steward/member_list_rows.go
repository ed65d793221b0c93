package main

import (
	"fmt"
	"time"

	"etcd-steward/internal/term"
	"etcd-steward/membership/probe"
)

// memberRow is one member as `member list` and `health` show it.
type memberRow struct {
	ID         string    `json:"id"` // in hex
	Name       string    `json:"name"`
	PeerURLs   []string  `json:"peer_urls"`
	ClientURLs []string  `json:"client_urls"`
	Role       string    `json:"role"`      // leader, voter, learner
	Reachable  bool      `json:"reachable"` // from here
	Endpoint   string    `json:"endpoint,omitempty"`
	Problem    string    `json:"problem,omitempty"` // why it is not reachable, or what it does not tell
	Version    string    `json:"version,omitempty"`
	DBSize     int64     `json:"db_bytes,omitempty"`
	DBInUse    int64     `json:"db_in_use_bytes,omitempty"`
	Quota      int64     `json:"quota_bytes,omitempty"`
	Revision   int64     `json:"revision,omitempty"`
	Term       uint64    `json:"raft_term,omitempty"`
	Applied    uint64    `json:"raft_applied,omitempty"`
	Lag        uint64    `json:"lag_entries"` // applied, behind the newest that any member knows to be committed
	Expires    time.Time `json:"certificate_expires,omitzero"`
	Hash       string    `json:"hash,omitempty"`
	started    bool
}

// memberRows are the agreed members, and those that answer and are none of them.
func memberRows(v *probe.View) []memberRow {
	agreed := v.Agreed()
	var newest uint64
	for _, a := range v.Answering() {
		if a.ClusterID == agreed.ClusterID {
			newest = max(newest, a.Index)
		}
	}
	rows := []memberRow{}
	shown := map[uint64]bool{}
	for _, m := range agreed.Members {
		shown[m.ID] = true
		rows = append(rows, newRow(v, agreed, m, newest))
	}
	for _, a := range v.Answering() {
		if shown[a.MemberID] {
			continue
		}
		shown[a.MemberID] = true
		m := probe.Member{ID: a.MemberID, ClientURLs: []string{a.Endpoint}, Learner: a.Learner}
		for _, l := range a.Members {
			if l.ID == a.MemberID {
				m = l
			}
		}
		row := newRow(v, agreed, m, newest)
		if a.ClusterID != agreed.ClusterID {
			row.Problem, row.Lag = fmt.Sprintf("of another cluster, %016x", a.ClusterID), 0
		} else if agreed.Members != nil {
			row.Problem = "the others do not know it as a member"
		}
		rows = append(rows, row)
	}
	return rows
}

func newRow(v *probe.View, agreed probe.Agreement, m probe.Member, newest uint64) memberRow {
	row := memberRow{ID: fmt.Sprintf("%016x", m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Role: "voter", started: m.Name != ""}
	switch {
	case m.Learner:
		row.Role = "learner"
	case m.ID == agreed.Leader:
		row.Role = "leader"
	}
	for _, a := range v.Answers {
		if a.Named == m.ID || a.MemberID == m.ID {
			for i, c := range a.Certificates {
				if i == 0 && (row.Expires.IsZero() || c.NotAfter.Before(row.Expires)) {
					row.Expires = c.NotAfter
				}
			}
			if a.Err != nil && row.Problem == "" {
				row.Problem = a.Err.Error()
			}
		}
	}
	a := v.ByID(m.ID)
	switch {
	case a == nil && !row.started:
		row.Problem = "it has never started"
	case a == nil && len(m.ClientURLs) == 0:
		row.Problem = "it advertises no client URL"
	case a == nil && row.Problem == "":
		row.Problem = "it was not asked"
	}
	if a == nil {
		return row
	}
	row.Reachable, row.Endpoint, row.Problem = true, a.Endpoint, ""
	if a.AuthErr != nil {
		row.Problem = a.AuthErr.Error()
	}
	row.Version, row.DBSize, row.DBInUse, row.Quota, row.Revision, row.Term, row.Applied = a.Version, a.DBSize, a.DBInUse, a.Quota, a.Revision, a.Term, a.Applied
	if newest > a.Applied {
		row.Lag = newest - a.Applied
	}
	if a.Hash != nil {
		row.Hash = fmt.Sprintf("%08x", a.Hash.Sum)
	}
	return row
}

// status is one word on whether it is there.
func (r memberRow) status() string {
	switch {
	case r.Reachable:
		return "yes"
	case !r.started:
		return "never started"
	}
	return "NO"
}

// label names it in a sentence.
func (r memberRow) label() string {
	if r.Name != "" {
		return r.Name
	}
	return r.ID
}

// certificate is when its certificate expires, for a column.
func (r memberRow) certificate(now time.Time) string {
	switch {
	case r.Expires.IsZero():
		return ""
	case r.Expires.Before(now):
		return "EXPIRED " + term.Age(now.Sub(r.Expires)) + " ago"
	}
	return term.Age(r.Expires.Sub(now))
}

// bytes is a size for a column; "" when nothing is known.
func sizeOrNothing(n int64) string {
	if n <= 0 {
		return ""
	}
	return term.Bytes(n)
}

// number is for a column of a member that answers.
func (r memberRow) number(n uint64) string {
	if !r.Reachable {
		return ""
	}
	return term.Count(int64(min(n, 1<<62)))
}

// clusterState is a cluster in numbers, for both commands' JSON.
type clusterState struct {
	Voters    int `json:"voters"`
	Learners  int `json:"learners"`
	Up        int `json:"up"`
	Quorum    int `json:"quorum"`
	Tolerates int `json:"tolerates"` // further failures; negative without a quorum
	// Commits: a member answered a read that takes a quorum.
	Commits bool `json:"has_quorum"`
}

func stateOf(v *probe.View) clusterState {
	s := v.Cluster().State()
	return clusterState{Voters: s.Voters, Learners: s.Learners, Up: s.Up, Quorum: s.Quorum, Tolerates: s.Tolerates(), Commits: v.Agreed().Quorum}
}

// String is the sentence on what the cluster can still lose.
func (s clusterState) String() string {
	switch {
	case s.Voters == 0:
		return "which members there are is not known"
	case !s.Commits && s.Up >= s.Quorum:
		return fmt.Sprintf("%s, %d up, quorum %d: but nothing that takes a quorum is answered", term.Counted(s.Voters, "voter", "voters"), s.Up, s.Quorum)
	case !s.Commits:
		return fmt.Sprintf("%s, %d up, quorum %d: NO QUORUM, nothing can be written", term.Counted(s.Voters, "voter", "voters"), s.Up, s.Quorum)
	case s.Tolerates <= 0:
		return fmt.Sprintf("%s, %d up, quorum %d: no further one may fail", term.Counted(s.Voters, "voter", "voters"), s.Up, s.Quorum)
	}
	return fmt.Sprintf("%s, %d up, quorum %d: %d more may fail", term.Counted(s.Voters, "voter", "voters"), s.Up, s.Quorum, s.Tolerates)
}
