package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/store"
)

// Levels of a verified range of the change log, beside LevelBytes; each includes the ones before it.
const (
	// LevelContent: every segment was decrypted, decoded and checked; the revisions follow each other, and segments that overlap agree.
	LevelContent = "content"
	// LevelRebuilt: the events were applied to a snapshot, and what they led to has the hash that a member gave.
	LevelRebuilt = "rebuilt"
	// LevelProven: also, the member had not compacted these revisions when it gave the hash, which so covers each of their changes.
	LevelProven = "proven"
)

// VerifiedRange says what is known about the revisions First to Last of a timeline's change log. Like a Verification it is a note, not proof.
type VerifiedRange struct {
	First   Revision  `json:"first"`
	Last    Revision  `json:"last"`
	Level   string    `json:"level"`
	OK      bool      `json:"ok"`
	Problem string    `json:"problem,omitempty"` // why not OK
	At      time.Time `json:"at"`                // when it was checked, by the clock of Host
	Host    string    `json:"host"`
}

// verifiedRanges is coordination/verified/changes/<timeline>.json: for each level and outcome the ranges, which do not overlap.
type verifiedRanges struct {
	Timeline Timeline        `json:"timeline"`
	Ranges   []VerifiedRange `json:"ranges"`
}

const (
	verifiedChangesPrefix = verifiedPrefix + "changes/"
	verifiedRangesMax     = 2000
	verifiedProblemMax    = 400
)

func verifiedRangesKey(t Timeline) string { return verifiedChangesPrefix + t.String() + ".json" }

func rangeRank(level string) int {
	return slices.Index([]string{LevelBytes, LevelContent, LevelRebuilt, LevelProven}, level)
}

// AtLeast says whether a level of a range includes another one.
func AtLeast(level, other string) bool { return rangeRank(level) >= rangeRank(other) }

func (v VerifiedRange) validate() error {
	if v.First < 1 || v.Last < v.First || rangeRank(v.Level) < 0 || v.At.IsZero() || v.OK == (v.Problem != "") {
		return fmt.Errorf("verified range %d to %d: level %q, ok %t, problem %q, at %v", v.First, v.Last, v.Level, v.OK, v.Problem, v.At)
	}
	return nil
}

// VerifiedRanges is what is known about a timeline's change log: ranges in order that do not overlap. Of each revision a finding that stands is told, else the strongest
// proof. A mark that is damaged is as good as none.
func (r *Repo) VerifiedRanges(ctx context.Context, t Timeline) ([]VerifiedRange, error) {
	all, _, err := r.verifiedRanges(ctx, t)
	if err != nil {
		return nil, err
	}
	return Strongest(all), nil
}

// PutVerifiedRanges records checks of a timeline's change log. What is below `from`, which nobody can restore any more, is forgotten.
func (r *Repo) PutVerifiedRanges(ctx context.Context, t Timeline, from Revision, checks []VerifiedRange) error {
	for i := range checks {
		checks[i].At = checks[i].At.UTC()
		if len(checks[i].Problem) > verifiedProblemMax {
			checks[i].Problem = strings.ToValidUTF8(checks[i].Problem[:verifiedProblemMax], "") + "..."
		}
		if err := checks[i].validate(); err != nil {
			return err
		}
	}
	return r.update(ctx, verifiedRangesKey(t), func() ([]byte, string, error) {
		old, etag, err := r.verifiedRanges(ctx, t)
		if err != nil {
			return nil, "", err
		}
		var merged []VerifiedRange
		for _, v := range MergeRanges(old, checks) {
			merged = append(merged, v.without(0, from-1)...)
		}
		doc, err := Seal("verified-ranges", verificationFormat, verifiedRanges{Timeline: t, Ranges: merged})
		return doc, etag, err
	})
}

// TakeVerifiedRanges adds what another repository with the same objects knows of a timeline's change log, where nothing is known here that says as much:
// what is known here tells when this store was last read.
func (r *Repo) TakeVerifiedRanges(ctx context.Context, from *Repo, t Timeline) (wrote bool, err error) {
	theirs, _, err := from.verifiedRanges(ctx, t)
	if err != nil {
		return false, err
	}
	ours, _, err := r.verifiedRanges(ctx, t)
	if err != nil {
		return false, err
	}
	var add []VerifiedRange
	for _, v := range theirs {
		parts := []VerifiedRange{v}
		for _, o := range ours {
			if o.OK && rangeRank(o.Level) < rangeRank(v.Level) {
				continue
			}
			var next []VerifiedRange
			for _, p := range parts {
				next = append(next, p.without(o.First, o.Last)...)
			}
			parts = next
		}
		add = append(add, parts...)
	}
	if len(add) == 0 {
		return false, nil
	}
	return true, r.PutVerifiedRanges(ctx, t, 0, add)
}

