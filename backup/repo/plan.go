package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/store"
)

// Plan says what a prune removes and what it keeps, and why. It is stored before anything is removed, and executed from what is
// stored.
type Plan struct {
	ID      string    `json:"id"` // a ULID
	Cluster string    `json:"cluster"`
	Created time.Time `json:"created"`
	Host    string    `json:"host"`
	Policy  string    `json:"policy"` // in words
	Remove  []Removal `json:"remove"`
	Keep    []Kept    `json:"keep"`
	// Segments of the change log that are removed, oldest first, after the backups.
	Segments []SegmentRemoval `json:"segments,omitempty"`
	// RemoveLater and KeepMore are how many a plan of bounded size left out: to be removed by a next one, to be kept.
	RemoveLater int `json:"remove_later,omitempty"`
	KeepMore    int `json:"keep_more,omitempty"`
	// SegmentsLater is how many segments a next plan removes.
	SegmentsLater int `json:"segments_later,omitempty"`
}

// SegmentRemoval is segments of one timeline that are removed for one reason.
type SegmentRemoval struct {
	Timeline Timeline `json:"timeline"`
	Why      string   `json:"why"`
	Bytes    int64    `json:"bytes"`
	Keys     []string `json:"keys"` // in the order in which they are removed
}

// Removal is one backup, or the data of one abandoned upload, that a plan removes.
type Removal struct {
	ID       SnapshotID `json:"id"`
	Timeline Timeline   `json:"timeline"`
	Revision Revision   `json:"revision"`
	// Keys of the objects in the order in which they are removed: the manifest, so that it is no backup any more, then the data. An abandoned
	// upload has no manifest.
	Keys  []string `json:"keys"`
	Bytes int64    `json:"bytes"`
	Why   string   `json:"why"`
}

// Kept is one backup that stays.
type Kept struct {
	ID       SnapshotID `json:"id"`
	Timeline Timeline   `json:"timeline"`
	Revision Revision   `json:"revision"`
	Why      []string   `json:"why"`
}

// planMax bounds how many removals, and how many kept ones, one plan lists, and planSegmentsMax how many segments, so that it stays below maxDocument.
const (
	planMax         = 2000
	planSegmentsMax = 10000
)

// RemovalOf makes the removal of what one entry shows.
func RemovalOf(e Entry, why string) Removal {
	r := Removal{ID: e.ID, Timeline: e.Timeline, Revision: e.Revision, Bytes: e.Manifest.Size + e.Data.Size, Why: why}
	for _, key := range []string{e.Manifest.Key, e.Data.Key} {
		if key != "" {
			r.Keys = append(r.Keys, key)
		}
	}
	return r
}

// NewPlan makes a plan; remove and keep are oldest first. What exceeds the size of one plan is counted: the youngest removals wait for a next
// plan, the oldest kept ones are not named.
func (r *Repo) NewPlan(now time.Time, host, policy string, remove []Removal, keep []Kept) *Plan {
	p := &Plan{ID: string(NewSnapshotID(now)), Cluster: r.cluster, Created: now.UTC().Truncate(time.Millisecond), Host: host, Policy: policy}
	p.RemoveLater = max(0, len(remove)-planMax)
	p.Remove = slices.Clone(remove[:len(remove)-p.RemoveLater])
	p.KeepMore = max(0, len(keep)-planMax)
	p.Keep = slices.Clone(keep[p.KeepMore:])
	return p
}

// Validate checks a plan against itself: it names objects of snapshots only, and never one that it keeps.
func (p *Plan) Validate() error {
	if _, err := ParseSnapshotID(p.ID); err != nil {
		return fmt.Errorf("prune plan: %w", err)
	}
	kept := map[SnapshotID]bool{}
	for _, k := range p.Keep {
		kept[k.ID] = true
	}
	if len(p.Remove) > planMax || len(p.Keep) > planMax {
		return fmt.Errorf("prune plan %s: %d to remove, %d to keep, more than a plan may name", p.ID, len(p.Remove), len(p.Keep))
	}
	if err := p.validateSegments(); err != nil {
		return err
	}
	for _, rm := range p.Remove {
		manifest := ManifestKey(rm.Timeline, rm.Revision, rm.ID)
		data := []string{DataKey(rm.Timeline, rm.Revision, rm.ID, false), DataKey(rm.Timeline, rm.Revision, rm.ID, true)}
		if _, err := ParseSnapshotID(string(rm.ID)); err != nil || rm.Timeline.Cut == 0 || kept[rm.ID] || len(rm.Keys) == 0 || len(rm.Keys) > 2 {
			return fmt.Errorf("prune plan %s: it cannot remove backup %s with objects %q", p.ID, rm.ID, rm.Keys)
		}
		for i, key := range rm.Keys {
			isManifest, isData := i == 0 && key == manifest, i == len(rm.Keys)-1 && slices.Contains(data, key)
			if !isManifest && !isData {
				return fmt.Errorf("prune plan %s: object %q does not belong to backup %s, or out of order", p.ID, key, rm.ID)
			}
		}
	}
	return nil
}

