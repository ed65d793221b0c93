// Package restore brings a cluster back, offline: it turns a restore point, or a snapshot file that somebody downloaded, into a
// member's data directory. It promises that the directory appears whole or not at all, under any crash; that every byte in it was checked
// and its HashKV compared with the backup's, or, at a revision between two backups, with the newest that a member gave; and that what would endanger data or lead to two histories of one cluster is refused with the safe way.
// It starts and stops no etcd, and it deletes nothing that it did not write itself.
package restore

import (
	"context"
	"os"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
)

// Options say what to restore, and into which member of which cluster. Names are etcdutl's where etcdutl has one.
type Options struct {
	// Repo and Point choose what is restored; the zero Point is the newest that can be reached, with the change log behind the newest snapshot. Or File is a
	// snapshot on this machine: etcd's own, or zstd or age around it.
	Repo  *repo.Repo
	Point backup.Point
	File  string
	// SkipHashCheck accepts a File without etcd's SHA-256 trailer (a db file copied from a data directory).
	SkipHashCheck bool
	// Identities open what is encrypted; IdentitiesFrom names their file, for messages.
	Identities     []age.Identity
	IdentitiesFrom string

	// DataDir is where the result goes; it must not exist, or be empty. WALDir is for the write-ahead log; empty: inside DataDir.
	DataDir string
	WALDir  string
	// Name, InitialCluster and InitialAdvertisePeerURLs are what etcd will be started with.
	Name                     string
	InitialCluster           string
	InitialAdvertisePeerURLs []string
	// InitialClusterToken is used as it is. Empty: random for a single member; for several, derived from the snapshot, the bump and the members,
	// so that hosts which were restored from different inputs refuse each other.
	InitialClusterToken string
	// BumpRevision is added to the snapshot's revision, and everything below is marked as compacted, so that clients of the lost history
	// notice. nil: chosen so that no revision that the repository has seen comes again. 0: the exact history.
	BumpRevision *int64
	// MarkCompacted is etcdutl's flag: with a bump it is implied, without one it is wrong usage.
	MarkCompacted bool
	// ServerVersion ("3.6") is the etcd that will run, if it is older than the one that was backed up.
	ServerVersion string
	// AllowSameClusterID accepts a cluster ID that the repository has seen before. Members of that cluster that were not wiped would join.
	AllowSameClusterID bool

	// Owner is "user:group", "uid:gid" or "user"; empty or "auto": whoever owns the directory that was there before, or its parent.
	Owner string
	// Mode is the data directory's; 0 means 0700, as etcd has it.
	Mode os.FileMode
	// Workers is how many blocks are fetched and decoded at once; 0 means one per processor.
	Workers int
	// Progress is called now and then with the bytes of a stage that are done, from several goroutines; a total of 0 is not known.
	Progress func(stage string, done, total int64)
	// CommonArgs are put into the commands of the Result: what this run was told about store, cluster and identity.
	CommonArgs []string

	step func(name string) // tests: called before each step that a crash can come before
}

// DataDir restores one member's data directory: Prepare, then Execute.
func DataDir(ctx context.Context, o Options) (Result, error) {
	p, err := Prepare(ctx, o)
	if err != nil {
		return Result{}, err
	}
	return p.Execute(ctx)
}

func (o Options) at(step string) {
	if o.step != nil {
		o.step(step)
	}
}

func (o Options) progress(stage string, done, total int64) {
	if o.Progress != nil {
		o.Progress(stage, done, total)
	}
}
