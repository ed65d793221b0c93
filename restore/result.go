package restore

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// Result is what a restore did.
type Result struct {
	Source    Source           `json:"source"`
	DataDir   string           `json:"data_dir"`
	WALDir    string           `json:"wal_dir,omitempty"`
	Owner     Owner            `json:"owner"`
	Name      string           `json:"name"`
	MemberID  datadir.MemberID `json:"member_id"`
	ClusterID repo.ClusterID   `json:"cluster_id"`
	Token     string           `json:"initial_cluster_token"`
	Members   []datadir.Member `json:"members"`

	// Revision, CompactRevision and HashKV are the restore point's, before the bump: HashKV was computed from the restored file.
	Revision        revision.Revision `json:"revision"`
	CompactRevision revision.Revision `json:"compact_revision"`
	HashKV          uint32            `json:"hash_kv"`
	Rebuilt         *backup.Rebuilt   `json:"rebuilt,omitempty"` // nil for a snapshot alone
	Bump            int64             `json:"bump_revision"`
	NewRevision     revision.Revision `json:"new_revision"`

	// Cleared and Kept are what was taken out of the file, and what was left and needs a person.
	Cleared []string `json:"cleared,omitempty"`
	Kept    []string `json:"kept,omitempty"`
	// Recorded says whether the repository now knows the new cluster, so that the daemons go on with it.
	Recorded bool     `json:"recorded"`
	Notes    []string `json:"notes,omitempty"`
	Seconds  float64  `json:"seconds"`

	// EtcdFlags are for the first start of this member; Others the commands that restore the other ones.
	EtcdFlags []string  `json:"etcd_flags"`
	Others    []Command `json:"others,omitempty"`
}

// Command is one to run on another host.
type Command struct {
	Member string   `json:"member"`
	Args   []string `json:"args"`
}

// String is the command for a shell.
func (c Command) String() string { return shell(c.Args) }

func (p *Plan) result(r datadir.Report, hash uint32) Result {
	res := Result{
		Source: p.Source, DataDir: p.DataDir, WALDir: p.WALDir, Owner: p.Owner, Name: p.Name, MemberID: p.MemberID, ClusterID: p.ClusterID,
		Token: p.Token, Members: p.Members, Revision: r.Revision, CompactRevision: r.CompactRevision, HashKV: hash, Bump: p.Bump,
		NewRevision: r.NewRevision, Cleared: r.Cleared, Kept: r.Kept, EtcdFlags: p.etcdFlags(), Others: p.others(),
	}
	if p.rebuilt != nil {
		res.Rebuilt = backup.RebuiltFrom(p.rebuilt)
		res.Notes = append(res.Notes, res.Rebuilt.Lines(*p.Source.Point)...)
		res.Notes = append(res.Notes, p.point.Notes...)
	}
	if r.AuthEnabled && p.manifest == nil {
		res.Notes = append(res.Notes, "authentication is on in this snapshot, with the users and passwords of that time")
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		res.Notes = append(res.Notes, "SELinux is on: run restorecon -R "+p.DataDir)
	}
	return res
}

func (p *Plan) etcdFlags() []string {
	flags := []string{"--name", p.Name, "--data-dir", p.DataDir}
	if p.WALDir != "" {
		flags = append(flags, "--wal-dir", p.WALDir)
	}
	return append(flags, "--initial-cluster", p.InitialCluster, "--initial-cluster-token", p.Token, "--initial-cluster-state", "new",
		"--initial-advertise-peer-urls", strings.Join(p.PeerURLs, ","))
}

// others are the commands for the other members: the same snapshot, token and bump, whatever those hosts know by then.
func (p *Plan) others() (all []Command) {
	what := []string{"--from-file", p.options.File}
	if p.manifest != nil {
		what = []string{"--id", string(p.manifest.ID)}
		if p.point.Rebuilt() {
			what = append(what, "--to-revision", fmt.Sprint(p.point.Revision))
		}
	}
	for _, m := range p.Members {
		if m.ID == p.MemberID {
			continue
		}
		args := append([]string{"steward", "restore", "data-dir"}, p.options.CommonArgs...)
		args = append(append(args, what...), "--data-dir", p.options.DataDir)
		if p.options.WALDir != "" {
			args = append(args, "--wal-dir", p.options.WALDir)
		}
		args = append(args, "--name", m.Name, "--initial-advertise-peer-urls", strings.Join(m.PeerURLs, ","),
			"--initial-cluster", p.InitialCluster, "--initial-cluster-token", p.Token, "--bump-revision", strconv.FormatInt(p.Bump, 10))
		if p.options.ServerVersion != "" {
			args = append(args, "--server-version", p.options.ServerVersion)
		}
		all = append(all, Command{Member: m.Name, Args: args})
	}
	return all
}

// recordWithin bounds the one write to the store: the restore is done, and a store that hangs must not hide it.
const recordWithin = 30 * time.Second

// record tells the repository of the new cluster, so that the daemons on its members accept it. Not being able to is no failure of the restore.
func (p *Plan) record(ctx context.Context, res *Result) {
	const hint = "say once that the new cluster belongs to this repository: `steward backup create --adopt`"
	if p.manifest == nil {
		res.Notes = append(res.Notes, "stewardd does not know the new cluster; "+hint)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	err = p.options.Repo.AddSuccessor(ctx, repo.Successor{
		ClusterID: p.ClusterID, From: p.manifest.ID, Timeline: p.manifest.Timeline, Revision: res.Revision, NewRevision: res.NewRevision,
		Restored: time.Now().UTC(), Host: host,
	})
	if err == nil {
		res.Recorded = true
		return
	}
	next := fail.HintOf(err)
	if next == "" {
		next = hint
	}
	res.Notes = append(res.Notes, fmt.Sprintf("the data directory is restored, but the repository was not told of the new cluster, so stewardd will refuse it: %v; %s", err, next))
}

// shell quotes arguments for a shell, where needed.
func shell(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+") != "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted[i] = a
	}
	return strings.Join(quoted, " ")
}
