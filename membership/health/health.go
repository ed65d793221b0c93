// Package health says what is wrong with a cluster: from what its members said (membership/probe), from what they said before, and from what is known of
// its backups and certificates. Each finding has its severity, its evidence, how sure it is, and the next command to type.
//
// It is pure: it asks nobody, changes nothing, and reads no clock but the one that it is given. It promises that a cluster of which nothing is wrong has no
// finding above info, and that no view makes it panic. What members did not say, it does not guess: a member that does not answer from here may be well.
package health

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcd-steward/membership/probe"
	"etcd-steward/membership/quorum"
)

// Severity is how bad a finding is.
type Severity int

// The severities. Info is worth knowing, and no reason to do anything now.
const (
	Info Severity = iota
	Warning
	Critical
)

var severities = []string{"info", "warning", "critical"}

// String is the word.
func (s Severity) String() string { return severities[s] }

// MarshalText is for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is for JSON.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severities, string(text))
	if i < 0 {
		return fmt.Errorf("severity %q: want one of %s", text, strings.Join(severities, ", "))
	}
	*s = Severity(i)
	return nil
}

// Confidence is how sure a finding is.
type Confidence string

// The confidences.
const (
	Certain  Confidence = "certain"
	Likely   Confidence = "likely"   // something passing would look the same for a moment
	Possible Confidence = "possible" // there are other explanations that are as good
)

// Finding is one thing that is wrong, or worth knowing.
type Finding struct {
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	// Member is the name of the member, or its ID in hex when it has none, or an endpoint; "" for the cluster.
	Member     string     `json:"member,omitempty"`
	MemberID   string     `json:"member_id,omitempty"` // in hex
	Text       string     `json:"text"`                // one sentence
	Evidence   string     `json:"evidence,omitempty"`  // what was seen
	Next       string     `json:"next,omitempty"`      // the command to type next, or what to do where there is none
	Confidence Confidence `json:"confidence"`
}

// Input is all that is judged.
type Input struct {
	Now  time.Time
	View *probe.View
	// History is what was seen before; nil when this is the first look. Judge first, and then add the view to it.
	History *History
	// Certificates are those of files: what is configured here, whether a member showed it or not.
	Certificates []Certificate
	// Backup is what is known of the cluster's backups; nil when nobody looked.
	Backup *Backup
	// Thresholds that are zero have their defaults.
	Thresholds Thresholds
}

// Thresholds are where a value becomes a finding.
type Thresholds struct {
	Lag                    uint64        // raft entries behind, for a warning
	QuotaWarn, QuotaCrit   float64       // size of the database by its quota
	LeftWarn, LeftCrit     time.Duration // until the quota is reached
	FragmentSize           int64         // bytes from which fragmentation matters
	Fragmented             float64       // free share of the file
	Changes                int           // of leader, within Window
	Window                 time.Duration
	LearnerAge             time.Duration
	LearnerStall           time.Duration // without progress
	FsyncInfo              float64       // seconds, 99th percentile
	FsyncWarn, FsyncCrit   float64
	CommitInfo, CommitWarn float64
	Clock                  time.Duration
	CertInfo, CertWarn     time.Duration // until it expires
	CertCrit               time.Duration
	BackupAge              time.Duration // when Backup does not say
	VerifiedAge            time.Duration
	RecordLag              time.Duration
}

// Defaults are those of etcd's own alerts and of common practice; docs/HEALTH.md says where each comes from.
func Defaults() Thresholds {
	const day = 24 * time.Hour
	return Thresholds{
		Lag: 1000, QuotaWarn: 0.80, QuotaCrit: 0.95, LeftWarn: 3 * day, LeftCrit: 4 * time.Hour, FragmentSize: 100 << 20, Fragmented: 0.45,
		Changes: 3, Window: 15 * time.Minute, LearnerAge: 10 * time.Minute, LearnerStall: 5 * time.Minute,
		FsyncInfo: 0.010, FsyncWarn: 0.5, FsyncCrit: 1, CommitInfo: 0.025, CommitWarn: 0.25, Clock: 2 * time.Second,
		CertInfo: 30 * day, CertWarn: 14 * day, CertCrit: 7 * day, BackupAge: 12 * time.Hour, VerifiedAge: 2 * day, RecordLag: 5 * time.Minute,
	}
}