// verifiedRanges reads the mark as it is stored, and the version that it has.
func (r *Repo) verifiedRanges(ctx context.Context, t Timeline) (_ []VerifiedRange, etag string, err error) {
	key := verifiedRangesKey(t)
	info, err := r.store.Head(ctx, key) // the version first, as in recorded
	if errors.Is(err, store.NotFound) {
		return nil, "", nil
	}
	var doc []byte
	if err == nil {
		doc, err = r.read(ctx, key)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", key, err)
	}
	var mark verifiedRanges
	err = Unseal("verified-ranges", verificationFormat, doc, &mark)
	if errors.Is(err, ErrDamaged) || err == nil && mark.Timeline != t {
		return nil, info.ETag, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", key, err)
	}
	if slices.ContainsFunc(mark.Ranges, func(v VerifiedRange) bool { return v.validate() != nil }) {
		return nil, info.ETag, nil
	}
	return mark.Ranges, info.ETag, nil
}

// MergeRanges takes new checks into what is known: a good one ends the findings of its level and below, a bad one the proofs of its level and above, and
// each replaces older ones of its own kind. It keeps the newest 2000 ranges.
func MergeRanges(old, checks []VerifiedRange) []VerifiedRange {
	all := slices.Clone(old)
	for _, c := range checks {
		var next []VerifiedRange
		for _, o := range all {
			if o.ended(c) {
				next = append(next, o.without(c.First, c.Last)...)
			} else {
				next = append(next, o)
			}
		}
		all = append(next, c)
	}
	slices.SortFunc(all, func(a, b VerifiedRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(rangeRank(a.Level), rangeRank(b.Level)))
	})
	all = joined(all)
	return all[max(0, len(all)-verifiedRangesMax):]
}

// ended says whether a later check ends what an earlier one said, where both overlap.
func (v VerifiedRange) ended(by VerifiedRange) bool {
	was, is := rangeRank(v.Level), rangeRank(by.Level)
	switch {
	case v.OK == by.OK:
		return was == is
	case by.OK:
		return was <= is
	}
	return was >= is
}

// without is what a range says outside of another.
func (v VerifiedRange) without(first, last Revision) []VerifiedRange {
	if v.Last < first || v.First > last {
		return []VerifiedRange{v}
	}
	var out []VerifiedRange
	if v.First < first {
		left := v
		left.Last = first - 1
		out = append(out, left)
	}
	if v.Last > last {
		v.First = last + 1
		out = append(out, v)
	}
	return out
}

// joined makes one of neighbours of which the same was found at the same time.
func joined(sorted []VerifiedRange) []VerifiedRange {
	var out []VerifiedRange
	open := map[VerifiedRange]int{} // what is said, without where: its last place in out
	for _, v := range sorted {
		said := v
		said.First, said.Last = 0, 0
		if i, ok := open[said]; ok && out[i].Last+1 == v.First {
			out[i].Last = v.Last
			continue
		}
		open[said] = len(out)
		out = append(out, v)
	}
	return out
}

// Strongest is one statement for each revision, in order: a finding, if one stands, else the strongest proof.
func Strongest(all []VerifiedRange) []VerifiedRange {
	var cuts []Revision
	for _, v := range all {
		cuts = append(cuts, v.First, v.Last+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []VerifiedRange
	for i := 1; i < len(cuts); i++ {
		var best VerifiedRange
		for _, v := range all {
			if v.First > cuts[i-1] || v.Last < cuts[i]-1 {
				continue
			}
			if best.Level == "" || cmp.Or(cmp.Compare(b2i(!v.OK), b2i(!best.OK)), cmp.Compare(rangeRank(v.Level), rangeRank(best.Level))) > 0 {
				best = v
			}
		}
		if best.Level != "" {
			best.First, best.Last = cuts[i-1], cuts[i]-1
			out = append(out, best)
		}
	}
	return joined(out)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// addVerifiedRanges notes that a timeline's change log has marks.
func (c *Catalog) addVerifiedRanges(key string) {
	t, err := ParseTimeline(strings.TrimSuffix(strings.TrimPrefix(key, verifiedChangesPrefix), ".json"))
	if err != nil || verifiedRangesKey(t) != key {
		c.strange(key)
		return
	}
	c.VerifiedChanges = append(c.VerifiedChanges, t)
}
