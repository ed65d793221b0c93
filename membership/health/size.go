package health

import (
	"fmt"
	"time"

	"etcd-steward/membership/probe"
)

// alarms judges what etcd itself has raised, also of members that are gone: an alarm outlives its member (etcd issue 14379).
func (j *judge) alarms() {
	told := map[probe.Alarm]bool{}
	for _, a := range j.ours() {
		for _, al := range a.Alarms {
			if told[al] {
				continue
			}
			told[al] = true
			j.alarm(al)
		}
	}
}

func (j *judge) alarm(al probe.Alarm) {
	if _, known := j.agreed.Member(al.Member); !known && al.Member != 0 && len(j.agreed.Members) > 0 {
		j.add(Warning, AlarmGone, al.Member, Finding{
			Text: "an alarm of a member that is gone is still raised, and holds for the whole cluster", Evidence: al.Kind, Next: "steward alarm disarm",
		})
		return
	}
	switch al.Kind {
	case "NOSPACE":
		j.add(Critical, AlarmNoSpace, al.Member, Finding{Text: "the database is full: the whole cluster refuses writes", Evidence: "alarm NOSPACE", Next: "steward nospace"})
	case "CORRUPT":
		j.add(Critical, AlarmCorrupt, al.Member, Finding{Text: "etcd found its data corrupt", Evidence: "alarm CORRUPT", Next: divergeNext})
	default:
		j.add(Critical, AlarmOther, al.Member, Finding{Text: "an alarm is raised", Evidence: al.Kind, Next: "steward alarm list"})
	}
}

// size judges the database against its quota, now and as it grows.
func (j *judge) size() {
	for _, a := range j.ours() {
		if a.Quota <= 0 || a.DBSize <= 0 {
			continue
		}
		share := float64(a.DBSize) / float64(a.Quota)
		evidence := fmt.Sprintf("%s of %s (%.0f %%), %s of it in use", bytes(a.DBSize), bytes(a.Quota), share*100, bytes(a.DBInUse))
		next := "steward compact, then steward defrag; or raise --quota-backend-bytes"
		switch {
		case share >= j.limit.QuotaCrit:
			j.add(Critical, Quota, a.MemberID, Finding{Text: "its database has almost reached its quota; then the whole cluster refuses writes", Evidence: evidence, Next: next})
		case share >= j.limit.QuotaWarn:
			j.add(Warning, Quota, a.MemberID, Finding{Text: "its database comes near its quota", Evidence: evidence, Next: next})
		}
		perSecond, over := j.History.growth(a.MemberID, a, j.Now)
		if perSecond <= 0 || a.DBSize >= a.Quota {
			continue
		}
		seconds := float64(a.Quota-a.DBSize) / perSecond
		if seconds > j.limit.LeftWarn.Seconds() {
			continue
		}
		left := time.Duration(seconds * float64(time.Second))
		severity := Warning
		if left <= j.limit.LeftCrit {
			severity = Critical
		}
		j.add(severity, Growth, a.MemberID, Finding{
			Text:     "its database reaches its quota in " + span(left) + " if it grows on like this",
			Evidence: fmt.Sprintf("%s, %s an hour more over the last %s", evidence, bytes(int64(perSecond*3600)), span(over)), Next: next, Confidence: Likely,
		})
	}
}

// fragments judges how much of the file is free.
func (j *judge) fragments() {
	for _, a := range j.ours() {
		if a.DBSize < j.limit.FragmentSize || a.DBInUse <= 0 || a.DBInUse > a.DBSize {
			continue
		}
		if free := 1 - float64(a.DBInUse)/float64(a.DBSize); free >= j.limit.Fragmented {
			j.add(Warning, Fragmentation, a.MemberID, Finding{
				Text: "much of its database file is free", Evidence: fmt.Sprintf("%.0f %% of %s", free*100, bytes(a.DBSize)), Next: "steward defrag",
			})
		}
	}
}

// bytes is a size for a sentence.
func bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
