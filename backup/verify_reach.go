package backup

import (
	"fmt"
	"strings"

	"etcd-steward/backup/repo"
)

// reach says up to where each level goes of what was read: that one hash was right says nothing about what was recorded behind it.
func (l *logCheck) reach(checks []repo.VerifiedRange) {
	v := &l.verdict
	v.Reach = reaches(repo.Strongest(checks), l.readable(), span{v.First, v.Last})
	if len(v.Reach) == 1 && v.Reach[0].To == v.Last {
		v.Level = v.Reach[0].Level
	}
}

// readable is what was read of the revisions to which a snapshot leads, since nothing can be rebuilt below the first one; where it is none, all that was read.
func (l *logCheck) readable() []span {
	var all, read, out []span
	for _, s := range l.all {
		all = joinSpan(all, span{s.First, s.Last})
	}
	for _, s := range l.chosen {
		read = joinSpan(read, span{s.First, s.Last})
	}
	for _, run := range all {
		led := l.nextSnapshot(run.first-2) + 1
		for _, r := range read {
			if part := (span{max(r.first, led), min(r.last, run.last)}); part.first <= part.last && r.meets(run.first, run.last) {
				out = append(out, part)
			}
		}
	}
	if len(out) == 0 {
		return read
	}
	return out
}

// ReachWords say how far each level goes, of a log that goes to `to`: "proven to 6", "content".
func ReachWords(reach []VerifiedReach, to repo.Revision) []string {
	var words []string
	for _, r := range reach {
		if r.To == to {
			words = append(words, r.Level)
		} else {
			words = append(words, fmt.Sprintf("%s to %d", r.Level, r.To))
		}
	}
	return words
}

// Checked is how far a change log was checked, in words: "proven to 6, content to 32", or one level that holds for all of it.
func (v *ChangesVerdict) Checked() string {
	words := ReachWords(v.Reach, v.Last)
	switch {
	case len(words) == 0:
		return v.Level
	case len(words) > 1 && v.Reach[len(v.Reach)-1].To == v.Last:
		words[len(words)-1] += fmt.Sprintf(" to %d", v.Last)
	}
	return strings.Join(words, ", ")
}
