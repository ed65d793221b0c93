package backup

import (
	"context"
	"errors"
	"fmt"
	"os"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
)

// rollLimits bound what a roll takes. The zero value suits a machine.
type rollLimits struct {
	// legBytes is how much of the stored log is applied before hashes are compared; growth is by how much the file may grow before it is compacted.
	legBytes, growth int64
}

const (
	rollLegBytes = 64 << 20
	rollGrowth   = 512 << 20
)

func (r rollLimits) orDefault() rollLimits {
	if r.legBytes == 0 {
		r.legBytes = rollLegBytes
	}
	if r.growth == 0 {
		r.growth = rollGrowth
	}
	return r
}

// roll takes one snapshot forward along its segments, leg by leg, and compares hashes on the way.
type roll struct {
	check   *logCheck
	base    cover.Snapshot
	targets []target // within reach, oldest first

	done     int // targets that were dealt with
	skipped  int // of them, those of members that this file cannot answer for
	at       repo.Revision
	good     repo.Revision // the newest at which a hash was right
	failedAt repo.Revision // where one was not
	compact  repo.Revision
	path     string
	size     int64 // of the file when it was last compacted
}

func (r *roll) run(ctx context.Context) error {
	l, limits := r.check, r.check.limits.orDefault()
	last := r.targets[len(r.targets)-1].Revision
	plan, err := cover.Cover([]cover.Snapshot{{Entry: r.base.Entry, Compact: cover.Unknown}}, l.good(), l.timeline, last)
	if err != nil {
		return err
	}
	s, err := r.fetch(ctx, plan.Bytes()-r.base.Data.Size)
	if err != nil {
		return err
	}
	defer s.remove()
	stage, applied := "rebuild "+l.timeline.String(), int64(0)
	for segs := plan.Segments; len(segs) > 0 && r.failedAt == 0 && r.done < len(r.targets); {
		n, bytes := 1, segs[0].Size
		for n < len(segs) && bytes+segs[n].Size <= limits.legBytes {
			bytes += segs[n].Size
			n++
		}
		if err := r.leg(ctx, segs[:n], last); err != nil {
			return err
		}
		applied += bytes
		l.o.Progress.report(stage, applied, plan.Bytes()-r.base.Data.Size)
		segs = segs[n:]
		if err := r.shrink(ctx, limits.growth); err != nil {
			return err
		}
	}
	return nil
}

// fetch decrypts the snapshot into a working folder.
func (r *roll) fetch(ctx context.Context, log int64) (*scratch, error) {
	m := r.check.manifests[r.base.ID]
	content := m.Database.Size + trailerSize
	grown := content + min(8*log, r.check.limits.orDefault().growth)
	s, err := newScratch(r.check.o.Scratch, 2*grown)
	if err != nil {
		return nil, err
	}
	o := r.check.o
	if err := decode(ctx, o.Repo, m, s, o.Identities, o.Progress.stage("fetch "+string(m.ID), m.Object.Size), true); err != nil {
		s.remove()
		return nil, err
	}
	r.path, r.size, r.compact = s.path(), content, m.Database.CompactRevision
	return s, nil
}

// leg applies some segments and compares the hashes that are known up to where they lead.
func (r *roll) leg(ctx context.Context, segs []repo.Segment, last repo.Revision) error {
	l := r.check
	to := min(segs[len(segs)-1].Last, last)
	_, err := rebuild.To(ctx, rebuild.Options{
		Path: r.path, Target: to, Timeline: l.timeline, Segments: rebuild.FromRepo(l.o.Repo, segs, l.o.Identities), NoProof: true,
	})
	if err != nil {
		return err
	}
	r.at = to
	for r.done < len(r.targets) && r.targets[r.done].Revision <= to && r.failedAt == 0 {
		if err := r.compare(ctx, r.targets[r.done]); err != nil {
			return err
		}
		r.done++
	}
	return nil
}

// compare holds the file against one hash.
func (r *roll) compare(ctx context.Context, t target) error {
	l := r.check
	if t.CompactRevision < r.compact {
		if !t.own {
			r.skipped++ // of a member that had more history than this file
		}
		return nil
	}
	f, err := dbfile.Open(r.path)
	if err != nil {
		return err
	}
	got, err := f.HashKV(ctx, t.Revision, t.CompactRevision)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got != t.Hash {
		r.failedAt = t.Revision
		l.find(ChangesFinding{First: r.good + 1, Last: t.Revision, Problem: fmt.Sprintf(
			"rebuilt from backup %s, revision %d compacted at %d has HashKV %08x, %s %08x: what was recorded after revision %d is not what happened",
			r.base.ID, t.Revision, t.CompactRevision, got, t.from, t.Hash, r.good), level: repo.LevelRebuilt})
		return nil
	}
	l.verdict.Proofs++
	l.proven(r.base.Revision+1, t.Revision, repo.LevelRebuilt)
	l.proven(max(r.base.Revision, t.CompactRevision)+1, t.Revision, repo.LevelProven)
	r.good = t.Revision
	return nil
}

// shrink compacts the file once it has grown, as far as the hashes that are still to be compared allow.
func (r *roll) shrink(ctx context.Context, growth int64) error {
	st, err := os.Stat(r.path)
	if err != nil {
		return fmt.Errorf("look at the scratch file: %w", err)
	}
	at := r.at
	for _, t := range r.targets[r.done:] {
		at = min(at, t.CompactRevision)
	}
	if st.Size() <= r.size+growth || at <= r.compact {
		return nil
	}
	next := r.path + ".compacted"
	f, err := dbfile.Open(r.path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.CopyCompacted(ctx, next, at), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, r.path); err != nil {
		return fmt.Errorf("replace the scratch file: %w", err)
	}
	if st, err = os.Stat(r.path); err != nil {
		return fmt.Errorf("look at the scratch file: %w", err)
	}
	r.size, r.compact = st.Size(), at
	return nil
}
