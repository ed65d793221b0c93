package datadir

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestBoot: a stock etcd serves what the backed-up one served, also when authentication is on and nobody gives a password, and with alarms.
func TestBoot(t *testing.T) {
	for _, minor := range []string{"3.5", "3.6", "3.7"} {
		t.Run(minor, func(t *testing.T) {
			t.Parallel()
			var keys int64
			s := takeSnapshot(t, minor, func(t *testing.T, cli *clientv3.Client) {
				variety(t, cli)
				all, err := cli.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
				if err != nil {
					t.Fatal(err)
				}
				keys = all.Count
				raise(t, cli, etcdserverpb.AlarmType_NOSPACE)
				if minor == "3.6" {
					raise(t, cli, etcdserverpb.AlarmType_CORRUPT)
				}
			})
			scratch := t.TempDir()
			got, err := Boot(t.Context(), s.path, scratch, s.revision, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if got.HashKV != s.hash || got.Revision != s.revision || got.CompactRevision != s.compact || got.Keys != keys || got.Leases != 1 || got.AuthEnabled {
				t.Errorf("served %+v, want %+v with %d keys and 1 lease", got, s, keys)
			}
			if want := minor == "3.6"; slices.Contains(got.Alarms, "CORRUPT") != want || !slices.Contains(got.Alarms, "NOSPACE") {
				t.Errorf("alarms %q", got.Alarms)
			}
			if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
				t.Errorf("left in the scratch folder: %v, %v", left, err)
			}
		})
	}
}

// TestBootAuth: also with authentication on nobody has to give a password. And a boot that fails says why.
func TestBootAuth(t *testing.T) {
	old, s := takeSnapshot(t, "3.6", variety), takeAuthSnapshot(t)
	got, err := Boot(t.Context(), s.path, t.TempDir(), s.revision, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got.HashKV != s.hash || !got.AuthEnabled || got.AuthRevision < 2 || got.Leases != 1 {
		t.Errorf("served %+v, want hash %08x and authentication", got, s.hash)
	}
	if _, err := Boot(t.Context(), old.path, t.TempDir(), old.revision+5, time.Minute); err == nil || !strings.Contains(err.Error(), "future") {
		t.Errorf("a revision that the snapshot does not have: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Boot(ctx, old.path, t.TempDir(), old.revision, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func takeAuthSnapshot(t *testing.T) source {
	t.Helper()
	return takeSnapshotAs(t, "3.6", func(t *testing.T, cli *clientv3.Client) {
		variety(t, cli)
		if _, err := cli.UserGrantRole(t.Context(), "root", "root"); err != nil {
			t.Fatal(err)
		}
		if _, err := cli.AuthEnable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, "root", "secret")
}
