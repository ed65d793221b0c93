package backup

import (
	"context"
	"errors"
	"fmt"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// finding is an error that says what is wrong with a backup, rather than with the attempt to look at it.
type finding struct{ error }

func (f *finding) Unwrap() error { return f.error }

// Found marks what a Boot found wrong with a backup, so that it counts as damage and not as a failure to look; nil stays nil.
func Found(err error) error {
	if err == nil {
		return nil
	}
	return &finding{err}
}

func findingf(format string, a ...any) error { return &finding{fmt.Errorf(format, a...)} }

// findings are the errors of the rooms below that are findings.
var findings = []error{
	repo.ErrDamaged, repo.ErrNoData, repo.ErrNewerFormat, envelope.ErrDamaged, store.NotFound, store.Damaged, dbfile.ErrDamaged,
	changes.ErrDamaged, changes.ErrNewerFormat, changes.ErrDisagree, rebuild.ErrContradiction, rebuild.ErrMissing, rebuild.ErrNotProven,
}

// aboutObject tells a finding from a failure to look: reading one damaged object says nothing about the next, a store that does not
// answer or a full disk says nothing at all.
func aboutObject(ctx context.Context, err error) (problem string, ok bool) {
	if err == nil || ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return "", false
	}
	var f *finding
	if errors.As(err, &f) {
		return err.Error(), true
	}
	for _, known := range findings {
		if errors.Is(err, known) {
			return err.Error(), true
		}
	}
	return "", false
}

// wanting gives a finding its exit code.
func wanting(ctx context.Context, err error) error {
	if _, ok := aboutObject(ctx, err); ok && fail.ExitCode(err) == fail.Failed {
		return fail.New(fail.Wanting, err, fail.HintOf(err))
	}
	return err
}
