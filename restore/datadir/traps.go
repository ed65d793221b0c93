package datadir

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	apiversion "go.etcd.io/etcd/api/v3/version"
	"google.golang.org/protobuf/proto"
)

// clearTraps takes out of the file what would hurt the restored cluster and what etcdutl leaves in it.
func (c Config) clearTraps(tx *bbolt.Tx, r *Report) error {
	if err := clearAlarms(tx, r); err != nil {
		return err
	}
	if err := clearDowngrade(tx, r); err != nil {
		return err
	}
	return c.fitServer(tx, r)
}

// clearAlarms takes the NOSPACE alarms out: the restored cluster would be read-only whatever its quota, until somebody disarms them. A
// CORRUPT alarm says that the old cluster's members differed; only a person can judge what that means.
func clearAlarms(tx *bbolt.Tx, r *Report) error {
	b := tx.Bucket(alarmBucket)
	if b == nil {
		return nil
	}
	var noSpace [][]byte
	err := b.ForEach(func(k, _ []byte) error {
		var m etcdserverpb.AlarmMember
		if err := proto.Unmarshal(k, &m); err != nil {
			return fmt.Errorf("the database is damaged: alarm %x: %w", k, err)
		}
		if m.GetAlarm() == etcdserverpb.AlarmType_NOSPACE {
			noSpace = append(noSpace, slices.Clone(k))
			return nil
		}
		r.Kept = append(r.Kept, fmt.Sprintf("alarm %s of member %s: etcd serves no reads and writes until it is disarmed; find out which member was wrong first", m.GetAlarm(), MemberID(m.GetMemberID())))
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range noSpace {
		if err := b.Delete(k); err != nil {
			return err
		}
		r.Cleared = append(r.Cleared, "alarm NOSPACE: the cluster would have been read-only")
	}
	return nil
}

// clearDowngrade takes an enabled downgrade out, and the cluster version with it: the restored cluster would stay at that version.
func clearDowngrade(tx *bbolt.Tx, r *Report) error {
	b := tx.Bucket(clusterBucket)
	if b == nil {
		return nil
	}
	raw := b.Get(downgradeKey)
	if raw == nil {
		return nil
	}
	var d struct {
		Target  string `json:"target-version"`
		Enabled bool   `json:"enabled"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("the database is damaged: downgrade %q: %w", raw, err)
	}
	if !d.Enabled {
		return nil
	}
	r.Cleared = append(r.Cleared, fmt.Sprintf("a downgrade to %s that was going on: the cluster would have stayed at that version", d.Target))
	return clearClusterVersion(b)
}

func clearClusterVersion(cluster *bbolt.Bucket) error {
	if err := cluster.Delete(downgradeKey); err != nil {
		return err
	}
	return cluster.Delete(clusterVersionKey) // the first leader writes the one that its members agree on
}

// fitServer refuses a file of an etcd newer than this program knows, and when asked makes the file fit an older server: that one refuses a storage
// or cluster version above its own. The key space has had the same encoding since 3.4, so nothing else is in the way.
func (c Config) fitServer(tx *bbolt.Tx, r *Report) error {
	storage, err := parseVersion(r.StorageVersion)
	if err != nil {
		return err
	}
	known, err := parseVersion(apiversion.Version)
	if err != nil {
		return err
	}
	if storage != nil && known.LessThan(*storage) {
		return fmt.Errorf("%w: its storage version is %s, the newest known is %s", ErrNewer, storage, known)
	}
	target, err := parseVersion(c.ServerVersion)
	if err != nil || target == nil {
		return err
	}
	if storage != nil && target.LessThan(*storage) {
		if err := lowerStorageVersion(tx.Bucket(metaBucket), *target); err != nil {
			return err
		}
		r.Cleared = append(r.Cleared, fmt.Sprintf("storage version %s: etcd %s would have refused it", storage, c.ServerVersion))
	}
	b := tx.Bucket(clusterBucket)
	if b == nil {
		return nil
	}
	cluster, err := parseVersion(string(b.Get(clusterVersionKey)))
	if err != nil || cluster == nil || !target.LessThan(*cluster) {
		return err
	}
	r.Cleared = append(r.Cleared, fmt.Sprintf("cluster version %s: etcd %s would have refused it", cluster, c.ServerVersion))
	return clearClusterVersion(b)
}

// lowerStorageVersion writes the version as the target's own schema has it: the field came with 3.6.
func lowerStorageVersion(meta *bbolt.Bucket, target semver.Version) error {
	if target.LessThan(apiversion.V3_6) {
		return meta.Delete(storageVersionKey)
	}
	return meta.Put(storageVersionKey, []byte(target.String()))
}

// parseVersion is the major and minor part of "3.6" or "3.6.16"; nothing is nil.
func parseVersion(s string) (*semver.Version, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no version is a fact, not an error
	}
	v, err := semver.NewVersion(s)
	if err != nil {
		if v, err = semver.NewVersion(s + ".0"); err != nil {
			return nil, fmt.Errorf("version %q: want MAJOR.MINOR", s)
		}
	}
	return &semver.Version{Major: v.Major, Minor: v.Minor}, nil
}

// Known is the newest minor version of etcd whose files this program knows.
func Known() string {
	v := semver.New(apiversion.Version)
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Newer says whether an etcd version is beyond Known.
func Newer(version string) (bool, error) {
	v, err := parseVersion(version)
	if err != nil || v == nil {
		return false, err
	}
	known, err := parseVersion(Known())
	return err == nil && known.LessThan(*v), err
}
