package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// Execute does what the plan says. Whatever happens, the data directory is complete or as it was; after an error or a cancelled context nothing is left
// behind, and after a crash the next restore to the same place clears up. One error leaves a complete directory, and says so: when its name could not be made durable.
func (p *Plan) Execute(ctx context.Context) (res Result, err error) {
	began := time.Now()
	o, pl := p.options, p.placement
	o.at("begin")
	if err := pl.recover(); err != nil {
		return res, err
	}
	o.at("recovered")
	if err := p.lookAgain(); err != nil {
		return res, err
	}
	if err := pl.clean(); err != nil {
		return res, err
	}
	defer func() {
		switch e := pl.end(); {
		case e == nil:
		case err == nil:
			res.Notes = append(res.Notes, fmt.Sprintf("the working folder could not be removed: %v", e))
		default:
			err = errors.Join(err, e)
		}
	}()
	if err := pl.begin(); err != nil {
		return res, err
	}
	o.at("fetch")
	sum, err := p.fetch(ctx)
	if err != nil {
		return res, err
	}
	if err := p.forward(ctx); err != nil {
		return res, err
	}
	report, err := p.build(sum)
	if err != nil {
		return res, err
	}
	o.at("prove")
	hash, err := p.proveAndSync(ctx, report)
	if err != nil {
		return res, err
	}
	if err := ctx.Err(); err != nil {
		return res, err
	}
	o.at("place")
	if err := pl.finish(); err != nil {
		return res, err
	}
	o.at("record")
	res = p.result(report, hash)
	res.Seconds = time.Since(began).Seconds()
	p.record(ctx, &res)
	return res, nil
}

// lookAgain refuses what came into the places since the plan was made.
func (p *Plan) lookAgain() error {
	if err := refuseOccupied(p.DataDir); err != nil || p.WALDir == "" {
		return err
	}
	return refuseOccupiedWAL(p.WALDir)
}

// build settles a token that had to wait for the bytes, and finishes the directory.
func (p *Plan) build(sum repo.SHA256) (datadir.Report, error) {
	if p.Token == "" {
		d, err := p.options.decide(subject{sum: &sum}, p.history, time.Now())
		if err != nil {
			return datadir.Report{}, err
		}
		p.settle(d.token, d.cluster, 0)
	}
	report, err := datadir.Build(datadir.Config{
		Dir: p.placement.data.built, WALDir: p.placement.walBuilt(), Bootstrap: p.options.bootstrap(p.Token), Bump: p.Bump,
		ServerVersion: p.options.ServerVersion, AllowKnownMembers: p.options.AllowSameClusterID, Step: p.options.at,
	})
	switch {
	case errors.Is(err, datadir.ErrKnownMember):
		return report, fail.Refused(err, "give a --initial-cluster-token that was never used; --allow-same-cluster-id only if no old member can ever start again")
	case errors.Is(err, datadir.ErrNewer):
		return report, fail.Refused(err, "use a newer etcd-steward, or that etcd's own etcdutl")
	case errors.Is(err, datadir.ErrRevision):
		return report, fail.Refused(err, "give a smaller --bump-revision")
	case err != nil:
		return report, wanting(err, damagedHint)
	}
	p.settle(p.Token, report.Cluster, report.Revision)
	return report, nil
}

// proveAndSync compares the HashKV of the finished file with the backup's, and meanwhile makes everything durable with its owner and mode.
func (p *Plan) proveAndSync(ctx context.Context, r datadir.Report) (hash uint32, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		done := p.stage("prove")
		var err error
		hash, err = hashOf(ctx, datadir.DBPath(p.placement.data.built), r.Revision, r.CompactRevision)
		done(err)
		return err
	})
	g.Go(func() (err error) {
		done := p.stage("sync")
		defer func() { done(err) }()
		for i, place := range p.placement.places() {
			mode := os.FileMode(0o700)
			if i == 0 {
				mode = p.options.mode()
			}
			if err := giveTo(place.built, p.Owner, mode); err != nil {
				return fmt.Errorf("set the owner of %s: %w", place.built, err)
			}
			p.options.at("sync")
			if err := datadir.Sync(place.built); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, wanting(err, damagedHint)
	}
	return hash, p.compare(hash, r)
}

// compare holds the finished file against what is known of the restore point: the backup's HashKV, or, of a revision between two, the one that a member gave
// for it, if it did. That the file had the newest hash recorded below it was checked before it was finished.
func (p *Plan) compare(hash uint32, r datadir.Report) error {
	if p.manifest == nil {
		return nil
	}
	d := p.manifest.Database
	want, at, compact := d.HashKV, d.Revision, d.CompactRevision
	if p.rebuilt != nil {
		want, at, compact = hash, p.rebuilt.Revision, p.rebuilt.CompactRevision
		if k := p.rebuilt.Proof; k != nil && k.Revision == at && k.CompactRevision == compact {
			want = k.Hash
		}
	}
	if hash == want && r.Revision == at && r.CompactRevision == compact {
		return nil
	}
	return fail.New(fail.Wanting, fmt.Errorf("the restored database is not the one that was backed up: HashKV %08x at revision %d compacted at %d, the backup's is %08x at %d compacted at %d",
		hash, r.Revision, r.CompactRevision, want, at, compact), damagedHint)
}

// stage reports a stage that shows no progress of its own until it is done.
func (p *Plan) stage(name string) (done func(error)) {
	total := max(p.Source.Size, 1)
	p.options.progress(name, 0, total)
	return func(err error) {
		if err == nil {
			p.options.progress(name, total, total)
		}
	}
}

func hashOf(ctx context.Context, path string, at, compact revision.Revision) (hash uint32, err error) {
	db, err := dbfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.HashKV(ctx, at, compact)
}
