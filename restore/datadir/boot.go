package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"etcd-steward/backup/revision"
)

// Served is what a booted etcd says about the data that it serves.
type Served struct {
	Revision        revision.Revision `json:"revision"` // the newest; leases that expire move it on
	CompactRevision revision.Revision `json:"compact_revision"`
	HashKV          uint32            `json:"hash_kv"` // at the revision that was asked for
	Keys            int64             `json:"keys"`    // at the revision that was asked for
	Leases          int               `json:"leases"`
	Alarms          []string          `json:"alarms,omitempty"`
	AuthEnabled     bool              `json:"auth_enabled"`
	AuthRevision    uint64            `json:"auth_revision"`
	Seconds         float64           `json:"seconds"` // of etcdutl's restore and etcd's start
}

// Boot proves that a snapshot needs none of this program: stock etcdutl restores it as a single member into a folder below scratch, a stock etcd starts on
// that, and is asked what it serves at the given revision. The folder is removed afterwards.
//
// etcd runs inside this process and listens nowhere, so nobody else can read the data meanwhile, and it is asked directly, so a snapshot with authentication needs no
// password. It takes the memory that etcd takes for these keys. A damaged database can make etcd panic, or end the process: run Boot in a process of its own where that matters.
func Boot(ctx context.Context, dbPath, scratch string, at revision.Revision, startWithin time.Duration) (s Served, err error) {
	dir, err := os.MkdirTemp(scratch, "boot-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := os.Stat(dbPath)
	if err != nil {
		return s, err
	}
	began := time.Now()
	dataDir := filepath.Join(dir, "data")
	if err := stockRestore(dbPath, dataDir, st.Size()); err != nil {
		return s, fmt.Errorf("etcdutl snapshot restore: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return s, err
	}
	e, err := embed.StartEtcd(bootConfig(dataDir, st.Size()))
	if err != nil {
		return s, fmt.Errorf("start etcd on what etcdutl restored: %w", err)
	}
	defer e.Close()
	late := time.NewTimer(startWithin)
	defer late.Stop()
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return s, errors.New("etcd stopped while it started on what etcdutl restored")
	case <-late.C:
		return s, fmt.Errorf("etcd was not ready within %v on what etcdutl restored", startWithin)
	case <-ctx.Done():
		return s, ctx.Err()
	}
	s, err = ask(ctx, e, at)
	s.Seconds = time.Since(began).Seconds()
	return s, err
}

// bootURL is in the restored membership, as something must be. Nothing listens there, and a single member has nobody to call.
const bootURL = "http://127.0.0.1:2380"

// stockRestore is `etcdutl snapshot restore` with its defaults.
func stockRestore(dbPath, dataDir string, size int64) error {
	return snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: dbPath, Name: "boot", OutputDataDir: dataDir, PeerURLs: []string{bootURL}, InitialCluster: "boot=" + bootURL,
		InitialClusterToken: "steward-boot",
		SkipHashCheck:       size%512 != 32, // a file whose trailer was cut off
		InitialMmapSize:     uint64(size) + 64<<20,
	})
}

func bootConfig(dataDir string, size int64) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = "boot", dataDir
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	c.UnsafeNoFsync = true
	c.QuotaBackendBytes = max(8<<30, 4*size) // a full quota would raise an alarm that the snapshot does not have
	// A fatal message becomes a panic: etcd's own way would be to end this process.
	quiet := zap.New(zapcore.NewNopCore(), zap.WithFatalHook(zapcore.WriteThenPanic))
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quiet)
	return c
}

// ask reads from etcd's own store, behind its network and its authentication.
func ask(ctx context.Context, e *embed.Etcd, at revision.Revision) (s Served, err error) {
	kv := e.Server.KV()
	hash, current, err := kv.HashStorage().HashByRev(int64(at))
	if err != nil {
		return s, fmt.Errorf("HashKV at revision %d, where etcd is at %d: %w", at, current, err)
	}
	s.HashKV, s.Revision = hash.Hash, revision.Revision(current)
	s.CompactRevision = revision.Revision(max(0, hash.CompactRevision)) // etcd says -1 for never
	all, err := kv.Range(ctx, []byte{0}, []byte{}, mvcc.RangeOptions{Rev: int64(at), CountOnly: true})
	if err != nil {
		return s, fmt.Errorf("count the keys at revision %d: %w", at, err)
	}
	s.Keys = int64(all.Count)
	leases, err := e.Server.LeaseLeases(e.Server.AuthStore().WithRoot(ctx), &etcdserverpb.LeaseLeasesRequest{})
	if err != nil {
		return s, fmt.Errorf("list leases: %w", err)
	}
	s.Leases = len(leases.Leases)
	for _, a := range e.Server.Alarms() {
		s.Alarms = append(s.Alarms, a.Alarm.String())
	}
	slices.Sort(s.Alarms)
	s.Alarms = slices.Compact(s.Alarms)
	s.AuthEnabled, s.AuthRevision = e.Server.AuthStore().IsAuthEnabled(), e.Server.AuthStore().Revision()
	return s, nil
}