// hasManifest says that a backup is removed, not an abandoned upload.
func (rm Removal) hasManifest() bool { return strings.HasSuffix(rm.Keys[0], ".json") }

// PutPlan stores a plan. Only then Execute acts on it.
func (r *Repo) PutPlan(ctx context.Context, p *Plan) error {
	doc, err := r.encodePlan(p)
	if err == nil {
		_, err = r.write(ctx, planKey(p.ID), doc, store.PutOptions{IfAbsent: true})
	}
	if err != nil {
		return fmt.Errorf("store prune plan %s: %w", p.ID, err)
	}
	return nil
}

func (r *Repo) encodePlan(p *Plan) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Cluster != r.cluster {
		return nil, fmt.Errorf("it is of cluster %q, this is the repository of %q", p.Cluster, r.cluster)
	}
	return Seal("prune", planFormat, p)
}

// Plan reads a stored plan.
func (r *Repo) Plan(ctx context.Context, id string) (*Plan, error) {
	var p Plan
	doc, err := r.read(ctx, planKey(id))
	if err == nil {
		err = Unseal("prune", planFormat, doc, &p)
	}
	if err == nil {
		err = p.Validate()
	}
	if err == nil && (p.ID != id || p.Cluster != r.cluster) {
		err = fmt.Errorf("%w: it is plan %s of cluster %q", ErrDamaged, p.ID, p.Cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("read prune plan %s: %w", id, err)
	}
	return &p, nil
}

// UnfinishedPlans are the stored plans that have no mark of their end, oldest first: a prune that was interrupted, or one that goes on right
// now. They are for Execute with BegunOnly, once this process holds the prune lease.
func (r *Repo) UnfinishedPlans(ctx context.Context) ([]*Plan, error) {
	done := map[string]bool{}
	for info, err := range r.store.List(ctx, prunedPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list finished prune plans: %w", err)
		}
		done[strings.TrimSuffix(strings.TrimPrefix(info.Key, prunedPrefix), ".json")] = true
	}
	var open []*Plan
	for info, err := range r.store.List(ctx, plansPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list prune plans: %w", err)
		}
		id, err := parsePlanKey(info.Key)
		if err != nil || done[id] {
			continue
		}
		p, err := r.Plan(ctx, id)
		if errors.Is(err, ErrDamaged) {
			continue // cannot be followed; what it had begun shows as abandoned uploads a day later
		}
		if err != nil {
			return nil, err
		}
		open = append(open, p)
	}
	slices.SortFunc(open, func(a, b *Plan) int { return cmp.Compare(a.ID, b.ID) })
	return open, nil
}

// storedAs says whether exactly this plan is in the store.
func (r *Repo) storedAs(ctx context.Context, p *Plan) error {
	doc, err := r.encodePlan(p)
	if err != nil {
		return err
	}
	there, err := r.read(ctx, planKey(p.ID))
	if errors.Is(err, store.NotFound) || err == nil && !bytes.Equal(there, doc) {
		return fmt.Errorf("%s is not this plan", planKey(p.ID))
	}
	return err
}

func planKey(id string) string   { return plansPrefix + "prune-" + id + ".json" }
func prunedKey(id string) string { return prunedPrefix + id + ".json" }

func parsePlanKey(key string) (string, error) {
	id := strings.TrimSuffix(strings.TrimPrefix(key, plansPrefix+"prune-"), ".json")
	if _, err := ParseSnapshotID(id); err != nil || planKey(id) != key {
		return "", fmt.Errorf("object %q: not a prune plan", key)
	}
	return id, nil
}
