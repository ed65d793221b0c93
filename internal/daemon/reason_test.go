package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"etcd-steward/backup/repo/lease"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// TestReason: the word that a failure is counted under, however deep its cause lies, and the hint beside it.
func TestReason(t *testing.T) {
	denied := &store.Error{Op: "put", Kind: store.Denied}
	for _, c := range []struct {
		err          error
		reason, hint string
	}{
		{errors.New("x"), "other", ""},
		{&etcdError{fail.Hint(errors.New("refused connection"), "look at etcd")}, "etcd", "look at etcd"},
		{&etcdError{fmt.Errorf("upload: %w", denied)}, "store-access-denied", store.HintFor(denied)},
		{&etcdError{fail.Refused(errors.New("another cluster"), "no")}, "refused", "no"},
		{&etcdError{&os.PathError{Op: "write", Err: syscall.ENOSPC}}, "disk-full", ""},
		{&etcdError{&os.PathError{Op: "open", Err: syscall.EACCES}}, "permission", ""},
		{fmt.Errorf("work: %w", context.DeadlineExceeded), "timeout", ""},
		{fmt.Errorf("%w: x", lease.ErrLost), "lease-lost", ""},
		{fail.New(fail.Wanting, errors.New("damage"), ""), "found-wanting", ""},
	} {
		if got := reason(c.err); got != c.reason {
			t.Errorf("reason of %v: got %s, want %s", c.err, got, c.reason)
		}
		if got := hint(c.err); got != c.hint {
			t.Errorf("hint of %v: got %q, want %q", c.err, got, c.hint)
		}
	}
}
