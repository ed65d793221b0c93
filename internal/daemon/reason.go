package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// reason is the word under which a failure is counted. There are few of them, whatever goes wrong: a label's values are bounded.
func reason(err error) string {
	var st *store.Error
	switch {
	case errors.Is(err, lease.ErrLost):
		return "lease-lost"
	case fail.ExitCode(err) == fail.Unsafe:
		return "refused"
	case fail.ExitCode(err) == fail.Wanting:
		return "found-wanting"
	case errors.As(err, &st):
		return "store-" + kindLabel(st.Kind)
	case errors.Is(err, syscall.ENOSPC):
		return "disk-full"
	case errors.Is(err, os.ErrPermission):
		return "permission"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	var etcd *etcdError
	if errors.As(err, &etcd) {
		return "etcd"
	}
	return "other"
}

// etcdError marks what went wrong between a cluster and the spool. Its text and its hint are the cause's.
type etcdError struct{ error }

// Unwrap gives the cause.
func (e *etcdError) Unwrap() error { return e.error }

// kindLabel is a store's kind of error as a label: "access-denied".
func kindLabel(k store.Kind) string { return strings.ReplaceAll(string(k), " ", "-") }

// storeKind is the kind of a store's error in err's chain; "" when there is none.
func storeKind(err error) string {
	var st *store.Error
	if !errors.As(err, &st) {
		return ""
	}
	return kindLabel(st.Kind)
}

// hint is the next thing to do about err, or "".
func hint(err error) string {
	if h := fail.HintOf(err); h != "" {
		return h
	}
	return store.HintFor(err)
}