// withDefaults fills in what is zero.
func (t Thresholds) withDefaults() Thresholds {
	d := Defaults()
	return Thresholds{
		Lag: cmp.Or(t.Lag, d.Lag), QuotaWarn: cmp.Or(t.QuotaWarn, d.QuotaWarn), QuotaCrit: cmp.Or(t.QuotaCrit, d.QuotaCrit),
		LeftWarn: cmp.Or(t.LeftWarn, d.LeftWarn), LeftCrit: cmp.Or(t.LeftCrit, d.LeftCrit), FragmentSize: cmp.Or(t.FragmentSize, d.FragmentSize),
		Fragmented: cmp.Or(t.Fragmented, d.Fragmented), Changes: cmp.Or(t.Changes, d.Changes), Window: cmp.Or(t.Window, d.Window),
		LearnerAge: cmp.Or(t.LearnerAge, d.LearnerAge), LearnerStall: cmp.Or(t.LearnerStall, d.LearnerStall),
		FsyncInfo: cmp.Or(t.FsyncInfo, d.FsyncInfo), FsyncWarn: cmp.Or(t.FsyncWarn, d.FsyncWarn), FsyncCrit: cmp.Or(t.FsyncCrit, d.FsyncCrit),
		CommitInfo: cmp.Or(t.CommitInfo, d.CommitInfo), CommitWarn: cmp.Or(t.CommitWarn, d.CommitWarn), Clock: cmp.Or(t.Clock, d.Clock),
		CertInfo: cmp.Or(t.CertInfo, d.CertInfo), CertWarn: cmp.Or(t.CertWarn, d.CertWarn), CertCrit: cmp.Or(t.CertCrit, d.CertCrit),
		BackupAge: cmp.Or(t.BackupAge, d.BackupAge), VerifiedAge: cmp.Or(t.VerifiedAge, d.VerifiedAge), RecordLag: cmp.Or(t.RecordLag, d.RecordLag),
	}
}

// Judge returns what is wrong, the worst first.
func Judge(in Input) []Finding {
	in.Thresholds = in.Thresholds.withDefaults()
	j := &judge{Input: in, limit: in.Thresholds}
	if in.View != nil {
		j.agreed, j.up, j.state = in.View.Agreed(), in.View.Answering(), in.View.Cluster().State()
		for _, f := range []func(){
			j.reach, j.quorum, j.membership, j.learners, j.leader, j.flapping, j.lag, j.divergence, j.past,
			j.alarms, j.size, j.fragments, j.versions, j.disks, j.clocks,
		} {
			f()
		}
	}
	j.certificates()
	j.backups()
	slices.SortStableFunc(j.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(order(a.Kind), order(b.Kind)), strings.Compare(a.Member, b.Member))
	})
	return j.found
}

// Worst is the severity of the worst finding; Info when there is none.
func Worst(findings []Finding) Severity {
	worst := Info
	for _, f := range findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// judge is one judgement.
type judge struct {
	Input
	limit  Thresholds
	agreed probe.Agreement
	up     []*probe.Answer
	state  quorum.State
	found  []Finding
}

// add notes a finding on a member; ID 0 is the cluster.
func (j *judge) add(s Severity, k Kind, member uint64, f Finding) {
	f.Severity, f.Kind = s, k
	if member != 0 {
		f.MemberID = fmt.Sprintf("%016x", member)
		if f.Member == "" {
			f.Member = j.name(member)
		}
	}
	if f.Confidence == "" {
		f.Confidence = Certain
	}
	for _, g := range j.found {
		if g.Kind == f.Kind && g.Member == f.Member && g.MemberID == f.MemberID && g.Text == f.Text {
			return // of two endpoints of one member, for example
		}
	}
	j.found = append(j.found, f)
}

func (j *judge) name(id uint64) string { return j.agreed.NameOf(id) }

// argument is what to call a member in a command that people copy: its name, or its ID when the name is another's too, or is one that a shell or the command
// would not take for a name. Members choose their names themselves.
func (j *judge) argument(id uint64) string {
	n := 0
	for _, m := range j.agreed.Members {
		if m.Name == j.name(id) {
			n++
		}
	}
	if name := j.name(id); n == 1 && plainName.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%016x", id)
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// names are those of answers, for a sentence.
func (j *judge) names(answers []*probe.Answer) string {
	var all []string
	for _, a := range answers {
		all = append(all, j.name(a.MemberID))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}
