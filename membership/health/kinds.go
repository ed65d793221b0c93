package health

import "slices"

// Kind is a stable word for what a finding is about. Scripts may compare it; docs/HEALTH.md explains each.
type Kind string

// The kinds, the most urgent first: in this order findings of one severity are shown.
const (
	NoAnswer       Kind = "no-answer"
	QuorumLost     Kind = "quorum-lost"
	Divergence     Kind = "divergence"
	ClusterDiffers Kind = "cluster-differs"
	ClusterChanged Kind = "cluster-changed"
	WentBack       Kind = "revision-went-back"
	AlarmCorrupt   Kind = "alarm-corrupt"
	AlarmNoSpace   Kind = "alarm-nospace"
	AlarmOther     Kind = "alarm-other"
	AlarmGone      Kind = "alarm-of-gone-member"
	NoLeader       Kind = "no-leader"
	ReadFails      Kind = "read-fails"
	Tolerance      Kind = "fault-tolerance"
	MembersDiffer  Kind = "members-differ"
	LeaderDiffers  Kind = "leader-differs"
	Flapping       Kind = "leader-flapping"
	TermDiffers    Kind = "term-differs"
	Unreachable    Kind = "unreachable"
	EndpointBad    Kind = "endpoint"
	Misrouted      Kind = "misrouted"
	AuthRefused    Kind = "auth-refused"
	NeverStarted   Kind = "never-started"
	ServerError    Kind = "server-error"
	Lag            Kind = "lag"
	Learner        Kind = "learner"
	EvenVoters     Kind = "even-voters"
	SingleVoter    Kind = "single-voter"
	Quota          Kind = "quota"
	Growth         Kind = "growth"
	Fragmentation  Kind = "fragmentation"
	VersionBug     Kind = "version-bug"
	VersionSkew    Kind = "version-skew"
	VersionOld     Kind = "version-old"
	Downgrade      Kind = "downgrade"
	SlowFsync      Kind = "slow-fsync"
	SlowCommit     Kind = "slow-commit"
	Clock          Kind = "clock"
	Expiry         Kind = "certificate"
	BackupNone     Kind = "backup-none"
	BackupOld      Kind = "backup-old"
	BackupStore    Kind = "backup-store"
	BackupUnknown  Kind = "backup-not-configured"
	RecordLag      Kind = "record-lag"
	RecordGap      Kind = "record-gap"
	VerifyFailed   Kind = "verify-failed"
	VerifyOld      Kind = "verify-old"
	HashUnknown    Kind = "hash-unknown"
)

// Kinds are all kinds in order.
func Kinds() []Kind {
	return []Kind{
		NoAnswer, QuorumLost, Divergence, ClusterDiffers, ClusterChanged, WentBack, AlarmCorrupt, AlarmNoSpace, AlarmOther, AlarmGone, NoLeader, ReadFails,
		Tolerance, MembersDiffer, LeaderDiffers, Flapping, TermDiffers, Unreachable, EndpointBad, Misrouted, AuthRefused, NeverStarted, ServerError, Lag,
		Learner, EvenVoters, SingleVoter, Quota, Growth, Fragmentation, VersionBug, VersionSkew, VersionOld, Downgrade, SlowFsync, SlowCommit, Clock,
		Expiry, BackupNone, BackupOld, BackupStore, BackupUnknown, RecordLag, RecordGap, VerifyFailed, VerifyOld, HashUnknown,
	}
}

func order(k Kind) int { return slices.Index(Kinds(), k) }
