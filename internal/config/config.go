// Package config reads the one YAML file that both programs share. It promises that nothing in that file is ignored: a field that is
// unknown, given twice, or at odds with another is an error that names the line; and that it can tell where every value came from.
// It refuses files whose readers or writers make a secret no secret. It opens no connection, and keeps no secret longer than it must.
package config

import (
	"fmt"
	"strings"

	"etcd-steward/internal/config/schedule"
)

// DefaultPath is where both programs look for the file.
const DefaultPath = "/etc/steward/steward.yaml"

// DefaultCluster is the name of a cluster that was given none.
const DefaultCluster = "main"

// Config is the file's shape. Every field that exists is used; fields of features that do not exist yet are not accepted.
type Config struct {
	Store      string     `yaml:"store"`
	S3         S3         `yaml:"s3"`
	Encryption Encryption `yaml:"encryption"`
	Clusters   []Cluster  `yaml:"clusters"`
	Listen     string     `yaml:"listen"`
	Log        Log        `yaml:"log"`

	path    string
	origins map[string]Origin // by field path, as Effective shows it
	lookup  func(string) (string, bool)
}

// S3 is how an s3:// store is reached. Keys come from files, never from this file; without them the SDK's own chain is asked:
// environment, profile, instance role.
type S3 struct {
	Endpoint            string     `yaml:"endpoint"`
	Region              string     `yaml:"region"`
	PathStyle           bool       `yaml:"path_style"`
	CAFile              string     `yaml:"ca_file"`
	Profile             string     `yaml:"profile"`
	AccessKeyIDFile     string     `yaml:"access_key_id_file"`
	SecretAccessKeyFile string     `yaml:"secret_access_key_file"`
	SessionTokenFile    string     `yaml:"session_token_file"`
	ObjectLock          ObjectLock `yaml:"object_lock"`
}

// ObjectLock is put on every snapshot and manifest. Mode is "", governance or compliance.
type ObjectLock struct {
	Mode string `yaml:"mode"`
	Days int    `yaml:"days"`
}

// Encryption says to whom backups are encrypted (age public keys), or that they are not.
type Encryption struct {
	Recipients     []string `yaml:"recipients"`
	RecipientsFile string   `yaml:"recipients_file"`
	IdentityFile   string   `yaml:"identity_file"`
	None           bool     `yaml:"none"`
}

// Cluster is one etcd cluster.
type Cluster struct {
	Name         string    `yaml:"name"`
	Endpoints    []string  `yaml:"endpoints"`
	TLS          TLS       `yaml:"tls"`
	Username     string    `yaml:"username"`
	PasswordFile string    `yaml:"password_file"`
	DialTimeout  Duration  `yaml:"dial_timeout"`
	Snapshot     Snapshot  `yaml:"snapshot"`
	Changes      Changes   `yaml:"changes"`
	Retention    Retention `yaml:"retention"`
	Prune        Prune     `yaml:"prune"`
	Verify       Verify    `yaml:"verify"`
	Health       Health    `yaml:"health"`

	// ambiguous: this machine has several etcds, and nobody said which one it is. Whoever needs its etcd is told.
	ambiguous error

	password secret  // from ETCDCTL_USER or ETCDCTL_PASSWORD
	config   *Config // that it belongs to
	at       string  // its path in there: clusters[0]
}

// TLS are the files of a client of etcd. They are read again at every handshake, so renewed certificates need no restart.
type TLS struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"`
}

// Snapshot is when and how full snapshots are taken. Member is any or local; Jitter is the longest random delay after a tick. Compact is when one is
// made from the newest and the change log, without etcd.
type Snapshot struct {
	Schedule     string   `yaml:"schedule"`
	Timezone     string   `yaml:"timezone"`
	Jitter       Duration `yaml:"jitter"`
	Member       string   `yaml:"member"`
	Spool        string   `yaml:"spool"`
	StallTimeout Duration `yaml:"stall_timeout"`
	Retries      int      `yaml:"retries"`
	Compact      string   `yaml:"compact"`
}

