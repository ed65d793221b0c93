package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/oklog/ulid/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// Plan is what a restore will do. Making one changes nothing, neither here nor in the store.
type Plan struct {
	Source Source `json:"source"`

	DataDir   string   `json:"data_dir"`
	WALDir    string   `json:"wal_dir,omitempty"`
	WorkDirs  []string `json:"work_dirs"`
	Leftovers []string `json:"leftovers,omitempty"` // working folders of interrupted restores, which will be removed
	Owner     Owner    `json:"owner"`
	Mode      string   `json:"mode"`
	DiskNeed  int64    `json:"disk_need"`
	DiskFree  int64    `json:"disk_free"`

	Name           string           `json:"name"`
	Members        []datadir.Member `json:"members,omitempty"`
	InitialCluster string           `json:"initial_cluster"`
	PeerURLs       []string         `json:"initial_advertise_peer_urls"`
	Token          string           `json:"initial_cluster_token,omitempty"` // "" while it depends on bytes that are not read yet
	TokenFrom      string           `json:"token_from"`
	ClusterID      repo.ClusterID   `json:"cluster_id,omitzero"`
	OldClusterID   repo.ClusterID   `json:"old_cluster_id,omitzero"`
	MemberID       datadir.MemberID `json:"member_id,omitzero"`

	Revision    revision.Revision `json:"revision,omitzero"`
	Bump        int64             `json:"bump_revision"`
	BumpFrom    string            `json:"bump_from"`
	NewRevision revision.Revision `json:"new_revision,omitzero"`

	// Notes are what a person should know before.
	Notes []string `json:"notes,omitempty"`

	options   Options
	manifest  *repo.Manifest  // nil for a file
	point     *backup.Located // nil for a file
	rebuilt   *rebuild.Result // nil for a snapshot alone
	history   history
	placement *placement
}

// Source is what is restored.
type Source struct {
	ID          repo.SnapshotID `json:"id,omitempty"`
	Timeline    repo.Timeline   `json:"timeline,omitzero"`
	Taken       time.Time       `json:"taken,omitzero"`
	Where       string          `json:"where"` // the store's URL, or the file
	EtcdVersion string          `json:"etcd_version,omitempty"`
	Keys        int64           `json:"keys,omitempty"`
	Size        int64           `json:"size,omitempty"`   // of the database; 0 when a file does not tell
	Stored      int64           `json:"stored,omitempty"` // what is read
	Encrypted   bool            `json:"encrypted"`
	// Point is what the restore point came to; nil for a file.
	Point *backup.Resolved `json:"point,omitempty"`
}

// Prepare looks at everything, decides everything, and refuses what is unsafe.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	if err := o.checkUsage(); err != nil {
		return nil, err
	}
	p := &Plan{
		options: o, Name: o.Name, InitialCluster: o.InitialCluster, PeerURLs: o.InitialAdvertisePeerURLs,
		Mode: fmt.Sprintf("%04o", o.mode().Perm()),
	}
	if err := p.lookHere(); err != nil {
		return nil, err
	}
	s, err := p.lookAtSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.checkDisk(); err != nil {
		return nil, err
	}
	d, err := o.decide(s, p.history, time.Now())
	if err != nil {
		return nil, err
	}
	p.Bump, p.BumpFrom, p.TokenFrom = d.bump, d.bumpFrom, d.tokenFrom
	if d.note != "" {
		p.Notes = append(p.Notes, d.note)
	}
	p.settle(d.token, d.cluster, s.revision)
	return p, nil
}

func (o Options) mode() os.FileMode {
	if o.Mode == 0 {
		return 0o700
	}
	return o.Mode
}

func (o Options) checkUsage() error {
	usage := func(what string) error {
		return fail.New(fail.Usage, errors.New(what), "steward restore data-dir --help")
	}
	_, versionErr := datadir.Newer(o.ServerVersion)
	switch {
	case (o.Repo == nil) == (o.File == ""):
		return usage("restore takes either a backup of a repository or a file")
	case o.File != "" && o.Point != backup.Point{}:
		return usage("a file is one restore point: neither --id nor --to-revision, --to-time and --timeline go with it")
	case o.SkipHashCheck && o.File == "":
		return usage("--skip-hash-check is for a file only")
	case o.DataDir == "":
		return usage("no data directory is given")
	case versionErr != nil:
		return fail.New(fail.Usage, versionErr, "give a minor version, as 3.5")
	case o.Name == "" || o.InitialCluster == "" || len(o.InitialAdvertisePeerURLs) == 0:
		return usage("--name, --initial-cluster and --initial-advertise-peer-urls are needed: etcd derives the new cluster's identity from them")
	}
	return nil
}

// settle fills in what depends on the token.
func (p *Plan) settle(token string, c *datadir.Cluster, at revision.Revision) {
	p.Token = token
	if at > 0 {
		p.Revision, p.NewRevision = at, at+revision.Revision(p.Bump)
	}
	if c == nil {
		return
	}
	p.ClusterID, p.MemberID, p.Members, p.InitialCluster = repo.ClusterID(c.ID), c.Self, c.Members, c.Normal
}

// lookHere looks at this machine: the target directories, what an interrupted restore left, the owner.
func (p *Plan) lookHere() (err error) {
	o := p.options
	if p.placement, err = newPlacement(ulid.Make().String(), o.DataDir, o.WALDir); err != nil {
		return err
	}
	pl := p.placement
	pl.step = o.at
	p.DataDir = pl.data.final
	if err := refuseOccupied(p.DataDir); err != nil {
		if pl.finishedByOld() {
			return fail.Refused(err, "a restore that was interrupted had already put it there, complete: start etcd on it, or move it away to restore again")
		}
		return err
	}
	for _, place := range pl.places() {
		if err := place.refuseReadOnly(); err != nil {
			return err
		}
		p.WorkDirs = append(p.WorkDirs, place.work)
	}
	if p.Leftovers, err = pl.leftovers(); err != nil {
		return err
	}
	if pl.wal != nil {
		p.WALDir = pl.wal.final
		placed, err := pl.placedByOld()
		if err != nil {
			return err
		}
		if !placed {
			if err := refuseOccupiedWAL(p.WALDir); err != nil {
				return err
			}
		}
	}
	p.Owner, err = chooseOwner(o.Owner, pl.data)
	return err
}
