package datadir

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"etcd-steward/backup/revision"
)

// edited is a placed snapshot with something changed in its file.
func edited(t *testing.T, s source, change func(tx *bbolt.Tx) error) string {
	t.Helper()
	dir := place(t, s)
	if err := edit(DBPath(dir), change); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStrangeFiles: a file of a newer etcd and entries that make no sense are errors, and nothing is guessed.
func TestStrangeFiles(t *testing.T) {
	s := takeSnapshot(t, "3.6", variety)
	b := bootstraps(t, "a-new-token", 1)[0]
	put := func(bucket, key []byte, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return b.Put(key, []byte(value))
		}
	}
	for name, c := range map[string]struct {
		change func(tx *bbolt.Tx) error
		is     error
		says   string
	}{
		"a newer storage version": {put(metaBucket, storageVersionKey, "3.99.0"), ErrNewer, "3.99.0"},
		"no storage version":      {put(metaBucket, storageVersionKey, "x"), nil, `version "x"`},
		"no downgrade":            {put(clusterBucket, downgradeKey, "{"), nil, "damaged"},
		"no alarm":                {put(alarmBucket, []byte{0xff}, ""), nil, "damaged"},
		"no revision":             {put(metaBucket, finishedCompactKey, "short"), nil, "is no revision"},
		"a revision below zero":   {put(metaBucket, finishedCompactKey, "\xff\xff\xff\xff\xff\xff\xff\xff_\x00\x00\x00\x00\x00\x00\x00\x00"), nil, "is no revision"},
		"no keys":                 {func(tx *bbolt.Tx) error { return tx.DeleteBucket(keyBucket) }, nil, "not an etcd database"},
	} {
		_, err := Build(Config{Dir: edited(t, s, c.change), Bootstrap: b})
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v saying %q", name, err, c.is, c.says)
		}
	}
}

// TestRevisionBeyondTheRecords: when the newest records were compacted away, the compaction's revision is the newest; etcd agrees, and a bump starts there.
func TestRevisionBeyondTheRecords(t *testing.T) {
	s := takeSnapshot(t, "3.6", variety)
	beyond := s.revision + 17
	change := func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(scheduledCompactKey, mvcc.RevToBytes(mvcc.Revision{Main: int64(beyond)}, mvcc.NewRevBytes()))
	}
	for _, bump := range []int64{0, 1000} {
		dir := edited(t, s, change)
		all := bootstraps(t, "a-new-token", 1)
		r, err := Build(Config{Dir: dir, Bootstrap: all[0], Bump: bump})
		if err != nil {
			t.Fatal(err)
		}
		want := beyond + revision.Revision(bump)
		if r.Revision != beyond || r.CompactRevision != beyond || r.NewRevision != want {
			t.Errorf("bump %d: %+v, want revision %d and then %d", bump, r, beyond, want)
		}
		c := serve(t, "3.6", []string{dir}, all)
		if got := c.HashKV(t, 0, 0).Header.Revision; got != int64(want) {
			t.Errorf("bump %d: etcd is at revision %d, want %d", bump, got, want)
		}
	}
}
