package restore

import (
	"errors"
	"fmt"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// subject is the snapshot that is restored, as far as it is known before its bytes are.
type subject struct {
	id       repo.SnapshotID   // "" for a file
	sum      *repo.SHA256      // nil when only the whole content tells
	revision revision.Revision // 0 when not known yet
}

// identity is what the restored cluster is made from, and where each value came from.
type identity struct {
	token, tokenFrom string
	bump             int64
	bumpFrom         string
	cluster          *datadir.Cluster // nil while the token depends on bytes that are not read yet
	note             string
}

// bootstrap is what etcd would be started with.
func (o Options) bootstrap(token string) datadir.Bootstrap {
	return datadir.Bootstrap{Name: o.Name, PeerURLs: o.InitialAdvertisePeerURLs, InitialCluster: o.InitialCluster, Token: token}
}

// predict is the cluster that a token leads to.
func (o Options) predict(token string) (*datadir.Cluster, error) {
	c, err := o.bootstrap(token).Predict()
	switch {
	case errors.Is(err, datadir.ErrSyntax):
		return nil, fail.New(fail.Usage, err, "peer URLs look like https://10.0.0.1:2380, the initial cluster like m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380")
	case err != nil:
		return nil, fail.Refused(err, "--name, --initial-cluster and --initial-advertise-peer-urls must be those that etcd will be started with, and --initial-cluster the same on every host")
	}
	return c, nil
}

// decide chooses the token and the bump, and predicts the cluster. Hosts of one restore that decide separately come to the same values as long as they restore
// the same snapshot for the same members.
func (o Options) decide(s subject, h history, now time.Time) (d identity, err error) {
	sample, err := o.predict("any")
	if err != nil {
		return d, err
	}
	derived := o.InitialClusterToken == "" && len(sample.Members) > 1
	tokenFor := func(bump int64) string { return derivedToken(*s.sum, bump, sample.Normal) }
	switch {
	case o.InitialClusterToken != "":
		d.token, d.tokenFrom = o.InitialClusterToken, "given"
	case !derived:
		d.token, d.tokenFrom = randomToken(), tokenRandom
	default:
		d.tokenFrom = "derived from the snapshot, the bump and the members"
	}
	if derived && s.sum == nil {
		d.bump, d.bumpFrom, err = o.chooseBump(s, h, nil, now)
		return d, err
	}
	joins := func(bump int64) (*datadir.Cluster, error) {
		if derived {
			return o.predict(tokenFor(bump))
		}
		return o.predict(d.token)
	}
	if d.bump, d.bumpFrom, err = o.chooseBump(s, h, joins, now); err != nil {
		return d, err
	}
	if derived {
		d.token = tokenFor(d.bump)
	}
	if d.cluster, err = o.predict(d.token); err != nil || o.AllowSameClusterID {
		return d, err
	}
	d.note, err = h.refuseSeen(repo.Successor{
		ClusterID: repo.ClusterID(d.cluster.ID), From: s.id, Revision: s.revision, NewRevision: s.revision + revision.Revision(d.bump), Restored: now,
	}, o.InitialClusterToken != "")
	return d, err
}

// chooseBump is the bump that was asked for, that of the restore which this host continues, or one beyond everything known.
func (o Options) chooseBump(s subject, h history, joins func(int64) (*datadir.Cluster, error), now time.Time) (int64, string, error) {
	if o.BumpRevision != nil {
		bump := *o.BumpRevision
		if o.MarkCompacted && bump == 0 {
			return 0, "", fail.New(fail.Usage, fmt.Errorf("--mark-compacted without a bump"), "it needs --bump-revision above 0, or leave both out for the default")
		}
		if err := checkBump(s.revision, bump); err != nil {
			return 0, "", fail.Refused(err, "give a smaller --bump-revision")
		}
		if bump == 0 {
			return 0, "as asked: the exact history", nil
		}
		return bump, "as asked", nil
	}
	bumps, clusters := h.joinable(s.id, s.revision, now)
	for i, bump := range bumps {
		if c, err := joins(bump); err == nil && repo.ClusterID(c.ID) == clusters[i] {
			return bump, "that of the restore which this host continues", nil
		}
	}
	top := max(h.highestKnown(), s.revision)
	bump, err := quantisedBump(s.revision, top)
	if err != nil {
		return 0, "", fail.Refused(err, "give a smaller --bump-revision, or 0 for the exact history; then restart every client of etcd")
	}
	if s.id == "" {
		return bump, "the default for a file", nil
	}
	return bump, fmt.Sprintf("beyond the highest revision known, %d", top), nil
}
