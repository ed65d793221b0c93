package endpoint

import (
	"regexp"
	"strconv"
)

// Alarm is one that a member reports, of itself or of another.
type Alarm struct {
	Member uint64 // 0: etcd does not know whose
	Kind   string // NOSPACE, CORRUPT
}

// alarmText is how etcd prints an alarm among a status's errors (server, v3rpc/maintenance.go). To ask for alarms themselves takes a quorum, and an entry
// in the log of every member.
var alarmText = regexp.MustCompile(`memberID:\s*(\d+)\s+alarm:\s*(\w+)|^\s*alarm:\s*(\w+)`)

// Alarms finds the alarms among the errors of a member's status; the rest is what other errors there are.
func Alarms(lines []string) (alarms []Alarm, rest []string) {
	for _, line := range lines {
		m := alarmText.FindStringSubmatch(line)
		if m == nil {
			rest = append(rest, line)
			continue
		}
		a := Alarm{Kind: m[2] + m[3]}
		a.Member, _ = strconv.ParseUint(m[1], 10, 64) // empty: 0, which etcd does not print
		alarms = append(alarms, a)
	}
	return alarms, rest
}