// Changes is how what happens between the snapshots is recorded: how long a change waits at most until it is stored, at which size a segment is stored
// before, and how much may wait on disk while the store is away. Without a schedule of snapshots nothing is recorded (Cluster.Records).
type Changes struct {
	Enabled bool     `yaml:"enabled"`
	Flush   Duration `yaml:"flush"`
	Segment Size     `yaml:"segment"`
	Spool   Size     `yaml:"spool"`
}

// Retention is what prune keeps: a backup that any of these rules wants is kept.
type Retention struct {
	Last    int      `yaml:"last"`
	Hourly  int      `yaml:"hourly"`
	Daily   int      `yaml:"daily"`
	Weekly  int      `yaml:"weekly"`
	Monthly int      `yaml:"monthly"`
	Within  Duration `yaml:"within"`
	// AnyMoment is the window in which every moment can be restored; older segments of the change log go.
	AnyMoment Duration `yaml:"any_moment"`
}

// Prune is when backups that Retention does not keep are removed.
type Prune struct {
	Schedule string `yaml:"schedule"`
}

// Verify is when backups are checked: Schedule reads every byte of the newest one, Deep also restores it into a scratch etcd.
type Verify struct {
	Schedule string `yaml:"schedule"`
	Deep     string `yaml:"deep"`
}

// Health is how often the daemon looks at the members of the cluster, and how often it has them compare their data, which makes each read its whole database.
type Health struct {
	Enabled  bool     `yaml:"enabled"`
	Interval Duration `yaml:"interval"`
	Compare  Duration `yaml:"compare"`
}

// Log is what the daemon writes to standard error.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// defaults are the values of fields that nobody gave, as they would be written in the file. They suit a master.
// Those of clusters[] apply to every cluster. What is missing here is empty, 0 or false.
var defaults = map[string]string{
	"listen":                            "127.0.0.1:7379",
	"log.level":                         "info",
	"log.format":                        "text",
	"clusters[].dial_timeout":           "5s",
	"clusters[].snapshot.schedule":      "0 */6 * * *",
	"clusters[].snapshot.timezone":      "UTC",
	"clusters[].snapshot.jitter":        "30s",
	"clusters[].snapshot.member":        "any",
	"clusters[].snapshot.stall_timeout": "1m",
	"clusters[].snapshot.retries":       "30",
	"clusters[].snapshot.compact":       schedule.Never,
	"clusters[].changes.enabled":        "true",
	"clusters[].changes.flush":          "10s",
	"clusters[].changes.segment":        "8MiB",
	"clusters[].changes.spool":          "1GiB",
	"clusters[].retention.last":         "4",
	"clusters[].retention.hourly":       "24",
	"clusters[].retention.daily":        "7",
	"clusters[].retention.weekly":       "4",
	"clusters[].retention.monthly":      "12",
	"clusters[].retention.any_moment":   "3d",
	"clusters[].prune.schedule":         "@daily",
	"clusters[].verify.schedule":        "@daily",
	"clusters[].verify.deep":            schedule.Never,
	"clusters[].health.enabled":         "true",
	"clusters[].health.interval":        "30s",
	"clusters[].health.compare":         "5m",
}

// later are fields of the design that arrive with later features; the error says so.
var later = map[string]string{
	"clusters[].kit": "arrives with the node kits",
}

// Path is the file that was read, or "" when there was none.
func (c *Config) Path() string { return c.path }

// Cluster finds a cluster by name; "" means the only one there is.
func (c *Config) Cluster(name string) (*Cluster, error) {
	var names []string
	for i := range c.Clusters {
		if c.Clusters[i].Name == name || name == "" && len(c.Clusters) == 1 {
			return &c.Clusters[i], nil
		}
		names = append(names, c.Clusters[i].Name)
	}
	if name == "" {
		return nil, fmt.Errorf("the config has %d clusters (%s): name one with --cluster", len(names), strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("the config has no cluster %q, only %s", name, strings.Join(names, ", "))
}
