package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"etcd-steward/backup/store"
)

// Levels of a verification; each includes the ones before it.
const (
	LevelBytes    = "bytes"    // every stored byte hashed
	LevelDatabase = "database" // decrypted, decompressed, opened, its HashKV compared
	LevelDeep     = "deep"     // booted in a scratch etcd and read back
)

// Verification is one check of one backup. It is kept beside the backups as a note for people and schedules; it is not proof, and losing it costs a
// new verification.
type Verification struct {
	ID      SnapshotID `json:"id"`
	Level   string     `json:"level"`
	OK      bool       `json:"ok"`
	Problem string     `json:"problem,omitempty"` // why not OK
	At      time.Time  `json:"at"`                // when it ended, by the clock of Host
	Host    string     `json:"host"`
	Seconds float64    `json:"seconds"`
	// RestoreSeconds is how long a deep verification took until the scratch etcd answered.
	RestoreSeconds float64 `json:"restore_seconds,omitempty"`
}

// verifiedMark is coordination/verified/<ulid>.json: the last check of every level, by level.
type verifiedMark struct {
	ID     SnapshotID     `json:"id"`
	Checks []Verification `json:"checks"`
}

func verifiedKey(id SnapshotID) string { return verifiedPrefix + string(id) + ".json" }

func rank(level string) int {
	return slices.Index([]string{LevelBytes, LevelDatabase, LevelDeep}, level)
}

// PutVerification records a check. Marks are overwritten without a condition: of two that are written at the same moment one is lost, which costs a
// verification at the next run.
func (r *Repo) PutVerification(ctx context.Context, v Verification) error {
	if _, err := ParseSnapshotID(string(v.ID)); err != nil {
		return err
	}
	if rank(v.Level) < 0 || v.At.IsZero() || v.OK == (v.Problem != "") {
		return fmt.Errorf("record the verification of %s: level %q, ok %t, problem %q, at %v", v.ID, v.Level, v.OK, v.Problem, v.At)
	}
	v.At = v.At.UTC()
	mark, _, err := r.verifications(ctx, v.ID)
	if err != nil && !errors.Is(err, ErrDamaged) { // a damaged mark is replaced: it is only a note
		return fmt.Errorf("record the verification of %s: %w", v.ID, err)
	}
	mark = slices.DeleteFunc(mark, func(o Verification) bool { return o.Level == v.Level })
	mark = append(mark, v)
	slices.SortFunc(mark, func(a, b Verification) int { return rank(a.Level) - rank(b.Level) })
	doc, err := Seal("verification", verificationFormat, verifiedMark{ID: v.ID, Checks: mark})
	if err != nil {
		return err
	}
	if _, err := r.write(ctx, verifiedKey(v.ID), doc, store.PutOptions{}); err != nil {
		return fmt.Errorf("record the verification of %s: %w", v.ID, err)
	}
	return nil
}

// Verification is what is known about a backup; false when it was never verified, or its mark is damaged (then a verification is due). See Verdict.
func (r *Repo) Verification(ctx context.Context, id SnapshotID) (Verification, bool, error) {
	checks, ok, err := r.verifications(ctx, id)
	if errors.Is(err, ErrDamaged) {
		return Verification{}, false, nil
	}
	if err != nil {
		return Verification{}, false, fmt.Errorf("read the verified mark of %s: %w", id, err)
	}
	return Verdict(checks), ok, nil
}

// Verdict is what the last checks of the levels say together: a failure stands until a later check of its own or a higher level succeeds;
// without one, it is the check that proved most. So a look at the bytes, which every master may do, does not hide that the backup was booted.
func Verdict(checks []Verification) Verification {
	var out Verification
	for _, v := range checks {
		if v.OK && (!out.OK || rank(v.Level) > rank(out.Level)) {
			out = v
		}
	}
	var standing Verification
	for _, bad := range checks {
		cured := slices.ContainsFunc(checks, func(v Verification) bool {
			return v.OK && rank(v.Level) >= rank(bad.Level) && v.At.After(bad.At)
		})
		if !bad.OK && !cured && bad.At.After(standing.At) {
			standing = bad
		}
	}
	if !standing.At.IsZero() || !out.OK {
		return standing
	}
	return out
}

func (r *Repo) verifications(ctx context.Context, id SnapshotID) ([]Verification, bool, error) {
	doc, err := r.read(ctx, verifiedKey(id))
	if errors.Is(err, store.NotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var mark verifiedMark
	if err := Unseal("verification", verificationFormat, doc, &mark); err != nil {
		return nil, false, err
	}
	for _, v := range mark.Checks {
		if mark.ID != id || v.ID != id || rank(v.Level) < 0 || v.At.IsZero() {
			return nil, false, fmt.Errorf("%w: it is not about %s", ErrDamaged, id)
		}
	}
	return mark.Checks, len(mark.Checks) > 0, nil
}
