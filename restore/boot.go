package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/restore/datadir"
)

// Boot proves that a snapshot file, with or without etcd's trailer, needs none of this program: it is restored with stock etcdutl into a folder beside it, a stock
// etcd starts on that and must serve what the manifest says. It returns how long it took until etcd answered. It runs etcd in this process: see datadir.Boot.
func Boot(ctx context.Context, file string, m *repo.Manifest) (seconds float64, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	s, err := datadir.Boot(ctx, file, filepath.Dir(file), m.Database.Revision, startWithin(st.Size()))
	if err != nil {
		return 0, err
	}
	return s.Seconds, CompareServed(s, m.Database)
}

// startWithin bounds etcd's start: it takes some two seconds per GiB to read its keys, on a slow disk ten times that.
func startWithin(size int64) time.Duration {
	return 2*time.Minute + time.Duration(size>>30)*time.Minute
}

// CompareServed says what a booted etcd serves otherwise than the manifest says.
func CompareServed(s datadir.Served, want repo.Database) error {
	var wrong []string
	differ := func(what string, got, want any) {
		wrong = append(wrong, fmt.Sprintf("%s %v, want %v", what, got, want))
	}
	// Leases expire while etcd runs, and take their keys with them: revisions beyond the backup's, which it does not touch.
	if s.Revision < want.Revision || s.Revision > want.Revision && want.Leases == 0 {
		differ("revision", s.Revision, want.Revision)
	}
	if s.CompactRevision != want.CompactRevision {
		differ("compacted at", s.CompactRevision, want.CompactRevision)
	}
	if s.HashKV != want.HashKV {
		differ("HashKV", fmt.Sprintf("%08x", s.HashKV), fmt.Sprintf("%08x", want.HashKV))
	}
	if s.Keys != want.Keys {
		differ("keys", s.Keys, want.Keys)
	}
	if s.Leases > want.Leases {
		differ("leases", s.Leases, want.Leases)
	}
	if !slices.Equal(s.Alarms, slices.Compact(slices.Sorted(slices.Values(want.Alarms)))) {
		differ("alarms", s.Alarms, want.Alarms)
	}
	if s.AuthEnabled != want.AuthEnabled || want.AuthRevision > 0 && s.AuthRevision != want.AuthRevision {
		differ("authentication", fmt.Sprintf("%t at %d", s.AuthEnabled, s.AuthRevision), fmt.Sprintf("%t at %d", want.AuthEnabled, want.AuthRevision))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("a booted etcd does not serve what was backed up: %s", strings.Join(wrong, "; "))
	}
	return nil
}
