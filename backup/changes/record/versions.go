package record

import (
	"fmt"
	"strings"
)

// watchBug is a fault of etcd's watch that loses, repeats or disorders events, and the release that mended it (etcd CHANGELOG-3.4 to 3.6).
type watchBug struct {
	minor, fixed int // 3.minor before 3.minor.fixed
	what         string
}

var watchBugs = []watchBug{
	{4, 25, "progress before its events (#15515)"},
	{4, 31, "events lost after a compaction (#17612)"},
	{4, 36, "deletions lost at a compaction's revision (#19249)"},
	{4, 38, "old events from a future revision (#20286)"},
	{5, 8, "progress before its events (#15515)"},
	{5, 13, "events lost after a compaction (#17612)"},
	{5, 18, "deletions lost at a compaction's revision (#19249)"},
	{5, 22, "old events from a future revision (#20286)"},
	{6, 2, "old events from a future revision (#20286)"},
}

// suspect says why a server's version is known to lose watch events; "" if it is not. What cannot be read as a version is not judged.
func suspect(version string) string {
	minor, patch, ok := parseVersion(version)
	if !ok {
		return ""
	}
	if minor < 4 {
		return "older than any version that the change log was tested with"
	}
	var why []string
	for _, b := range watchBugs {
		if b.minor == minor && patch < b.fixed {
			why = append(why, b.what)
		}
	}
	return strings.Join(why, "; ")
}

// trustProgress says whether a server's progress notifications come after the events that they speak of.
func trustProgress(version string) bool {
	minor, patch, ok := parseVersion(version)
	return !ok || minor > 5 || minor == 5 && patch >= 8 || minor == 4 && patch >= 25
}

func parseVersion(version string) (minor, patch int, ok bool) {
	n, _ := fmt.Sscanf(version, "3.%d.%d", &minor, &patch)
	return minor, patch, n == 2
}
