// Package repo knows what a repository holds and how its objects are named: one repository is all backups of one cluster at one
// place in a store. It promises that a name or a document that it wrote is read back exactly or refused, and that the
// manifest is written last. It does not decide what to back up, to keep or to restore.
package repo

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"etcd-steward/backup/revision"
)

// Revision is a revision of etcd's key space.
type Revision = revision.Revision

// ClusterID is etcd's cluster ID, in hex as etcdctl prints it but of fixed width.
type ClusterID uint64

// String is the fixed-width hex form.
func (c ClusterID) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// ParseClusterID is the inverse of String.
func ParseClusterID(s string) (ClusterID, error) {
	n, err := parseHex16(s)
	if err != nil {
		return 0, fmt.Errorf("cluster ID %q: want 16 lower-case hex digits", s)
	}
	return ClusterID(n), nil
}

// MarshalText and UnmarshalText put the hex form into JSON.
func (c ClusterID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText parses the hex form.
func (c *ClusterID) UnmarshalText(b []byte) (err error) {
	*c, err = ParseClusterID(string(b))
	return err
}

func parseHex16(s string) (uint64, error) {
	if len(s) != 16 || strings.ToLower(s) != s || strings.Contains(s, "_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 16, 64)
}

// Timeline is one unbroken history of revisions: a cluster ID, and a counter from 1 that grows when the same cluster ID is
// seen with a history that was cut (restored under its old token, or forced back by a survivor that lagged).
// The same revision of two timelines is not the same data.
type Timeline struct {
	Cluster ClusterID
	Cut     uint32
}

// String is the timeline's folder name: <cluster ID>-<cut>.
func (t Timeline) String() string { return fmt.Sprintf("%s-%d", t.Cluster, t.Cut) }

// ParseTimeline is the inverse of String.
func ParseTimeline(s string) (Timeline, error) {
	id, cut, ok := strings.Cut(s, "-")
	c, err := ParseClusterID(id)
	n, err2 := strconv.ParseUint(cut, 10, 32)
	t := Timeline{Cluster: c, Cut: uint32(n)}
	if !ok || err != nil || err2 != nil || n == 0 || t.String() != s {
		return Timeline{}, fmt.Errorf("timeline %q: want <cluster ID, 16 hex digits>-<counter from 1>", s)
	}
	return t, nil
}

// MarshalText puts the folder name into JSON.
func (t Timeline) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText parses the folder name.
func (t *Timeline) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTimeline(string(b))
	return err
}

// SnapshotID names one backup: a ULID, so that it carries the time at which the stream began, and sorts by it.
type SnapshotID string

// NewSnapshotID makes an ID for a snapshot taken at t. It never repeats: 80 of its bits are random.
func NewSnapshotID(t time.Time) SnapshotID {
	return SnapshotID(ulid.MustNew(ulid.Timestamp(t), rand.Reader).String())
}

// ParseSnapshotID accepts the 26 upper-case characters of a ULID and nothing else.
func ParseSnapshotID(s string) (SnapshotID, error) {
	u, err := ulid.ParseStrict(s)
	if err != nil || u.String() != s {
		return "", fmt.Errorf("backup ID %q: want the 26 characters that `steward backup list` shows", s)
	}
	return SnapshotID(s), nil
}

// Time is when the snapshot's stream began, to the millisecond, by the clock of the host that took it.
func (id SnapshotID) Time() time.Time {
	u, err := ulid.ParseStrict(string(id))
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(u.Time()).UTC()
}

var clusterName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// ValidateClusterName says whether a cluster may be called so in a repository: it becomes one path segment.
func ValidateClusterName(name string) error {
	if !clusterName.MatchString(name) {
		return fmt.Errorf("cluster name %q: want 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit", name)
	}
	return nil
}
